"""A probe from inside a guest: its own ping, started through its agent.

What ping lets us choose of the payload is the mark: sixteen bytes with the ping of iputils,
which writes no time into so short a payload; with busybox one byte again and again, behind the
four that it keeps for the time.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import msgspec

from kvmdiag.errors import KvmdiagError, NotReadableError
from kvmdiag.model.question import Question
from kvmdiag.probes.capture import Frame
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.packet import Probe
from kvmdiag.probes.sender import Polled

_PATHS = ("/bin/ping", "/usr/bin/ping")
_SHORT = 15
"""The longest payload into which iputils writes no time (RFC 792 leaves it free)."""

_BUSYBOX_SIZE, _BUSYBOX_TIME = 56, 4
_WAIT = 2
_ANSWERED = 0


class Ended(Protocol):
    """How a program inside a guest ended."""

    @property
    def code(self) -> int:
        """Its exit code."""


class GuestPrograms(Protocol):
    """The agent of a guest; each method may raise a KvmdiagError."""

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """Start a program by its full path; its number."""

    def result(self, pid: int) -> Ended:
        """Wait for its end."""


Enter = Callable[[str], GuestPrograms | None]
"""Gives the agent of the guest whose stack has this name; ``None`` when it cannot be asked."""


class GuestSender:
    """One ping from inside the guest; see ``Sender``.

    Raises:
        NotReadableError: there is no ping, or the agent does not start it.

    """

    bypassed: str | None = None

    def __init__(self, programs: GuestPrograms, question: Question, probe: Probe) -> None:
        self._programs = programs
        self._path, full = _ping(programs)
        self.probe = _with_mark(probe, full=full)
        self.sent_ns = 0
        self.remarks: tuple[str, ...] = (
            f"sent by ping inside {question.source.text}, through its agent; "
            "times count from asking the agent",
        )
        self._arguments = _arguments(question, self.probe, full=full)
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._answer: Answer | None = None
        self._lock = threading.Lock()
        self._left_behind = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # a ping that still waits is left to itself, for two seconds at most
            self._left_behind = self._thread.is_alive()
            if not self._left_behind:
                os.close(self._done)

    def polled(self) -> Polled:
        """Readable once ping has ended."""
        return Polled(self._done, selectors.EVENT_READ)

    def prepare(self) -> None:
        """Nothing to do: ping builds the packet."""

    def send(self) -> None:
        """Start ping."""
        self.sent_ns = time.time_ns()
        self._thread.start()

    def _run(self) -> None:
        try:
            ended = self._programs.result(self._programs.start(self._path, self._arguments))
        except KvmdiagError as error:
            text = f"the agent did not run ping: {error}"
            self._answer = Answer(kind="error", text=text, time_ns=time.time_ns(), local=True)
        else:
            if ended.code == _ANSWERED:
                text = "ping inside the guest got the reply"
                self._answer = Answer(kind="reply", text=text, time_ns=time.time_ns())
        with self._lock:
            if self._left_behind:
                os.close(self._done)
            else:
                os.eventfd_write(self._done, 1)

    def receive(self) -> Answer | None:
        """What ping's end means."""
        try:
            os.eventfd_read(self._done)
        except BlockingIOError:
            return None
        return self._answer

    def recognise(self, stack: str, frame: Frame) -> None:
        """Ping says it all."""
        del stack, frame


def _ping(programs: GuestPrograms) -> tuple[str, bool]:
    """Where ping is, and whether it is that of iputils, which alone tells its version."""
    for path in _PATHS:
        try:
            return path, programs.result(programs.start(path, ["-V"])).code == 0
        except KvmdiagError:
            continue
    raise NotReadableError("the agent does not start ping in the guest")


def _with_mark(probe: Probe, *, full: bool) -> Probe:
    if full:
        return probe
    byte = probe.mark[:1] if probe.mark[0] else b"\xa5"  # zeros are everywhere
    return msgspec.structs.replace(probe, mark=byte * len(probe.mark), mark_at=_BUSYBOX_TIME)


def _arguments(question: Question, probe: Probe, *, full: bool) -> list[str]:
    found = ["-c", "1", "-W", str(_WAIT)]
    if full:
        found += ["-n", "-s", str(_SHORT), "-p", (probe.mark * 2).hex()]
    else:
        found += ["-s", str(_BUSYBOX_SIZE), "-p", probe.mark[:1].hex()]
    bound = question.source.link or question.source.address
    if bound is not None:
        found += ["-I", bound]
    return [*found, question.destination.address or ""]
