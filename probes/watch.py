"""Waiting for answers while the captures fill."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterable, Sequence

from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.capture import Capture, Frame
from kvmdiag.probes.evidence.gather import Gathering
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.sender import Sender

QUIET = 0.4
"""How long nothing may happen within what we see before we call the packet lost (seconds)."""

EXPECTED_SILENCE = 1.0
"""How long to wait for what went out of sight, when no answer is expected anyway."""

AFTERMATH = 0.1
"""The same once the kernel has dropped it: only a copy of it can still go on."""


def longest(timeout: float, senders: Iterable[Sender]) -> float:
    """How many seconds ``Watch.until_settled`` may take with this ``timeout``."""
    return 2 * timeout + _slowest(senders)


def _slowest(senders: Iterable[Sender]) -> float:
    return max((sender.delay for sender in senders), default=0.0)


class Watch:
    """Sends, and waits until every sender has its answer or none is to be expected any more.

    ``answers`` holds what each sender got; ``ended_ns`` when (CLOCK_REALTIME).
    """

    def __init__(
        self,
        snapshot: Snapshot,
        senders: Sequence[Sender],
        captures: Sequence[Capture],
        kernel: Gathering | None = None,
    ) -> None:
        self._kernel = kernel
        self._senders = senders
        self._captures = captures
        self._way_out = _ways_out(snapshot, {capture.stack for capture in captures})
        self._pending: set[int] = set()
        self._selector = selectors.DefaultSelector()
        for capture in captures:
            self._selector.register(capture, selectors.EVENT_READ, capture)
        if kernel is not None and kernel.polled is not None:
            self._selector.register(kernel.polled, selectors.EVENT_READ, kernel)
        self._newest = 0
        self._hidden = False
        self._dropped = False
        self.answers: dict[int, Answer] = {}
        self.ended_ns: dict[int, int] = {}

    def close(self) -> None:
        """Stop polling; the senders and captures stay open."""
        self._selector.close()

    def send(self) -> None:
        """Send all probes, one right after the other."""
        for number, sender in enumerate(self._senders):
            self._pending.add(number)
            answer = sender.send()
            if answer is not None:
                self._settle(number, answer)
                continue
            polled = sender.polled()
            if polled is not None:
                self._selector.register(polled.descriptor, polled.events, number)

    def until_settled(
        self, timeout: float, *, quiet: float | None = None, hidden: float | None = None
    ) -> None:
        """Wait; at most ``timeout`` seconds, and ``quiet`` ones when nothing happens.

        ``hidden`` is for what has gone out of sight (``timeout`` unless given).
        """
        quiet = QUIET if quiet is None else quiet
        hidden = timeout if hidden is None else hidden
        slow = _slowest(self._senders)
        under_way = False
        event = time.monotonic()
        deadline = event + timeout + slow
        give_up = min(deadline, event + quiet + slow)
        while self._pending and time.monotonic() < give_up:
            for key, _ in self._selector.select(give_up - time.monotonic()):
                if self._take(key.data):
                    event = time.monotonic()
            if self._newest and not under_way:
                under_way, deadline = True, event + timeout
            lost = self._dropped and not self._hidden
            patience = hidden if self._hidden else AFTERMATH if lost else quiet
            give_up = min(deadline, event + patience + (0.0 if under_way else slow))
        for number in self._pending:
            self.ended_ns[number] = time.time_ns()
        self._drain()

    def _take(self, ready: object) -> bool:
        """Take in what there is; whether it is news of the probe's way."""
        if isinstance(ready, Capture):
            fresh = ready.drain()
            self._recognise(ready.stack, fresh)
            if fresh and fresh[-1].time_ns > self._newest:
                self._newest = fresh[-1].time_ns
                self._hidden = self._out_of_sight(ready.stack, fresh[-1])
            return bool(fresh)
        if isinstance(ready, int):
            self._receive(ready)
        elif self._kernel is not None:
            self._dropped = self._kernel.dropped() >= self._pending
        return False

    def _settle(self, number: int, answer: Answer | None) -> None:
        """Note that a sender has its answer, or that it will never have one."""
        if answer is not None:
            self.answers[number] = answer
        self.ended_ns[number] = time.time_ns()
        self._pending.discard(number)

    def _receive(self, number: int) -> None:
        sender = self._senders[number]
        answer = sender.receive()
        if answer is None and not sender.over:
            return
        self._settle(number, answer)
        polled = sender.polled()
        if polled is not None:
            self._selector.unregister(polled.descriptor)

    def _recognise(self, stack: str, frames: Iterable[Frame]) -> None:
        waiting = [number for number in self._pending if self._senders[number].polled() is None]
        for frame in frames if waiting else ():
            for number in waiting:
                answer = self._senders[number].recognise(stack, frame)
                if answer is not None and number in self._pending:
                    self._settle(number, answer)

    def _drain(self) -> None:
        """Take in what is left: a link shows a packet before the socket behind it gets it."""
        for capture in self._captures:
            capture.drain()

    def _out_of_sight(self, stack: str, frame: Frame) -> bool:
        return frame.outgoing and (stack, frame.link) in self._way_out


def _ways_out(snapshot: Snapshot, watched: set[str]) -> set[tuple[str, str]]:
    """Links beyond which a packet goes on unseen: uplinks, and taps of guests not watched."""
    found = set()
    for stack in snapshot.stacks:
        for link in stack.links or ():
            hidden = link.guest if link.peer is None else link.peer.stack
            if link.is_uplink or (hidden is not None and hidden not in watched):
                found.add((stack.name, link.name))
    return found
