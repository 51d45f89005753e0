"""The shortest question to the kernel: whether a packet gets there and back."""

from __future__ import annotations

import selectors
import time

from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.connect import Connector
from kvmdiag.probes.inject import SocketSender, source_stack
from kvmdiag.probes.packet import new_probe
from kvmdiag.probes.sources import inside

ATTEMPTS = 3


def reaches(snapshot: Snapshot, question: Question, *, timeout: float = 1.5) -> bool:
    """Whether the source's own socket gets a reply to one of at most three real probes.

    Each probe is a flow of its own, so that no old NAT decision stands for it. A refusal (TCP
    reset, ICMP error) is no reply; a UDP service that stays silent cannot be told from loss.

    Raises:
        NotReadableError: the source cannot be entered, or sending is not allowed there.
        UsageError: the source has no such link or address.

    """
    source = source_stack(snapshot, question)
    end = time.monotonic() + timeout
    for left in range(ATTEMPTS, 0, -1):
        share = (end - time.monotonic()) / left
        with inside(source, question, new_probe(question)) as sender:
            sender.prepare()
            if _answered(sender, share):
                return True
    return False


def _answered(sender: SocketSender | Connector, seconds: float) -> bool:
    """Wait that long even after a refusal: the network may still be settling."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(*sender.polled())
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
