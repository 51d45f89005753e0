"""The tracked connections of the path somebody asks about, added to the live facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmdiag.commands.options import Options
    from kvmdiag.model.question import Question
    from kvmdiag.model.snapshot import Snapshot


def with_flows(snapshot: Snapshot, asked: Question, options: Options) -> Snapshot:
    """The snapshot with the connections that packets of this path may belong to.

    A file has those that were asked for when it was taken, and is left as it is.
    """
    if options.snapshot is not None:
        return snapshot
    return flows_of(snapshot, snapshot, asked, options)


def flows_of(taken: Snapshot, assumed: Snapshot, asked: Question, options: Options) -> Snapshot:
    """The live snapshot ``taken`` with them; the path is predicted in ``assumed``."""
    from kvmdiag.collect.flows.of_path import with_path_flows
    from kvmdiag.commands.agents import agent_of
    from kvmdiag.simulate.walk import walk

    way = walk(assumed, asked)
    traces = [way.request] if way.reply is None else [way.request, way.reply]
    hops = [hop for trace in traces for hop in trace.hops]
    # Every address that the packet and its answer bear on their way.
    ends = {end for hop in hops for end in (hop.packet.src, hop.packet.dst)}
    told = {str(end) for end in ends if not end.is_unspecified}
    stacks = {hop.stack for hop in hops}
    return with_path_flows(taken, told, stacks, agent_of(taken, options))
