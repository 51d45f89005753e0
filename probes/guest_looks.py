"""Looks inside all guests of the predicted way that have an agent and a tcpdump."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.behind_tap import taps_of
from kvmdiag.probes.guest_capture import GuestCapture
from kvmdiag.probes.guest_programs import Enter
from kvmdiag.probes.observation import Sighting
from kvmdiag.probes.packet import Probe

MOST_GUESTS = 8


class Looks:
    """The guests that are looked into."""

    def __init__(
        self, snapshot: Snapshot, stacks: Sequence[Stack], off_the_way: frozenset[str]
    ) -> None:
        self.off_the_way = off_the_way
        """The guests that the predicted way does not pass; nothing is started inside them."""
        self._snapshot = snapshot
        self._stacks = {stack.name: stack for stack in stacks}
        self._open: list[GuestCapture] = []
        self._blind: dict[str, str] = {}

    def begin(self, probes: Sequence[Probe], enter: Enter, seconds: float) -> None:
        """Start them all at once: the agent of a guest takes its time."""

        def look(stack: Stack) -> GuestCapture | str:
            inside = enter(stack.name)
            if inside is None:
                return "its agent does not answer"
            try:
                return GuestCapture(stack, inside, probes, seconds)
            except NotReadableError as error:
                return str(error)

        with ThreadPoolExecutor(MOST_GUESTS) as pool:
            for name, found in zip(
                self._stacks, pool.map(look, self._stacks.values()), strict=True
            ):
                if isinstance(found, str):
                    self._blind[name] = found
                else:
                    self._open.append(found)

    def finish(self) -> None:
        """End them, and take in what they saw."""
        with ThreadPoolExecutor(MOST_GUESTS) as pool:
            for capture in self._open:
                pool.submit(capture.finish)
        for capture in self._open:
            if capture.trouble is not None:
                self._blind[capture.stack] = capture.trouble

    def why_blind(self, stack: str) -> str | None:
        """Why what was not seen there may have passed all the same; ``None`` for other stacks."""
        if stack in self.off_the_way:
            return "off the predicted way, so nothing was started inside to watch"
        seen_nothing = "tcpdump inside saw nothing of it" if stack in self._stacks else None
        return self._blind.get(stack, seen_nothing)

    @property
    def watched(self) -> frozenset[str]:
        """The guests of which it is sure what passed there, and what did not."""
        return frozenset(capture.stack for capture in self._open if capture.trouble is None)

    def sightings(self, probe: Probe, outside: Sequence[Sighting]) -> list[Sighting]:
        """All of one probe; ``outside`` is what was seen of it on the host."""
        found = []
        for capture in self._open:
            taps = self._taps(self._stacks[capture.stack])
            found += capture.sightings(probe, taps, outside)
        return found

    def _taps(self, stack: Stack) -> dict[tuple[str, str], str]:
        """Of each place of a tap of this guest, the NIC behind it."""
        found = {}
        for link in stack.links or ():
            for holder, tap in taps_of(self._snapshot, stack.name, link.name):
                if tap.peer is not None and tap.peer.link == link.name:
                    found[holder.name, tap.name] = link.name
        return found


@contextmanager
def looking_inside(
    snapshot: Snapshot, walk: Walk, probes: Sequence[Probe], enter: Enter | None, seconds: float
) -> Iterator[Looks]:
    """Begin to look, and end it in any case, if we are killed a little after so many seconds."""
    names = dict.fromkeys(hop.stack for hop in walk.hops)
    known = {stack.name: stack for stack in snapshot.stacks if stack.netns is None}
    guests = [known[name] for name in names if name in known][:MOST_GUESTS]
    looks = Looks(snapshot, guests if enter is not None else (), frozenset(known) - set(names))
    if enter is not None:
        looks.begin(probes, enter, seconds)
    try:
        yield looks
    finally:
        looks.finish()
