"""Whether a path works after a repair: read anew, walked again, and asked of the kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmdiag.commands.agents import agents
from kvmdiag.commands.facts import facts, question
from kvmdiag.errors import NotReadableError, UsageError

if TYPE_CHECKING:
    from kvmdiag.commands.options import Options
    from kvmdiag.model.question import Question
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.trace import Walk

_SETTLING = ("listening", "learning")
# A port waits for one forward delay in each of these states, and the timers are not exact.
_MARGIN = 3.0
# A client of DHCP that got no answer asks again within that time, as most do.
_ASKING = 30.0
_PAUSE = 0.5


@dataclass(frozen=True)
class Verified:
    """What is known of a path after its repair.

    ``failure`` says why it does not work, and is ``None`` when it does. ``unprobed`` says why
    no packet could be sent to prove that, and is ``None`` when a real one was answered. Then
    ``against`` is what the simulation says all the same, if it says that none gets through.
    """

    failure: str | None = None
    unprobed: str | None = None
    against: str | None = None


def verify(ends: tuple[str, str], options: Options) -> Verified:
    """Read everything anew, walk again, and send a real packet.

    Where a spanning tree keeps a new port silent at first, or a guest has yet to ask DHCP for its
    address, that is waited for. When no packet can be sent from the source (a guest whose inside
    is closed, or somebody outside), the walk alone decides, and must then say yes. Else the
    kernel decides: what was read may lack something, such as the rules of a guest that is slow.
    """
    from kvmdiag.probes.ping import reaches
    from kvmdiag.reports import words

    snapshot, asked, again = _settled(ends, options)
    stopped = words.ending(again.decisive) if again.works is False else None
    try:
        enter = agents(snapshot, options)
        if reaches(snapshot, asked, timeout=options.timeout, enter=enter):
            return Verified(against=stopped)
        lost = f"a real packet got no answer within {options.timeout:g} s"
        return Verified(failure=stopped or lost)
    except (NotReadableError, UsageError) as error:
        if again.works:
            return Verified(unprobed=str(error))
        return Verified(failure=f"{words.ending(again.decisive)}; and not probed: {error}")


def _settled(ends: tuple[str, str], options: Options) -> tuple[Snapshot, Question, Walk]:
    """What is read and walked once nothing on the way is still about to begin its work."""
    from kvmdiag.simulate.endpoints import NoAddressError
    from kvmdiag.simulate.walk import walk

    until = None
    while True:
        began = time.monotonic()
        snapshot = facts(options)
        wait = _ASKING if _lacks_address(snapshot, ends) else _seconds_to_settle(snapshot)
        until = time.monotonic() + wait if until is None else until
        is_last = not wait or began > until
        try:
            asked = question(snapshot, *ends, options)
        except NoAddressError:
            if is_last:
                raise
        else:
            again = walk(snapshot, asked)
            if again.works is not False or is_last:
                return snapshot, asked, again
        time.sleep(_PAUSE)


def _lacks_address(snapshot: Snapshot, ends: tuple[str, str]) -> bool:
    """Whether an end of the path is a guest without an address where DHCP gives some away."""
    if not any(network.active and network.dhcp for network in snapshot.networks or ()):
        return False
    names = {end.partition(":")[0] for end in ends}
    return any(
        not any(a.scope == "global" and ":" not in a.address for a in stack.addresses)
        for stack in snapshot.stacks
        if stack.name in names and stack.kind == "guest" and stack.addresses is not None
    )


def _seconds_to_settle(snapshot: Snapshot) -> float:
    """How long ports of bridges may yet be silent; 0 when none waits."""
    longest = 0.0
    for stack in snapshot.stacks:
        bridges = {link.name: link.bridge for link in stack.links or () if link.bridge is not None}
        for link in stack.links or ():
            bridge = bridges.get(link.master or "")
            if bridge is not None and link.port is not None and link.port.state in _SETTLING:
                longest = max(longest, len(_SETTLING) * bridge.forward_delay / 100 + _MARGIN)
    return longest
