"""Links that stand on others: VLANs, macvlans and macvtaps, bonds.

Sources: net/8021q/vlan_core.c (vlan_do_receive), drivers/net/macvlan.c (macvlan_queue_xmit,
macvlan_handle_frame), drivers/net/bonding/bond_main.c (bond_should_deliver_exact_match).
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.obstacles import Obstacle
from kvmdiag.simulate.unread import NotUnderstood
from kvmdiag.simulate.view import StackView

_ONE_OF_THEM = "active-backup"


def vlan_device(view: StackView, lower: str, vid: int) -> Link | None:
    """The link that takes frames with that tag from a lower one, before its bridge gets them."""
    for link in view.uppers.get(lower, ()):
        if link.vlan is not None and (link.vlan.vid, link.vlan.protocol) == (vid, "802.1Q"):
            return link
    return None


def untaken(stack: str, lower: str, vid: int) -> Obstacle:
    """A frame with a tag that no VLAN link on a lower one takes."""
    text = f"nothing on {lower} takes frames of VLAN {vid}"
    return Obstacle(Reason.VLAN, LinkRef(stack, lower), text)


def macvlans(view: StackView, lower: str) -> Iterator[Link]:
    """The macvlans and macvtaps on a link."""
    for link in view.uppers.get(lower, ()):
        if link.macvlan is not None:
            if link.macvlan.mode == "source":
                raise NotUnderstood(view.name, f"macvlans of mode source ({link.name})")
            yield link


def siblings(view: StackView, link: Link) -> Iterator[Link]:
    """Those on the same lower link to which a macvlan sends without the wire: in mode bridge."""
    if link.macvlan is not None and link.macvlan.mode == "bridge" and link.lower is not None:
        for other in macvlans(view, link.lower):
            if other.name != link.name and other.macvlan and other.macvlan.mode == "bridge":
                yield other


def taker(view: StackView, lower: str, mac: str | None) -> Link | None:
    """The macvlan that takes a frame for one MAC address from its lower link.

    A passthru one takes whatever comes.
    """
    for link in macvlans(view, lower):
        if link.macvlan is not None and (link.macvlan.mode == "passthru" or link.mac == mac):
            return link
    return None


def gets_broadcasts(view: StackView, lower: str) -> Iterator[Link]:
    """The macvlans that hear what comes in by their lower link for all."""
    return macvlans(view, lower)


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
