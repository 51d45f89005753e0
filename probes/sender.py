"""What sends a probe: from inside its source, or on behalf of a source nobody can enter."""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self

from kvmdiag.probes.capture import Frame
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.packet import Probe


class Polled(NamedTuple):
    """A file descriptor, and for what to poll it (``selectors.EVENT_*``)."""

    descriptor: int
    events: int


class Sender(Protocol):
    """One probe's way onto the network; a context manager.

    ``probe`` is the probe as it will be sent, ``sent_ns`` the time of sending (nanoseconds of
    CLOCK_REALTIME, 0 before). ``remarks`` are sentences on how it is sent, where that is not
    simply from inside the source, and what had to be assumed. ``bypassed`` is the stack that
    the probe does not pass, though the source's own packets would. ``delay`` is how many
    seconds it may take until it is on its way. ``over`` is true once no answer can come any
    more.
    """

    probe: Probe
    sent_ns: int
    remarks: tuple[str, ...]
    bypassed: str | None
    delay: float
    over: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def polled(self) -> Polled | None:
        """What becomes ready when ``receive`` may have an answer; ``None``: nothing does."""

    def prepare(self) -> None:
        """Do the slow part of sending ahead of the time that is measured."""

    def send(self) -> Answer | None:
        """Send the probe; an answer comes at once when it could not even be sent."""

    def receive(self) -> Answer | None:
        """The answer, if it is there; anything else that came is thrown away."""

    def recognise(self, stack: str, frame: Frame) -> Answer | None:
        """The answer, if this captured frame is it: for senders that cannot receive."""
