"""Which bridges are made to show what they merely bridge (by being promiscuous meanwhile)."""

from __future__ import annotations

from collections.abc import Iterable

from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason, Walk
from kvmdiag.probes.captures import all_bridges

_TAKEN_UP = frozenset(
    {
        Reason.ISOLATED,
        Reason.NO_PORT,
        Reason.NO_FLOOD,
        Reason.PORT_STATE,
        Reason.LINK_DOWN,
        Reason.NO_CARRIER,
    }
)
"""Then a promiscuous bridge takes the frame for itself: nothing is dropped, no reason is told."""


def watched_bridges(walk: Walk, stack: Stack) -> Iterable[int]:
    """Their indexes: those of the path, or all when that is in doubt.

    Not the one in which the packet is expected to end, where the kernel would be silent then.
    """
    links = {link.name: link for link in stack.links or ()}
    if not walk.works:
        mute = _expected_end(walk, stack)
        return [index for index in all_bridges(stack) if index not in mute]
    on_path = {hop.link or "" for hop in walk.hops if hop.stack == stack.name}
    wanted = on_path | {links[name].master for name in on_path & links.keys()}
    return [link.index for link in links.values() if link.bridge and link.name in wanted]


def _expected_end(walk: Walk, stack: Stack) -> set[int]:
    """The bridge that is expected to stop it on its second layer."""
    trace = walk.decisive
    if trace.end.stack != stack.name or trace.reason not in _TAKEN_UP:
        return set()
    links = {link.name: link for link in stack.links or ()}
    near = {trace.end.link, trace.end.in_link, trace.end.out_link} & links.keys()
    near |= {links[name].master for name in near if name is not None}
    return {links[name].index for name in near & links.keys() if name is not None}
