"""The shortest question to the kernel: whether a packet gets there and back."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.guest import GuestSender
from kvmdiag.probes.inject import source_stack
from kvmdiag.probes.packet import new_probe
from kvmdiag.probes.sender import Sender
from kvmdiag.probes.sources import inside

if TYPE_CHECKING:
    from kvmdiag.probes.guest_programs import Enter, Inside

ATTEMPTS = 3
_GUEST_SECONDS = 4.0
"""For one probe inside a guest, which waits two for the reply; its agent may be slow."""


def reaches(
    snapshot: Snapshot, question: Question, *, timeout: float = 1.5, enter: Enter | None = None
) -> bool:
    """Whether the source's own socket gets a reply to one of at most three real probes.

    From inside a guest a program of its own sends, where ``enter`` gives its agent; that takes
    its own time, whatever ``timeout`` says.

    Each probe is a flow of its own, so that no old NAT decision stands for it. A refusal (TCP
    reset, ICMP error) is no reply; a UDP service that stays silent cannot be told from loss.

    Raises:
        NotReadableError: the source cannot be entered, or sending is not allowed there.
        UsageError: the source has no such link or address.

    """
    guest = _inside_of(snapshot, question, enter)
    if guest is not None:
        return any(_answered_inside(guest, question) for _ in range(ATTEMPTS))
    source = source_stack(snapshot, question)
    end = time.monotonic() + timeout
    for left in range(ATTEMPTS, 0, -1):
        share = (end - time.monotonic()) / left
        with inside(source, question, new_probe(question)) as sender:
            sender.prepare()
            if _answered(sender, share):
                return True
    return False


def _inside_of(snapshot: Snapshot, question: Question, enter: Enter | None) -> Inside | None:
    """The way into the source by its agent, when it is a guest."""
    name = question.source.stack
    stack = next((stack for stack in snapshot.stacks if stack.name == name), None)
    if enter is None or stack is None or stack.netns is not None:
        return None
    return enter(stack.name)


def _answered_inside(guest: Inside, question: Question) -> bool:
    with GuestSender(guest, question, new_probe(question)) as sender:
        return _answered(sender, _GUEST_SECONDS)


def _answered(sender: Sender, seconds: float) -> bool:
    """Wait that long even after a refusal: the network may still be settling."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        polled = sender.polled()
        if polled is not None:
            selector.register(*polled)
        answer = sender.send()
        while answer is None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            if selector.select(left):
                answer = sender.receive()
    if answer.kind == "reply":
        return True
    time.sleep(max(0.0, end - time.monotonic()))
    return False
