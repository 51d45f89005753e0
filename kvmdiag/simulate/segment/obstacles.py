"""What on layer 2 lets no frame pass: links and bridge ports that are not in a state to."""

from __future__ import annotations

import msgspec

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Decider, LinkStateRef, Reason, RuleRef
from kvmdiag.simulate.facts.view import View


class Obstacle(msgspec.Struct, frozen=True):
    """Something on layer 2 that lets no frame pass; ``rule`` is one that drops it."""

    reason: Reason
    place: LinkRef
    text: str
    rule: RuleRef | None = None

    @property
    def decider(self) -> Decider:
        """What a hop names as the one that decided."""
        if self.rule is not None:
            return self.rule
        return LinkStateRef(stack=self.place.stack, link=self.place.link, text=self.text)


def link_obstacle(stack: str, link: Link) -> Obstacle | None:
    """Why a link passes nothing, ``None`` when it does."""
    place = LinkRef(stack, link.name)
    if not link.up:
        return Obstacle(Reason.LINK_DOWN, place, f"{link.name} is set down")
    if not link.carrier:
        return Obstacle(Reason.NO_CARRIER, place, f"{link.name} has no carrier")
    return None


def admin_obstacle(stack: str, bridge: Link) -> Obstacle | None:
    """The same of a bridge: it loses carrier with its last port; that alone stops no frame."""
    return None if bridge.up else link_obstacle(stack, bridge)


def cable_obstacle(view: View, stack: str, link: Link) -> Obstacle | None:
    """A cable with an end set down; that end is named, not the one that lost carrier.

    A guest that is paused neither sends nor takes anything (drivers/net/tun.c, tun_net_xmit).
    """
    if stack in view.paused:
        return Obstacle(Reason.PAUSED, LinkRef(stack, link.name), f"{stack} is paused")
    guest = link.guest if link.peer is None else link.peer.stack
    if guest is not None and guest in view.paused:
        text = f"{guest} is paused: nobody takes packets from {link.name}"
        return Obstacle(Reason.PAUSED, LinkRef(stack, link.name), text)
    if link.up and link.peer is not None:
        far = view.link(link.peer.stack, link.peer.link)
        if not far.up:
            return link_obstacle(link.peer.stack, far)
    return link_obstacle(stack, link)


def port_obstacle(stack: str, port: Link) -> Obstacle | None:
    """Why a bridge port neither takes nor gives frames, ``None`` when it does."""
    place = LinkRef(stack, port.name)
    down = link_obstacle(stack, port)
    if down is not None:
        return down
    if port.port is not None and port.port.state != "forwarding":
        return Obstacle(Reason.PORT_STATE, place, f"port {port.name} is {port.port.state}")
    return None


def are_isolated(one: Link, other: Link) -> bool:
    """Whether the bridge keeps two ports from each other: only if both are isolated."""
    return bool(one.port and other.port and one.port.isolated and other.port.isolated)


def isolation(stack: str, one: Link, other: Link) -> Obstacle | None:
    """What keeps two ports of a bridge from each other, ``None`` when nothing does."""
    if not are_isolated(one, other):
        return None
    text = f"{one.name} and {other.name} are isolated ports"
    return Obstacle(Reason.ISOLATED, LinkRef(stack, other.name), text)
