"""A probe from inside a guest: a program of its own, started through its agent."""

from __future__ import annotations

import os
import selectors
import threading
import time
from typing import Self

from kvmdiag.errors import KvmdiagError
from kvmdiag.model.question import Question
from kvmdiag.probes.capture import Frame
from kvmdiag.probes.guest_orders import order
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.packet import Probe
from kvmdiag.probes.sender import Polled


class GuestSender:
    """One probe from inside the guest; see ``Sender``.

    Raises:
        NotReadableError: the guest has no program for it, or the agent does not start it.

    """

    bypassed: str | None = None
    delay = 3.0

    def __init__(self, inside: Inside, question: Question, probe: Probe) -> None:
        self._inside = inside
        self._order = order(inside, question, probe)
        self.probe = self._order.probe
        self.sent_ns = 0
        self.remarks: tuple[str, ...] = (
            f"sent by {self._order.name} inside {question.source.text}, through its agent; "
            "times count from asking the agent",
        )
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._answer: Answer | None = None
        self.over = False
        self._lock = threading.Lock()
        self._left_behind = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # what still waits is left to itself, for two seconds at most
            self._left_behind = self._thread.is_alive()
            if not self._left_behind:
                os.close(self._done)

    def polled(self) -> Polled:
        """Readable once the program has ended."""
        return Polled(self._done, selectors.EVENT_READ)

    def prepare(self) -> None:
        """Nothing to do: the program builds the packet."""

    def send(self) -> None:
        """Start the program."""
        self.sent_ns = time.time_ns()
        self._thread.start()

    def _run(self) -> None:
        try:
            ended = self._inside.run(self._order.path, *self._order.arguments)
        except KvmdiagError as error:
            text = f"the agent did not run {self._order.name}: {error}"
            self._answer = Answer(kind="error", text=text, time_ns=time.time_ns(), local=True)
        else:
            self._answer = self._order.meaning(ended.code)
        with self._lock:
            if self._left_behind:
                os.close(self._done)
            else:
                os.eventfd_write(self._done, 1)

    def receive(self) -> Answer | None:
        """What the program's end means."""
        try:
            os.eventfd_read(self._done)
        except BlockingIOError:
            return None
        self.over = True
        return self._answer

    def recognise(self, stack: str, frame: Frame) -> None:
        """The program says it all."""
        del stack, frame
