"""Whether an answer can be the destination's own.

Whoever sees the probe pass can answer in the destination's name; the source's kernel cannot
tell. What gives it away: the request was never seen to get where the destination is.
"""

from __future__ import annotations

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.probes.observation import Observation
from kvmdiag.simulate.facts.addresses import parse_address


def doubt(snapshot: Snapshot, walk: Walk, seen: Observation) -> str | None:
    """One sentence when the answer came although the request never got there.

    ``None`` when it did, when there was no answer, and when too little was watched to say.
    """
    requests = seen.travelling("request")
    if not seen.reached or not requests or seen.truncated:
        return None
    targets = _targets(walk, seen)
    owners = _owners(snapshot, targets)
    if owners - seen.watched:
        return None
    exits = _exits(snapshot, seen)
    if any(
        (s.stack in owners and not s.tunnels)
        or (s.direction_on_link == "out" and (s.stack, s.link) in exits)
        for s in requests
    ):
        return None
    replies = seen.travelling("reply")
    who = f"; the answer first appeared at {replies[0].place}" if replies else ""
    return (
        f"an answer came, though the request was last seen at {requests[-1].place} and never "
        f"where {walk.question.destination.text} is{who}: "
        "something on the way may have answered for it"
    )


def _targets(walk: Walk, seen: Observation) -> set[IPAddress]:
    """What the destination is called before, and after NAT."""
    found = {s.own.dst for s in seen.travelling("request")}
    return found | {parse_address(walk.question.destination.address or "::")}


def _owners(snapshot: Snapshot, targets: set[IPAddress]) -> set[str]:
    """The stacks that the packet may be for."""
    return {
        stack.name
        for stack in snapshot.stacks
        if any(parse_address(entry.address) in targets for entry in stack.addresses or ())
    }


def _exits(snapshot: Snapshot, seen: Observation) -> set[tuple[str, str]]:
    """Links that lead out of sight: uplinks, and taps of guests whose inside is not seen."""
    found = set()
    for stack in snapshot.stacks:
        for link in stack.links or ():
            if link.is_uplink or (link.guest is not None and link.guest not in seen.watched):
                found.add((stack.name, link.name))
    return found
