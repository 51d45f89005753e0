"""Links that stand on others, of the same stack or another: VLANs, macvlans, macvtaps, bonds.

Sources: net/8021q/vlan_core.c (vlan_do_receive), drivers/net/macvlan.c (macvlan_queue_xmit,
macvlan_handle_frame), drivers/net/bonding/bond_main.c (bond_should_deliver_exact_match).
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.facts.whereabouts import Upper
from kvmdiag.simulate.segment.obstacles import Obstacle

_ONE_OF_THEM = "active-backup"


def lower_of(stack: str, link: Link) -> LinkRef | None:
    """The link that another one stands on."""
    if link.below is not None:
        return link.below
    return LinkRef(stack, link.lower) if link.lower is not None else None


def vlan_device(view: View, stack: str, lower: str, vid: int) -> Upper | None:
    """The link that takes frames with that tag from a lower one, before its bridge gets them."""
    for upper in view.uppers.get((stack, lower), ()):
        vlan = upper.link.vlan
        if vlan is not None and (vlan.vid, vlan.protocol) == (vid, "802.1Q"):
            return upper
    return None


def untaken(stack: str, lower: str, vid: int) -> Obstacle:
    """A frame with a tag that no VLAN link on a lower one takes."""
    text = f"nothing on {lower} takes frames of VLAN {vid}"
    return Obstacle(Reason.VLAN, LinkRef(stack, lower), text)


def macvlans(view: View, lower: LinkRef) -> Iterator[Upper]:
    """The macvlans and macvtaps on a link.

    Raises:
        NotUnderstood: one of them takes frames by their source (mode source).

    """
    for upper in view.uppers.get((lower.stack, lower.link), ()):
        macvlan = upper.link.macvlan
        if macvlan is not None:
            if macvlan.mode == "source":
                text = f"macvlans of mode source ({upper.link.name}) are not modelled"
                raise NotUnderstood(upper.stack, text)
            yield upper


def hearers(view: View, lower: LinkRef, source: str | None) -> tuple[tuple[Upper, ...], bool]:
    """The macvlans that hear what comes in for all, and whether their lower link does as well.

    What one of them sent itself (``source`` is the MAC address) and somebody outside sent back
    is heard by those alone that its mode lets it speak to, and did not hear it yet.
    """
    mine = tuple(macvlans(view, lower))
    sender = next((one for one in mine if one.link.mac == source), None)
    mode = _mode(sender.link) if sender is not None else None
    if sender is None or mode is None:
        return mine, True
    if mode not in _HEARD_BACK_BY:
        return (sender,), False
    modes = _HEARD_BACK_BY[mode]
    return tuple(one for one in mine if one is not sender and _mode(one.link) in modes), True


# macvlan_multicast_rx
_HEARD_BACK_BY = {"vepa": ("vepa", "bridge"), "bridge": ("vepa",)}


def _mode(link: Link) -> str | None:
    return link.macvlan.mode if link.macvlan is not None else None


def siblings(view: View, stack: str, link: Link) -> Iterator[Upper]:
    """Those on the same lower link to which a macvlan sends without the wire: in mode bridge."""
    lower = lower_of(stack, link)
    if lower is not None and _mode(link) == "bridge":
        for other in macvlans(view, lower):
            itself = (other.stack, other.link.name) == (stack, link.name)
            if _mode(other.link) == "bridge" and not itself:
                yield other


def taker(view: View, lower: LinkRef, mac: str | None) -> Upper | None:
    """The macvlan that takes a frame for one MAC address from its lower link.

    A passthru one takes whatever comes.
    """
    for upper in macvlans(view, lower):
        if is_passthru(upper.link) or upper.link.mac == mac:
            return upper
    return None


def is_passthru(link: Link) -> bool:
    """Whether it is the one macvlan to which its lower link belongs altogether."""
    return _mode(link) == "passthru"


def bond_ports(view: StackView, link: Link) -> tuple[Link, ...]:
    """The ports by which a bond sends: the active one alone, or any of those that are up.

    Empty for what is no bond, and for one without any port that works.
    """
    if link.kind != "bond":
        return ()
    ports = view.ports.get(link.name, ())
    if link.bond is not None and link.bond.mode == _ONE_OF_THEM:
        return tuple(port for port in ports if port.name == link.bond.active)
    return tuple(port for port in ports if port.up and port.carrier)


def stands_by(stack: str, port: Link, bond: Link) -> Obstacle | None:
    """Why a bond takes nothing from a port: that one is not the active one."""
    if port.bond_port is None or port.bond_port.state != "backup":
        return None
    text = f"{port.name} stands by: {bond.name} takes nothing from it"
    return Obstacle(Reason.PORT_STATE, LinkRef(stack, port.name), text)
