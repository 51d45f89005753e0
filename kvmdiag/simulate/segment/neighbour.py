"""Who answers ARP or neighbour solicitation for the next hop, and with which MAC address.

An entry that somebody made permanent is believed, everything else is asked anew, as the kernel
does sooner or later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec.structs import replace

from kvmdiag.model.link import LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.ingress import BadSource
from kvmdiag.simulate.facts.source import asking_address
from kvmdiag.simulate.facts.view import View, remembered
from kvmdiag.simulate.segment.answering import would_answer
from kvmdiag.simulate.segment.arp import Arp, answer, question, stopped_by
from kvmdiag.simulate.segment.obstacles import Obstacle
from kvmdiag.simulate.segment.reach import Reached, reached_from
from kvmdiag.simulate.segment.stacked import is_passthru, taker

_FIXED = ("permanent", "noarp")


class Resolved(msgspec.Struct, frozen=True):
    """The next hop's MAC address. ``owner`` answered, or is ``None``.

    ``outside`` tells that the answer, if any, comes from beyond the snapshot by that link;
    then ``mac`` is what the stack remembers of it. ``sender`` is the address in whose name was
    asked: whoever answers remembers who asked (neigh_event_ns). ``others`` answer as well, and
    the first to do so counts.
    """

    mac: str | None
    owner: LinkRef | None = None
    outside: LinkRef | None = None
    sender: IPAddress | None = None
    others: tuple[Resolved, ...] = ()


class Silent(msgspec.Struct, frozen=True):
    """Nobody answers.

    ``obstacle`` keeps the question from the machine that would; ``quiet`` has the address and
    was asked, but ``refusal`` keeps it from answering.
    """

    obstacle: Obstacle | None
    quiet: LinkRef | None = None
    refusal: BadSource | None = None


@remembered
def resolve(
    view: View, stack: str, link: str, next_hop: IPAddress, source: IPAddress
) -> Resolved | Silent:
    """Ask for ``next_hop`` on ``link`` of ``stack``, for a packet from ``source``.

    A device with NOARP asks nobody (arp_constructor, ndisc_constructor: frames go to its own
    MAC address), and takes in no ARP message (arp_rcv).
    """
    mine = view.stacks[stack]
    entry = mine.neighbours.get((link, str(next_hop)))
    device = view.link(stack, link)
    # Without ARP the kernel itself makes entries, which lead back to the device.
    nobody = None if device.arp else device.mac
    if entry is not None and entry.state in _FIXED and entry.mac not in (None, nobody):
        return Resolved(entry.mac)
    if not device.arp:
        why = f"{link} is set to ask nobody: NOARP"
        return Silent(Obstacle(Reason.UNRESOLVED, LinkRef(stack, link), why))
    sender = asking_address(mine, link, next_hop, source)
    found = _Asking(view, LinkRef(stack, link), next_hop, sender).ask()
    if isinstance(found, Resolved) and found.outside is not None and entry is not None:
        return replace(found, mac=entry.mac)
    return found


class _Asking:
    """One question, put to everybody on the segment."""

    def __init__(self, view: View, asker: LinkRef, wanted: IPAddress, sender: IPAddress) -> None:
        self._view = view
        self._asker = asker
        self._wanted = wanted
        self._sender = sender
        self._machines = view.whereabouts.answerers(wanted)
        mac = view.link(asker.stack, asker.link).mac
        self._arp = question(sender, wanted, mac)

    def ask(self) -> Resolved | Silent:
        """Who answers; else what keeps the question or the answer from its way."""
        unsent = self._stopped(self._asker, "output")
        if unsent is not None:
            return Silent(unsent)
        outside: LinkRef | None = None
        silent: Silent | None = None
        answers: list[Resolved] = []
        stand_ins: list[Resolved] = []
        for place in self._reached():
            here = LinkRef(place.stack, place.link)
            if place.opens:
                taken = self._taken(here)
                silent = silent or (None if taken is None else Silent(taken))
                outside = outside or here
                continue
            said = self._answer(here)
            if not isinstance(said, Resolved):
                silent = silent or said
            elif self._wanted in self._view.stacks[here.stack].local_addresses:
                answers.append(said)
            else:
                stand_ins.append(said)
        # Who answers for another takes his time about it (net.ipv4.neigh.*.proxy_delay).
        answers = answers or stand_ins
        if answers:
            return replace(answers[0], others=tuple(answers[1:]))
        silent = self._behind_obstacles() or silent
        if outside is not None and (silent is None or silent.obstacle is None):
            return Resolved(None, outside=outside)
        return silent or Silent(self._in_the_way())

    def _reached(self, *, despite_obstacles: bool = False) -> Iterator[Reached]:
        asker = self._asker
        return reached_from(
            self._view,
            asker.stack,
            asker.link,
            arp=self._arp,
            despite_obstacles=despite_obstacles,
            machines=self._machines,
        )

    def _answer(self, here: LinkRef) -> Resolved | Silent | None:
        """What comes back from a link that the question has reached; ``None``: not its business."""
        willing = would_answer(self._view.stacks[here.stack], here.link, self._wanted, self._sender)
        if willing is False:
            return None
        if self._wanted.version == 4 and not self._view.link(here.stack, here.link).arp:
            willing = BadSource(Reason.UNRESOLVED, f"ARP is off on {here.link}: NOARP")
        if isinstance(willing, BadSource):
            return Silent(None, here, willing)
        obstacle = self._stopped(here, "input") or self._way_back(here)
        if obstacle is not None:
            return Silent(obstacle)
        mac = self._view.link(here.stack, here.link).mac
        return Resolved(mac, owner=here, sender=self._sender)

    def _taken(self, opening: LinkRef) -> Obstacle | None:
        """An answer from outside is for one machine alone: a passthru macvlan takes it."""
        upper = taker(self._view, opening, self._view.link(opening.stack, opening.link).mac)
        if upper is None or opening != self._asker or not is_passthru(upper.link):
            return None
        text = f"{upper.link.name} takes all that comes in by {opening.link} (mode passthru)"
        return Obstacle(Reason.UNRESOLVED, LinkRef(upper.stack, upper.link.name), text)

    def _way_back(self, here: LinkRef) -> Obstacle | None:
        """What keeps the answer from the one who asked."""
        told = answer(self._arp, self._view.link(here.stack, here.link).mac)
        unsent = self._stopped(here, "output", told)
        if unsent is not None:
            return unsent
        ends = reached_from(
            self._view,
            here.stack,
            here.link,
            arp=told,
            despite_obstacles=True,
            machines=frozenset({self._asker.stack}),
        )
        mine = [end for end in ends if LinkRef(end.stack, end.link) == self._asker]
        if any(end.obstacle is None for end in mine):
            return self._stopped(self._asker, "input", told)
        if mine:
            return mine[0].obstacle
        # The asker's link is a bridge port: what comes in there is not for the link itself.
        bridge = self._view.link(self._asker.stack, self._asker.link).master
        text = f"what comes in by {self._asker.link} goes to its bridge {bridge}"
        return Obstacle(Reason.UNRESOLVED, self._asker, text)

    def _stopped(
        self, at: LinkRef, side: Literal["input", "output"], arp: Arp | None = None
    ) -> Obstacle | None:
        """A rule that drops the message at one of the ends."""
        message = arp or self._arp
        view = self._view.stacks[at.stack]
        into = at.link if side == "input" else None
        out = at.link if side == "output" else None
        for family, hook in message.hooks(side):
            rule = stopped_by(view, message, family, hook, into, out)
            if rule is not None:
                text = f"{message.name} is dropped: {rule.text}"
                return Obstacle(Reason.NETFILTER, at, text, rule)
        return None

    def _behind_obstacles(self) -> Silent | None:
        """The obstacle between the asker and one who would answer."""
        for place in self._reached(despite_obstacles=True):
            if place.obstacle is None or place.opens:
                continue
            view = self._view.stacks[place.stack]
            if would_answer(view, place.link, self._wanted, self._sender) is True:
                return Silent(place.obstacle)
        return None

    def _in_the_way(self) -> Obstacle | None:
        """When the owner is unknown, what keeps the question from getting out, or anywhere."""
        asker = self._asker
        found = list(
            reached_from(self._view, asker.stack, asker.link, arp=self._arp, despite_obstacles=True)
        )
        ways_out = [place for place in found if place.opens]
        free = any(place.obstacle is None for place in ways_out or found)
        return None if free else next((place.obstacle for place in ways_out or found), None)
