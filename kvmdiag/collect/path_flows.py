"""The tracked connections that belong to an asked path, in every stack it may pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from kvmdiag.collect.flows import flows_among
from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Flow
from kvmdiag.model.snapshot import Gap, Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.system.namespaces import entered

# A connection may show an address that leads to another stack's connection, and so on.
_ROUNDS = 4


def with_path_flows(
    snapshot: Snapshot, addresses: Iterable[str], expected: Collection[str]
) -> Snapshot:
    """The live snapshot with the connections between these addresses of an asked path.

    An address that such a connection is translated to is looked for as well: an old translation
    takes packets where the rules no longer would. So every stack is read, but for guests, which
    are no namespace of this host; only of those in which the path is ``expected`` is it a gap
    when that fails.
    """
    wanted = set(addresses)
    for _ in range(_ROUNDS):
        found, gaps = _read(snapshot.stacks, wanted)
        ends = {end for flows in found.values() for flow in flows for end in _ends(flow)}
        if ends <= wanted:
            break
        wanted |= ends
    return replace(
        snapshot,
        stacks=tuple(
            replace(stack, flows=found[stack.name]) if stack.name in found else stack
            for stack in snapshot.stacks
        ),
        flows_between=tuple(sorted(wanted)),
        gaps=(*snapshot.gaps, *(gap for gap in gaps if gap.stack in expected)),
    )


def _read(
    stacks: tuple[Stack, ...], wanted: set[str]
) -> tuple[dict[str, tuple[Flow, ...]], list[Gap]]:
    """The flows by stack, and what could not be read."""
    found: dict[str, tuple[Flow, ...]] = {}
    gaps = []
    for stack in stacks:
        if stack.netns is None:
            if stack.conntrack is not None and stack.conntrack.count:
                why = f"connections that {stack.name} tracks are not read through its agent"
                help_ = f"conntrack -L inside {stack.name}"
                gaps.append(Gap(stack=stack.name, fact="flows", why=why, help=help_))
            continue
        try:
            found[stack.name] = _of_stack(stack, stack.netns, wanted)
        except NotReadableError as error:
            why, _, help_ = str(error).partition(": ")
            gaps.append(Gap(stack=stack.name, fact="flows", why=why, help=help_))
    return found, gaps


def _of_stack(stack: Stack, netns: str, wanted: set[str]) -> tuple[Flow, ...]:
    if stack.conntrack is not None and stack.conntrack.count == 0:
        return ()
    with entered(netns):
        return flows_among(wanted)


def _ends(flow: Flow) -> set[str]:
    sides = (flow.original, flow.reply)
    return {end for side in sides for end in (side.source, side.destination)}
