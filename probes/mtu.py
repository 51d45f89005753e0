"""The largest packet that gets through whole, and the hop that limits it.

Several sizes are sent at once, each with a mark of its own and DF set; then several between the
largest that passed and the smallest that did not, until nothing is left between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.measure import PathMtu
from kvmdiag.model.packet import Direction
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Hop, Reason, Stage, Walk
from kvmdiag.probes.guest_programs import Enter
from kvmdiag.probes.marks import marked
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.packet import Probe, new_probe
from kvmdiag.probes.trace import observe_all
from kvmdiag.simulate.walk import walk

SMALLEST = {4: 68, 6: 1280}
"""What every link must carry (RFC 791, RFC 8200)."""

_USUAL = (1500, 1492, 1480, 1472, 1460, 1450, 1446, 1430, 1420, 1400, 1380, 1280, 576)
MOST_AT_ONCE = len(_USUAL) + 2
"""How many sizes are sent at the same time, in the first round; later fewer."""

_AT_ONCE = 8
_MOST_ROUNDS = 12
_LARGEST = 65535
_CONFIRMATIONS = 3

Send = Callable[[Sequence[Probe]], Sequence[Observation]]


def path_mtu(
    snapshot: Snapshot,
    way: Walk,
    *,
    timeout: float = 1.0,
    on_tap: bool = False,
    enter: Enter | None = None,
) -> PathMtu:
    """Search the largest size for the walk's question; see ``observe`` for how it is sent.

    Raises:
        NotReadableError: the probes cannot be sent, or capturing is not allowed.
        UsageError: the source has no such link or address.

    """
    version = 6 if ":" in (way.question.destination.address or "") else 4
    ceiling = _ceiling(snapshot, way, SMALLEST[version])
    send = partial(
        observe_all, snapshot, way, timeout=timeout, on_tap=on_tap, enter=enter, look=False
    )
    search = _Search(way.question, SMALLEST[version], ceiling, send)
    search.run()
    expected, place = _prediction(snapshot, way.question, SMALLEST[version], ceiling)
    found = search.lost_observation
    return PathMtu(
        question=way.question,
        ceiling=ceiling,
        largest=search.passed,
        lost=search.lost,
        limit=None if found is None else _limit(way, found)[0],
        travel="request" if found is None else _limit(way, found)[1],
        told=None if found is None or found.answer is None else found.answer.text,
        expected=expected,
        expected_limit=place,
        sent=search.sent,
        remarks=search.remarks,
    )


class _Search:
    """Closes in on the limit from both sides."""

    def __init__(self, question: Question, smallest: int, ceiling: int, send: Send) -> None:
        self._question, self._send = question, send
        self._smallest, self._ceiling = smallest, ceiling
        self.passed: int | None = None
        self.lost: int | None = None
        self.lost_observation: Observation | None = None
        self.sent = 0
        self.remarks: tuple[str, ...] = ()

    def run(self) -> None:
        """Search until size follows on size."""
        usual = [size for size in _USUAL if self._smallest < size < self._ceiling]
        self._round([self._smallest, *usual, self._ceiling])
        for _ in range(_MOST_ROUNDS):
            if self.passed is None or self.lost is None:
                return
            if self.lost - self.passed > 1:
                self._round(_between(self.passed, self.lost, self._told()))
            elif self._confirmed():
                return

    def _told(self) -> int | None:
        """A size that a router says would pass; it may say anything."""
        answer = None if self.lost_observation is None else self.lost_observation.answer
        return None if answer is None else answer.mtu

    def _confirmed(self) -> bool:
        """Whether the smallest lost size is lost again: a packet may get lost by chance."""
        assert self.lost is not None  # noqa: S101 - asked for only then
        return not self._round([self.lost] * _CONFIRMATIONS)

    def _round(self, sizes: list[int]) -> bool:
        """Send these sizes at once; whether any that counted as lost got through."""
        probes = [new_probe(self._question, size=size) for size in sizes]
        seen = self._send(probes)
        self.sent += len(sizes)
        self.remarks = seen[0].remarks
        before = self.lost
        passed = {size for size, one in zip(sizes, seen, strict=True) if one.reached}
        self.passed = max(
            passed | ({self.passed} if self.passed is not None else set()), default=None
        )
        if self.lost is not None and self.passed is not None and self.lost <= self.passed:
            self.lost, self.lost_observation = None, None
        for size, one in zip(sizes, seen, strict=True):
            larger = self.passed is None or size > self.passed
            if not one.reached and larger and (self.lost is None or size <= self.lost):
                self.lost, self.lost_observation = size, one
        return before is not None and self.lost != before


def _between(passed: int, lost: int, told: int | None) -> list[int]:
    """Sizes strictly between, evenly; first of all what a router named, and the next."""
    inside = range(passed + 1, lost)
    if len(inside) <= _AT_ONCE:
        return list(inside)
    step = len(inside) / (_AT_ONCE - 1)
    sizes = {inside[min(int(step * number), len(inside) - 1)] for number in range(1, _AT_ONCE - 1)}
    if told is not None:
        sizes |= {size for size in (told, told + 1) if size in inside}
    return sorted(sizes)


def _ceiling(snapshot: Snapshot, way: Walk, smallest: int) -> int:
    """What the link by which the source sends takes."""
    stacks = {stack.name: stack for stack in snapshot.stacks}
    for hop in way.request.hops:
        if hop.stage in (Stage.EGRESS, Stage.INGRESS) and hop.stack in stacks:
            for link in stacks[hop.stack].links or ():
                if link.name == hop.link:
                    return max(smallest + 1, min(link.mtu, _LARGEST))
    return 1500


def _prediction(
    snapshot: Snapshot, question: Question, smallest: int, ceiling: int
) -> tuple[int | None, LinkRef | None]:
    """The largest size that the walk lets pass, and where it stops the next."""

    def stopped(size: int) -> Hop | None:
        way = walk(snapshot, msgspec.structs.replace(question, size=size))
        if way.works is not False or way.decisive.reason is not Reason.MTU:
            return None
        return way.decisive.end

    if walk(snapshot, msgspec.structs.replace(question, size=smallest)).works is not True:
        return None, None
    end = stopped(ceiling)
    if end is None:
        return ceiling, None
    low, high = smallest, ceiling
    while high - low > 1:
        middle = (low + high) // 2
        found = stopped(middle)
        low, high, end = (middle, high, end) if found is None else (low, middle, found)
    return low, end.place


def _limit(way: Walk, seen: Observation) -> tuple[LinkRef | None, Direction]:
    """The hop behind the last one that the lost size was seen at, and its direction of travel."""
    travel: Direction = "reply" if seen.travelling("reply") else "request"
    trace = way.reply if travel == "reply" else way.request
    if trace is None:
        return seen.last_seen, travel
    hops = marked(trace, seen).hops
    last = max((index for index, hop in enumerate(hops) if hop.seen), default=-1)
    shown = (Stage.EGRESS, Stage.INGRESS, Stage.BRIDGE)
    following = (hop for hop in hops[last + 1 :] if hop.stage in shown)
    nearest = next(following, None)
    return (nearest.place if nearest is not None else seen.last_seen), travel
