"""Which port of a bridge a frame leaves by: the FDB as it is once everybody has spoken.

Sources: net/bridge/br_fdb.c (br_fdb_update), br_forward.c (br_forward, br_flood, should_deliver).
"""

from __future__ import annotations

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import LinkStateRef, Reason, Stage
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.view import View, remembered
from kvmdiag.simulate.segment.obstacles import Obstacle, isolation, port_obstacle
from kvmdiag.simulate.segment.reach import reached_from
from kvmdiag.simulate.segment.vlans import kept_from, tag_of
from kvmdiag.simulate.way.any_of import one_of
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Frame
from kvmdiag.simulate.way.stop import stop


def egress_port(
    journey: Journey,
    stack: str,
    bridge: Link,
    source: Link | None,
    frame: Frame,
    vid: int | None,
) -> Link:
    """The port that leads to the frame's destination.

    That is the port behind which the MAC address is: there the bridge learns it, or gets it to
    by flooding. An entry that somebody made is believed only where nothing is learned that
    would move it (br_fdb_update). ``vid`` is the frame's VLAN where the bridge filters.
    """
    view = journey.stack(stack)
    place = LinkRef(stack, bridge.name)
    entered = source.name if source is not None else None
    towards = _ports_towards(
        journey.view, stack, bridge.name, entered, frame.dst_mac, vid, frame.vlan
    )
    itself = _came_from_itself(source, frame)
    port = None if itself else _only(journey, stack, bridge, towards, frame)
    entry = view.static_fdb.get((bridge.name, frame.dst_mac or "", vid))
    if entry is not None and (entry.sticky or port is None or not _learns(port)):
        ports = view.ports.get(bridge.name, ())
        named = (p for p in ports if p.name == entry.port and _is_way_out(p, source))
        port = next(named, None)
    elif port is not None and not _learns(port) and port.port is not None and not port.port.flood:
        port = None
    obstacle = None
    if port is not None:
        obstacle = _blocked(view, bridge, source, port, vid)
    elif entry is None and not itself:
        port = _out_of_sight(journey.view, view, bridge, source, frame, vid)
    if obstacle is None and port is None:
        text = f"no port of {bridge.name} leads to {frame.dst_mac or 'the next hop'}"
        if itself:
            text += ": that address sent the frame itself, so there it is looked for"
        obstacle = Obstacle(Reason.NO_PORT, place, text)
    if obstacle is not None:
        stop(journey, obstacle, Stage.BRIDGE, frame.packet)
    assert port is not None  # noqa: S101  else there is an obstacle
    return port


def _out_of_sight(
    view: View, here: StackView, bridge: Link, source: Link | None, frame: Frame, vid: int | None
) -> Link | None:
    """A port behind which there is more than can be seen."""
    for port in here.ports.get(bridge.name, ()):
        if not _is_way_out(port, source) or _blocked(here, bridge, source, port, vid) is not None:
            continue
        tag = tag_of(here, port, vid, frame.vlan)
        behind = reached_from(view, here.name, port.name, vlan=tag, despite_obstacles=True)
        if any(place.opens for place in behind):
            return port
    return None


@remembered
def _ports_towards(
    view: View,
    stack: str,
    bridge: str,
    entered: str | None,
    mac: str | None,
    vid: int | None,
    tag: int | None,
) -> tuple[tuple[Link, LinkRef], ...]:
    """The ports behind which a MAC address is, as far as can be seen, and the link that has it.

    ``entered`` is the port by which the frame came in, ``tag`` what it is tagged with.
    """
    machines = view.whereabouts.with_mac(mac)
    here = view.stacks[stack]
    device = here.links[bridge]
    source = here.links[entered] if entered is not None else None
    found = []
    for port in view.whereabouts.ports(stack, bridge, machines):
        if not _is_way_out(port, source):
            continue
        # What is in the way counts only if the address is nowhere else.
        sent = tag_of(here, port, vid, tag)
        free = _blocked(here, device, source, port, vid) is None
        behind = reached_from(
            view, stack, port.name, vlan=sent, despite_obstacles=True, machines=machines
        )
        found += [
            (free and place.obstacle is None, port, LinkRef(place.stack, place.link))
            for place in behind
            if _mac_is_at(view, place.stack, place.link, mac)
        ]
    best = [one for one in found if one[0]] or found
    return tuple((port, place) for _, port, place in best)


def _only(
    journey: Journey,
    stack: str,
    bridge: Link,
    towards: tuple[tuple[Link, LinkRef], ...],
    frame: Frame,
) -> Link | None:
    """The port that a MAC address is behind.

    If it is behind several, on different machines, the bridge takes that of the last that spoke.
    """
    if not towards:
        return None
    places = list(dict.fromkeys(place for _, place in towards))
    ports = list(dict.fromkeys(port.name for port, _ in towards))
    if len(ports) == 1 or len({place.stack for place in places}) == 1:
        return towards[0][0]
    owners = " and ".join(map(str, places))
    what = f"which of {owners} {bridge.name} heard last (both have the MAC address {frame.dst_mac})"
    decider = LinkStateRef(stack=stack, link=bridge.name, text="the FDB")
    ways = [f"is the one at {port}" for port in ports]
    chosen = one_of(journey, stack, bridge.name, Stage.BRIDGE, frame.packet, decider, what, ways)
    return next(port for port, _ in towards if port.name == ports[chosen])


def _came_from_itself(source: Link | None, frame: Frame) -> bool:
    """Whether the destination's MAC address was just learned where the frame came from.

    Two machines have it, and neither's frames reach the other (br_handle_frame_finish learns
    before it looks up; should_deliver sends nothing back).
    """
    if source is None or frame.dst_mac is None or frame.src_mac != frame.dst_mac:
        return False
    return _learns(source) and not _is_way_out(source, source)


def _is_way_out(port: Link, source: Link | None) -> bool:
    """Whether a frame that came by ``source`` may leave by a port: only a hairpin goes back."""
    if source is None or port.name != source.name:
        return True
    return port.port is not None and port.port.hairpin


def _learns(port: Link) -> bool:
    return port.port is None or port.port.learning


def _blocked(
    view: StackView, bridge: Link, source: Link | None, port: Link, vid: int | None
) -> Obstacle | None:
    """What lets nothing through to a port."""
    apart = isolation(view.name, source, port) if source is not None else None
    return apart or port_obstacle(view.name, port) or kept_from(view, bridge, port, vid)


def _mac_is_at(view: View, stack: str, link: str, mac: str | None) -> bool:
    found = view.link(stack, link)
    if found.kind == "bridge":
        return mac is not None and mac in view.stacks[stack].macs[found.name]
    return mac is not None and found.mac == mac
