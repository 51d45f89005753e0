"""Which machines a broadcast sent on a link reaches: the layer 2 segment.

Used to find who answers ARP, and which port of a bridge leads to a MAC address. Obstacles
(links that are down, port states, isolation, VLANs that are not carried) stop the real search;
the search that ignores them tells which obstacle stands between two machines that should see
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.trace import Reason, RuleRef
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.facts.whereabouts import Machines, Upper
from kvmdiag.simulate.segment.arp import Arp, stopped_by
from kvmdiag.simulate.segment.obstacles import (
    Obstacle,
    admin_obstacle,
    cable_obstacle,
    isolation,
    link_obstacle,
    port_obstacle,
)
from kvmdiag.simulate.segment.snooping import flood_obstacle
from kvmdiag.simulate.segment.stacked import (
    bond_ports,
    hearers,
    lower_of,
    siblings,
    stands_by,
    untaken,
    vlan_device,
)
from kvmdiag.simulate.segment.tunnels import peers
from kvmdiag.simulate.segment.vlans import kept_from, tag_of, taken_in


class Reached(msgspec.Struct, frozen=True):
    """An IP-level link that the broadcast comes to, or a place where it leaves our sight.

    ``opens`` is true for the latter: an uplink, or the tap of a guest whose inside is not
    seen. ``obstacle`` is the first one on the way, ``None`` on a free way.
    """

    stack: str
    link: str
    opens: bool = False
    obstacle: Obstacle | None = None


def reached_from(
    view: View,
    stack: str,
    link: str,
    *,
    vlan: int | None = None,
    incoming: bool = False,
    arp: Arp | None = None,
    despite_obstacles: bool = False,
    machines: Machines | None = None,
) -> Iterator[Reached]:
    """Everything that a broadcast sent out of ``link`` of ``stack`` comes to.

    ``vlan`` is the tag it is sent with; ``incoming`` is one that comes in there. With ``arp``
    it must also get past the rules of the bridges on its way. With ``machines`` what leads to
    others only is left out.
    """
    search = _Search(view, arp, machines)
    begin = search.enter if incoming else search.leave
    for found in begin(stack, link, vlan, None):
        if found.obstacle is None or despite_obstacles:
            yield found


def meets_ip(view: StackView, bridge: Link, version: int) -> bool:
    """Whether br_netfilter shows a bridge's frames to the hooks of IP: sysctl or bridge flag."""
    if bridge.bridge is None:
        return False
    if version == 4:
        name, flag = "bridge-nf-call-iptables", bridge.bridge.nf_call_iptables
    else:
        name, flag = "bridge-nf-call-ip6tables", bridge.bridge.nf_call_ip6tables
    return flag or bool(view.sysctl(f"net.bridge.{name}"))


class _Search:
    def __init__(self, view: View, arp: Arp | None, machines: Machines | None) -> None:
        self._view = view
        self._machines = machines
        self._arp = arp
        self._seen: set[tuple[str, str, str, int | None]] = set()
        self._seen_freely: set[tuple[str, str, str, int | None]] = set()

    def leave(
        self, stack: str, name: str, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """A broadcast goes out of a link."""
        if self._again("out", stack, name, vlan, obstacle):
            return
        link = self._view.link(stack, name)
        obstacle = obstacle or self._rules(stack, None, name, "egress", family="netdev")
        if link.kind == "bridge":
            yield from self._leave_bridge(stack, link, vlan, obstacle)
        elif link.vlan is not None and (lower := lower_of(stack, link)) is not None:
            blocked = obstacle or link_obstacle(stack, link)
            yield from self.leave(lower.stack, lower.link, link.vlan.vid, blocked)
        elif link.macvlan is not None and (lower := lower_of(stack, link)) is not None:
            yield from self._leave_macvlan(stack, link, lower, vlan, obstacle)
        elif ports := bond_ports(self._view.stacks[stack], link):
            for port in ports:
                yield from self.leave(stack, port.name, vlan, obstacle)
        elif link.vxlan is not None:
            yield from self._leave_tunnel(stack, link, vlan, obstacle)
        elif link.peer is not None:
            obstacle = obstacle or cable_obstacle(self._view, stack, link)
            yield from self.enter(link.peer.stack, link.peer.link, vlan, obstacle)
        elif not link.is_loopback:
            yield Reached(stack, name, True, obstacle or link_obstacle(stack, link))

    def _leave_bridge(
        self, stack: str, bridge: Link, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """The machine itself sends by its bridge."""
        view = self._view.stacks[stack]
        obstacle = obstacle or admin_obstacle(stack, bridge)
        vid = taken_in(view, bridge, bridge, vlan)
        if isinstance(vid, Obstacle):
            obstacle, vid = obstacle or vid, None
        for port in self._ports(stack, bridge.name):
            blocked = obstacle or port_obstacle(stack, port) or kept_from(view, bridge, port, vid)
            blocked = blocked or flood_obstacle(view, bridge, port, vid, self._arp, own=True)
            blocked = blocked or self._rules(stack, None, port.name, "output", "postrouting")
            yield from self.leave(stack, port.name, tag_of(view, port, vid, vlan), blocked)

    def _leave_macvlan(
        self, stack: str, link: Link, lower: LinkRef, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """Out by the lower link, and to the siblings that this one may speak to."""
        obstacle = obstacle or link_obstacle(stack, link)
        for other in siblings(self._view, stack, link):
            yield from self._give(other, vlan, obstacle)
        yield from self.leave(lower.stack, lower.link, vlan, obstacle)

    def _leave_tunnel(
        self, stack: str, link: Link, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """To all peers; whether what carries it gets there is not asked here."""
        obstacle = obstacle or link_obstacle(stack, link)
        for peer in peers(self._view, stack, link, None):
            if peer.end is None:
                yield Reached(stack, link.name, True, obstacle)
            else:
                yield from self.enter(peer.end.stack, peer.end.link, vlan, obstacle)

    def enter(
        self, stack: str, name: str, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """A broadcast comes in by a link."""
        if self._again("in", stack, name, vlan, obstacle):
            return
        link = self._view.link(stack, name)
        if link.kind == "macvtap":
            # What comes in by it comes from the program that holds it.
            yield from self.leave(stack, name, vlan, obstacle)
            return
        obstacle = obstacle or self._rules(stack, name, None, "ingress", family="netdev")
        view = self._view.stacks[stack]
        if vlan and (device := vlan_device(self._view, stack, name, vlan)) is not None:
            yield from self.enter(device.stack, device.link.name, None, obstacle)
            return
        master = view.links.get(link.master or "")
        if master is not None and master.kind == "bridge":
            yield from self._enter_bridge(view, link, master, vlan, obstacle)
            return
        if master is not None and master.kind == "bond":
            if stands_by(stack, link, master) is None:
                yield from self.enter(stack, master.name, vlan, obstacle)
            return
        sender = self._arp.src_mac if self._arp is not None else None
        children, itself = hearers(self._view, LinkRef(stack, name), sender)
        for child in children:
            yield from self._give(child, vlan, obstacle)
        if itself:
            yield from self._up(stack, name, vlan, obstacle)

    def _give(self, to: Upper, vlan: int | None, obstacle: Obstacle | None) -> Iterator[Reached]:
        """A macvlan hears a broadcast; a macvtap hands it to its program."""
        stack, link = to
        obstacle = obstacle or (None if link.up else link_obstacle(stack, link))
        if link.kind != "macvtap":
            yield from self.enter(stack, link.name, vlan, obstacle)
        elif link.peer is not None:
            yield from self.enter(link.peer.stack, link.peer.link, vlan, obstacle)
        else:
            yield Reached(stack, link.name, True, obstacle)

    def _up(
        self, stack: str, name: str, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """A broadcast goes up from a link, to IP or to the VLAN of its tag."""
        if not vlan:
            yield Reached(stack, name, obstacle=obstacle)
        elif (device := vlan_device(self._view, stack, name, vlan)) is not None:
            yield from self.enter(device.stack, device.link.name, None, obstacle)
        else:
            yield Reached(stack, name, obstacle=obstacle or untaken(stack, name, vlan))

    def _enter_bridge(
        self, view: StackView, link: Link, bridge: Link, vlan: int | None, obstacle: Obstacle | None
    ) -> Iterator[Reached]:
        """A broadcast comes in by a port: up to the machine, and out by the other ports."""
        stack, name = view.name, link.name
        obstacle = obstacle or port_obstacle(stack, link) or admin_obstacle(stack, bridge)
        obstacle = obstacle or self._rules(stack, name, None, "prerouting")
        vid = taken_in(view, bridge, link, vlan)
        if isinstance(vid, Obstacle):
            obstacle, vid = obstacle or vid, None
        ends = obstacle or self._rules(stack, name, None, "input")
        ends = ends or kept_from(view, bridge, bridge, vid)
        yield from self._up(stack, bridge.name, tag_of(view, bridge, vid, vlan), ends)
        for port in self._ports(stack, bridge.name):
            if port.name == name and not (port.port is not None and port.port.hairpin):
                continue
            blocked = obstacle or port_obstacle(stack, port) or isolation(stack, link, port)
            blocked = blocked or kept_from(view, bridge, port, vid)
            blocked = blocked or flood_obstacle(view, bridge, port, vid, self._arp)
            blocked = blocked or self._rules(stack, name, port.name, "forward")
            blocked = blocked or self._rules(stack, None, port.name, "postrouting")
            yield from self.leave(stack, port.name, tag_of(view, port, vid, vlan), blocked)

    def _ports(self, stack: str, bridge: str) -> Sequence[Link]:
        return self._view.whereabouts.ports(stack, bridge, self._machines)

    def _rules(
        self,
        stack: str,
        in_link: str | None,
        out_link: str | None,
        *hooks: HookName,
        family: Family = "bridge",
    ) -> Obstacle | None:
        """Rules that drop the ARP message at one of the hooks."""
        if self._arp is None:
            return None
        view = self._view.stacks[stack]
        if not view.filters_frames and self._arp.packet.family != "ip6":
            return None
        for hook in hooks:
            rule = stopped_by(view, self._arp, family, hook, in_link, out_link)
            rule = rule or self._ip_rules(view, hook, in_link or out_link or "")
            if rule is not None:
                place = LinkRef(stack, in_link or out_link or "")
                text = f"{self._arp.name} is dropped: {rule.text}"
                return Obstacle(Reason.NETFILTER, place, text, rule)
        return None

    def _ip_rules(self, view: StackView, hook: HookName, port: str) -> RuleRef | None:
        """Of neighbour discovery br_netfilter shows the hooks of IPv6 what is bridged."""
        bridge = view.links.get(view.links[port].master or "")
        if self._arp is None or self._arp.packet.family != "ip6" or bridge is None:
            return None
        if hook not in ("prerouting", "forward", "postrouting") or not meets_ip(view, bridge, 6):
            return None
        into = None if hook == "postrouting" else bridge.name
        out = None if hook == "prerouting" else bridge.name
        return stopped_by(view, self._arp, "ip6", hook, into, out)

    def _again(
        self, way: str, stack: str, link: str, vlan: int | None, obstacle: Obstacle | None
    ) -> bool:
        """Whether this was come by before; a free way counts though another was not."""
        key = (way, stack, link, vlan)
        if key in self._seen_freely or (obstacle is not None and key in self._seen):
            return True
        (self._seen if obstacle is not None else self._seen_freely).add(key)
        return False
