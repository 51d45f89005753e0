"""The agents of guests, for probes that are to be sent from inside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvmdiag.commands.facts import scope_of
from kvmdiag.commands.options import Options

if TYPE_CHECKING:
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.probes.guest_programs import Enter, Inside

_SECONDS = 10.0
"""How long one probe, or one look inside, may take in a guest; its agent may hang."""


def agents(snapshot: Snapshot, options: Options) -> Enter | None:
    """A way to the agent of each guest whose inside was seen; ``None`` when there is none."""
    domains = {
        guest.stack: guest.domain
        for guest in snapshot.guests or ()
        if guest.stack is not None and guest.access in ("full", "basic")
    }
    if not domains or options.guest_access == "none":
        return None

    known: dict[str, Inside] = {}

    def enter(stack: str) -> Inside | None:
        from kvmdiag.collect.guest_agent import Agent, AgentError
        from kvmdiag.collect.guests import libvirt_agents
        from kvmdiag.probes.guest_programs import Inside

        if stack not in domains:
            return None
        try:
            send = libvirt_agents(scope_of(options).connect)()(domains[stack])
        except AgentError:
            return None
        agent = Agent(send, time.monotonic() + _SECONDS)
        inside = known.setdefault(stack, Inside(agent))
        inside.programs = agent
        return inside

    return enter
