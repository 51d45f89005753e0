"""What a plan does besides: the paths it breaks, and those it opens that were closed.

A change of rules or settings seldom concerns one packet alone. Before a plan is offered, every
path that is meant to work is walked again, and one packet is sent between any two areas: the
networks around each bridge, the host, and the outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from kvmdiag.diagnose.case import addresses_of
from kvmdiag.diagnose.nets import connected, ports_of
from kvmdiag.diagnose.state import State
from kvmdiag.errors import UsageError
from kvmdiag.model.packet import Protocol
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.simulate.endpoints import resolve

# Pairs grow with the square; a host with more areas is asked about the first of them.
_MOST = 12
# How a sentence begins that tells of a path that no longer works.
BREAKS = "breaks"
_PROBES: tuple[tuple[Protocol, int | None], ...] = (("icmp", None), ("tcp", 22))


class Area(NamedTuple):
    """Machines that a rule treats alike: how it is called, and one address to send from or to."""

    name: str
    member: str
    address: str


def side_effects(
    before: State, after: State, asked: Sequence[Question], intended: Sequence[Question]
) -> tuple[str, ...]:
    """Sentences, the worst first: what the change from one state to the other does besides."""
    broken = [
        f"{BREAKS} {path.source.text} to {path.destination.text}"
        for path in intended
        if before.works(path) and after.works(path) is False
    ]
    return (*broken, *dict.fromkeys(_opened(before, after, (*asked, *intended))))


def _opened(before: State, after: State, known: Sequence[Question]) -> Iterator[str]:
    snapshot = before.snapshot
    areas = tuple(_areas(snapshot))[:_MOST]
    meant = {
        (
            _area_of(areas, path.source.stack or path.source.address),
            _area_of(areas, path.destination.stack or path.destination.address),
        )
        for path in known
    }
    for source, target in permutations(areas, 2):
        if (source.name, target.name) in meant:
            continue
        for proto, port in _PROBES:
            try:
                path = resolve(snapshot, source.member, target.address, proto=proto, port=port)
            except UsageError:
                continue
            if _gets_there(before, path) is False and _gets_there(after, path):
                yield f"also lets {source.name} reach {target.name}"
                break


def _gets_there(state: State, path: Question) -> bool | None:
    """Whether the request arrives, be somebody there to listen or not."""
    trace = state.walk(path).request
    if trace.reason is Reason.NO_LISTENER:
        return True
    if trace.outcome is Outcome.LEFT and path.destination.stack is not None:
        return False
    return trace.arrived


def _areas(snapshot: Snapshot) -> Iterator[Area]:
    by_name = {stack.name: stack for stack in snapshot.stacks}
    host = snapshot.stack(snapshot.host)
    for stack in snapshot.stacks:
        for bridge in stack.links or ():
            for port in ports_of(stack, bridge.name) if bridge.kind == "bridge" else ():
                far = by_name.get(port.peer.stack) if port.peer is not None else None
                inside = addresses_of(far, port.peer.link) if far and port.peer else ()
                four = next((a for a in inside if a.version == 4), None)
                if far is not None and four is not None and _has_one_home(far):
                    name = f"{four.network} ({bridge.name})"
                    yield Area(name, far.name, str(four.ip))
                    break
    for route in host.routes or ():
        for hop in route.next_hops:
            if route.destination == "0.0.0.0/0" and hop.gateway is not None:
                yield Area("the outside", hop.gateway, hop.gateway)
                return


def _has_one_home(stack: Stack) -> bool:
    """A machine in several networks, a router among them, stands for none of them."""
    homes = [n for n in stack.links or () if not n.is_loopback and connected(stack, n.name)]
    return len(homes) == 1


def _area_of(areas: Sequence[Area], end: str | None) -> str:
    """The area that one end of a path stands for; an address of nobody's is the outside."""
    for area in areas:
        if end == area.member:
            return area.name
    return "the outside" if end is not None and end[:1].isdigit() else ""
