"""Finding the MAC address of the next hop, on the way of a packet.

Source: net/ipv4/arp.c, net/core/neighbour.c.
"""

from __future__ import annotations

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import Decider, Outcome, Reason, Stage
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.segment.neighbour import Resolved, Silent, resolve
from kvmdiag.simulate.way.any_of import one_of
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Ended

# NUD_VALID without what was entered by hand (include/net/neighbour.h).
_REMEMBERED = ("reachable", "stale", "delay", "probe")


def mac_of_next_hop(
    journey: Journey, view: StackView, link: str, next_hop: IPAddress, packet: Packet
) -> str | None:
    """The next hop's MAC address."""
    device = view.links[link]
    if device.type not in ("ether", "loopback"):
        return None
    answer = resolve(journey.view, view.name, link, next_hop, packet.src)
    if isinstance(answer, Silent):
        mac = journey.connections.neighbours.get((view.name, link, next_hop))
        if mac is None:
            _tell_what_is_remembered(journey, view, link, next_hop)
            raise _unresolved(journey, view.name, link, next_hop, packet, answer)
        journey.assume(
            f"{view.name} still knows {next_hop}, which has just asked for it and would not answer"
        )
        answer = Resolved(mac)
    answer = first_to_answer(journey, view, link, next_hop, packet, answer)
    if answer.owner is not None and answer.sender is not None and device.mac is not None:
        asked = (answer.owner.stack, answer.owner.link, answer.sender)
        journey.connections.neighbours[asked] = device.mac
    if answer.outside is not None:
        entry = view.neighbours.get((link, str(next_hop)))
        # The kernel keeps such an entry until somebody asks again, be it for hours.
        vain = entry is not None and entry.state == "failed"
        but = f", although {view.name} asked for it in vain the last time" if vain else ""
        journey.assume(f"{next_hop} is there, beyond {answer.outside}{but}")
    journey.note(
        view.name,
        link,
        Stage.NEIGHBOUR,
        packet,
        f"next hop {next_hop} is at {answer.mac or 'a MAC address not known yet'}",
        f"answered by {answer.owner}" if answer.owner else "",
        out_link=link,
    )
    return answer.mac


def first_to_answer(
    journey: Journey,
    view: StackView,
    link: str,
    next_hop: IPAddress,
    packet: Packet,
    answer: Resolved,
) -> Resolved:
    """One of those that answer: whoever is first, and that cannot be told."""
    if not answer.others:
        return answer
    answers = (answer, *answer.others)
    what = f"who answers first when {view.name} asks for {next_hop} on {link}"
    ways = [f"is {one.owner}" for one in answers]
    return answers[one_of(journey, view.name, link, Stage.NEIGHBOUR, packet, None, what, ways)]


def _tell_what_is_remembered(
    journey: Journey, view: StackView, link: str, next_hop: IPAddress
) -> None:
    """An answer of earlier is used until it is doubted, seconds or, where others ask, hours."""
    entry = view.neighbours.get((link, str(next_hop)))
    if entry is not None and entry.mac is not None and entry.state in _REMEMBERED:
        journey.assume(
            f"{view.name} has to ask for {next_hop} anew; as long as it makes do with the answer "
            f"that it remembers ({entry.mac}, {entry.state}), packets may still get there"
        )


def _unresolved(
    journey: Journey, stack: str, link: str, next_hop: IPAddress, packet: Packet, answer: Silent
) -> Ended:
    reason, because = Reason.UNRESOLVED, ""
    decider: Decider | None = None
    if answer.obstacle is not None:
        obstacle = answer.obstacle
        reason, because = obstacle.reason, f"{obstacle.text} ({obstacle.place})"
        decider = obstacle.decider
    elif answer.quiet is not None and answer.refusal is not None:
        refusal = answer.refusal
        reason = refusal.reason
        because = f"{answer.quiet} keeps quiet when {stack} asks: {refusal.because}"
        decider = journey.stack(answer.quiet.stack).settings(refusal.sysctls)
    journey.note(
        stack,
        link,
        Stage.NEIGHBOUR,
        packet,
        f"next hop {next_hop} does not answer on {link}",
        because,
        decider=decider,
        out_link=link,
    )
    return Ended(Outcome.UNRESOLVED, reason)
