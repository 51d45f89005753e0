"""Details of many stacks that nobody tells, said once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Stack


def left_unknown(stacks: Sequence[Stack]) -> Iterator[Gap]:
    """Gaps that nothing is the worse for: facts beside the point, known of some stacks only."""
    yield from _links_of_sockets(stacks)
    yield from _origins_of_addresses(stacks)


def _links_of_sockets(stacks: Sequence[Stack]) -> Iterator[Gap]:
    sockets = [socket for stack in stacks for socket in stack.sockets or ()]
    if sockets and all(one.links is None for one in sockets):
        yield Gap(
            stack=None,
            fact="links of sockets",
            why="whether a socket serves one link only is told by modules that are not loaded",
            help="modprobe udp_diag tcp_diag",
            expected=True,
        )


def _origins_of_addresses(stacks: Sequence[Stack]) -> Iterator[Gap]:
    unknown = [
        stack.name
        for stack in stacks
        if stack.links and all(link.address_assigned is None for link in stack.links)
    ]
    if unknown:
        which = unknown[0] if len(unknown) == 1 else f"{len(unknown)} stacks"
        yield Gap(
            stack=None,
            fact="address_assigned",
            why=f"sysfs shows one namespace only: where those of {which} are from is unknown",
            help="grep . /sys/class/net/*/addr_assign_type, in the namespace (ip netns exec NAME)",
            expected=True,
        )
