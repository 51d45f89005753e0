"""The agents of guests, for probes that are to be sent from inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvmdiag.commands.facts import scope_of
from kvmdiag.commands.options import Options

if TYPE_CHECKING:
    from kvmdiag.collect.guest.agent import Agent
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.probes.guest_programs import Enter, Inside

_SECONDS = 10.0
"""How long one probe, or one look inside, may take in a guest; its agent may hang."""


def agents(snapshot: Snapshot, options: Options) -> Enter | None:
    """A way to the agent of each guest whose inside was seen; ``None`` when there is none."""
    if not _seen(snapshot) or options.guest_access == "none":
        return None
    find = agent_of(snapshot, options)
    known: dict[str, Inside] = {}

    def enter(stack: str) -> Inside | None:
        from kvmdiag.probes.guest_programs import Inside

        agent = find(stack)
        if agent is None:
            return None
        inside = known.setdefault(stack, Inside(agent))
        inside.programs = agent
        return inside

    return enter


def agent_of(snapshot: Snapshot, options: Options) -> Callable[[str], Agent | None]:
    """The agent of the guest whose stack has a name; ``None`` when it may or can not be asked."""
    domains = {} if options.guest_access == "none" else _seen(snapshot)

    def find(stack: str) -> Agent | None:
        from kvmdiag.collect.guest.agent import Agent, AgentError
        from kvmdiag.collect.guests import libvirt_agents

        if stack not in domains:
            return None
        try:
            send = libvirt_agents(scope_of(options).connect)()(domains[stack])
        except AgentError:
            return None
        return Agent(send, time.monotonic() + _SECONDS)

    return find


def _seen(snapshot: Snapshot) -> dict[str, str]:
    """The domains whose inside was seen, by their stacks."""
    return {
        guest.stack: guest.domain
        for guest in snapshot.guests or ()
        if guest.stack is not None and guest.access in ("full", "basic")
    }
