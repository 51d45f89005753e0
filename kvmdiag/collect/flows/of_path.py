"""The tracked connections that belong to an asked path, in every stack it may pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from kvmdiag.collect.flows.lines import find_lines, patterns
from kvmdiag.collect.flows.table import flows_among
from kvmdiag.collect.guest.agent import Agent, AgentError
from kvmdiag.collect.guest.programs import Programs
from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Flow
from kvmdiag.model.snapshot import Gap, Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.system.namespaces import entered

# A connection may show an address that leads to another stack's connection, and so on.
_ROUNDS = 4


Inside = Callable[[str], Agent | None]
"""A way to the agent of the guest whose stack has that name, if there is one."""


def with_path_flows(
    snapshot: Snapshot,
    addresses: Iterable[str],
    expected: Collection[str],
    inside: Inside = lambda _: None,
) -> Snapshot:
    """The live snapshot with the connections between these addresses of an asked path.

    An address that such a connection is translated to is looked for as well: an old translation
    takes packets where the rules no longer would. So every namespace is read, and every guest
    that the path is ``expected`` in; of what it is not expected in it is no gap when that fails.
    """
    wanted = set(addresses)
    for _ in range(_ROUNDS):
        found, gaps = _read(snapshot.stacks, wanted, expected, inside)
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
    stacks: tuple[Stack, ...], wanted: set[str], expected: Collection[str], inside: Inside
) -> tuple[dict[str, tuple[Flow, ...]], list[Gap]]:
    """The flows by stack, and what could not be read."""
    found: dict[str, tuple[Flow, ...]] = {}
    gaps = []
    for stack in stacks:
        if stack.netns is None and stack.name not in expected:
            continue
        try:
            flows = _of_stack(stack, wanted, inside)
        except NotReadableError as error:
            why, _, help_ = str(error).partition(": ")
            gaps.append(Gap(stack=stack.name, fact="flows", why=why, help=help_))
            continue
        if flows is not None:
            found[stack.name] = flows
    return found, gaps


def _of_stack(stack: Stack, wanted: set[str], inside: Inside) -> tuple[Flow, ...] | None:
    if stack.conntrack is not None and stack.conntrack.count == 0:
        return ()
    if stack.netns is not None:
        with entered(stack.netns):
            return flows_among(wanted)
    if stack.conntrack is None:
        # Its inside is not seen, which has its own gap.
        return None
    agent = inside(stack.name)
    if agent is None:
        raise NotReadableError(
            f"{stack.name} tracks connections, and its agent cannot be asked: conntrack -L in it"
        )
    return _of_guest(stack.name, agent, wanted)


def _of_guest(name: str, agent: Agent, wanted: set[str]) -> tuple[Flow, ...]:
    marks = [word for pattern in patterns(wanted) for word in ("-e", pattern)]
    ran = Programs(agent).run_all({"": ("grep", ("-sF", *marks, "/proc/net/nf_conntrack"))})[""]
    # With exit code 1 grep found nothing, with 2 there is no such file.
    if isinstance(ran, AgentError) or ran.code not in (0, 1):
        raise NotReadableError(f"{name} does not show /proc/net/nf_conntrack: conntrack -L in it")
    return tuple(sorted(find_lines(ran.out.splitlines(), wanted), key=repr))


def _ends(flow: Flow) -> set[str]:
    sides = (flow.original, flow.reply)
    return {end for side in sides for end in (side.source, side.destination)}
