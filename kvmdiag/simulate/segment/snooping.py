"""What a bridge does not flood: by settings of its ports, and by multicast snooping.

Sources: net/bridge/br_forward.c (br_flood, br_multicast_flood), br_multicast.c
(br_multicast_querier_exists).
"""

from __future__ import annotations

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.segment.arp import Arp
from kvmdiag.simulate.segment.obstacles import Obstacle


def flood_obstacle(
    view: StackView,
    bridge: Link,
    port: Link,
    vid: int | None,
    arp: Arp | None,
    *,
    own: bool = False,
) -> Obstacle | None:
    """Why a question for neighbours is not flooded to a port, ``None`` when it is.

    ARP is broadcast, neighbour discovery multicast. Without ``arp`` nothing in particular is
    sent. What the machine sends by the bridge itself (``own``) goes out whatever a port is set
    to; only groups that are known bind it as well.
    """
    if arp is None or port.port is None or not arp.is_question:
        return None
    text = None
    group = str(arp.packet.dst)
    if arp.wanted.version == 4:
        if not port.port.broadcast_flood and not own:
            text = f"{port.name} is not sent broadcasts (bcast_flood off)"
    elif (joined := _joined(view, bridge, group, vid)) is not None and _has_querier(view, bridge):
        if port.name not in joined:
            text = f"{bridge.name} snoops, and does not know that {port.name} wants {group}"
    elif not port.port.multicast_flood and not own:
        text = f"{port.name} is not sent multicasts (mcast_flood off)"
    return None if text is None else Obstacle(Reason.NO_FLOOD, LinkRef(view.name, port.name), text)


def _joined(view: StackView, bridge: Link, group: str, vid: int | None) -> set[str] | None:
    """The ports that joined a group; ``None`` where nobody keeps account."""
    if bridge.bridge is None or not bridge.bridge.multicast_snooping or view.stack.mdb is None:
        return None
    return {
        entry.port
        for entry in view.stack.mdb
        if (entry.bridge, entry.group) == (bridge.name, group)
        and (vid is None or entry.vid in (0, vid))
        and not entry.blocked
    }


def _has_querier(view: StackView, bridge: Link) -> bool:
    """Whether somebody asks for members; else the bridge floods what it does not know.

    Only the bridge's own is known, and for IPv6 that needs an address to ask from.
    """
    if bridge.bridge is None or not bridge.bridge.multicast_querier:
        return False
    return any(True for _ in view.addresses_of(bridge.name, 6))
