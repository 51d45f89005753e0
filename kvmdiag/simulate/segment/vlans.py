"""The VLAN tags of frames at bridges that filter by them.

Each port has VLANs of its own, and so has the bridge itself for what the machine sends and
takes by it. An untagged frame belongs to the port's PVID, a tagged one must be in a VLAN of the
port; on its way out the tag is kept or taken off. Without filtering tags mean nothing to a
bridge. Source: net/bridge/br_vlan.c (__allowed_ingress, br_allowed_egress, br_handle_vlan).
"""

from __future__ import annotations

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.segment.obstacles import Obstacle


def filters(view: StackView, bridge: Link) -> bool:
    """Whether a bridge looks at tags.

    Raises:
        NotUnderstood: it does, and at the outer ones of two (802.1ad).

    """
    if bridge.bridge is None or not bridge.bridge.vlan_filtering:
        return False
    if bridge.bridge.vlan_protocol != "802.1Q":
        text = f"{bridge.name} filters by VLANs of {bridge.bridge.vlan_protocol}, not modelled"
        raise NotUnderstood(view.name, text)
    return True


def taken_in(view: StackView, bridge: Link, port: Link, tag: int | None) -> int | Obstacle | None:
    """The VLAN that a frame with that tag belongs to once ``port`` has taken it in.

    ``port`` may be the bridge itself, for what the machine sends by it. ``None`` is a bridge
    that does not filter, and leaves the tag alone.
    """
    if not filters(view, bridge):
        return None
    carried = view.vlans.get(port.name, {})
    if tag:
        return tag if tag in carried else _not_carried(view, port, tag)
    untagged = next((vid for vid, entry in carried.items() if entry.pvid), None)
    if untagged is not None:
        return untagged
    text = f"{port.name} has no PVID: it drops frames without a VLAN tag"
    return Obstacle(Reason.VLAN, LinkRef(view.name, port.name), text)


def kept_from(view: StackView, bridge: Link, port: Link, vid: int | None) -> Obstacle | None:
    """Why frames of a VLAN do not go out by ``port``, or up by the bridge itself."""
    if vid is None or not filters(view, bridge) or vid in view.vlans.get(port.name, {}):
        return None
    return _not_carried(view, port, vid)


def tag_of(view: StackView, port: Link, vid: int | None, tag: int | None) -> int | None:
    """The tag of a frame that goes out by ``port``; ``tag`` is what it came with.

    Where the VLAN does not go it is none, as if the port were put into it.
    """
    if vid is None:
        return tag
    entry = view.vlans.get(port.name, {}).get(vid)
    return None if entry is None or entry.untagged else vid


def _not_carried(view: StackView, port: Link, vid: int) -> Obstacle:
    text = f"{port.name} does not carry VLAN {vid}"
    return Obstacle(Reason.VLAN, LinkRef(view.name, port.name), text)
