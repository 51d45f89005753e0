"""Which machines a broadcast sent on a link reaches: the layer 2 segment.

Used to find who answers ARP, and which port of a bridge leads to a MAC address. Obstacles
(links that are down, port states, isolation) stop the real search; the search that ignores
them tells which obstacle stands between two machines that should see each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.trace import Decider, LinkStateRef, Reason, RuleRef
from kvmdiag.simulate.arp import Arp, stopped_by
from kvmdiag.simulate.view import StackView, View
from kvmdiag.simulate.whereabouts import Machines


@dataclass(frozen=True, slots=True)
class Obstacle:
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


@dataclass(frozen=True, slots=True)
class Reached:
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
    arp: Arp | None = None,
    despite_obstacles: bool = False,
    machines: Machines | None = None,
) -> Iterator[Reached]:
    """Everything that a broadcast sent out of ``link`` of ``stack`` comes to.

    With ``arp`` it must also get past the rules of the bridges on its way. With ``machines``
    what leads to others only is left out.
    """
    for found in _Search(view, arp, machines).leave(stack, link, None):
        if found.obstacle is None or despite_obstacles:
            yield found


def port_obstacle(stack: str, port: Link) -> Obstacle | None:
    """Why a bridge port neither takes nor gives frames, ``None`` when it does."""
    place = LinkRef(stack, port.name)
    down = link_obstacle(stack, port)
    if down is not None:
        return down
    if port.port is not None and port.port.state != "forwarding":
        return Obstacle(Reason.PORT_STATE, place, f"port {port.name} is {port.port.state}")
    return None


def link_obstacle(stack: str, link: Link) -> Obstacle | None:
    """Why a link passes nothing, ``None`` when it does."""
    place = LinkRef(stack, link.name)
    if not link.up:
        return Obstacle(Reason.LINK_DOWN, place, f"{link.name} is set down")
    if not link.carrier:
        return Obstacle(Reason.NO_CARRIER, place, f"{link.name} has no carrier")
    return None


def meets_ip(view: StackView, bridge: Link, version: int) -> bool:
    """Whether br_netfilter shows a bridge's frames to the hooks of IP: sysctl or bridge flag."""
    if bridge.bridge is None:
        return False
    if version == 4:
        name, flag = "bridge-nf-call-iptables", bridge.bridge.nf_call_iptables
    else:
        name, flag = "bridge-nf-call-ip6tables", bridge.bridge.nf_call_ip6tables
    return flag or bool(view.sysctl(f"net.bridge.{name}"))


def are_isolated(one: Link, other: Link) -> bool:
    """Whether the bridge keeps two ports from each other: only if both are isolated."""
    return bool(one.port and other.port and one.port.isolated and other.port.isolated)


class _Search:
    def __init__(self, view: View, arp: Arp | None, machines: Machines | None) -> None:
        self._view = view
        self._machines = machines
        self._arp = arp
        self._seen: set[tuple[str, str, str]] = set()

    def leave(self, stack: str, name: str, obstacle: Obstacle | None) -> Iterator[Reached]:
        """A broadcast goes out of a link."""
        if self._again("out", stack, name):
            return
        link = self._view.link(stack, name)
        obstacle = obstacle or self._rules(stack, None, name, "egress", family="netdev")
        if link.kind == "bridge":
            obstacle = obstacle or _admin_obstacle(stack, link)
            for port in self._ports(stack, name):
                blocked = obstacle or port_obstacle(stack, port)
                blocked = blocked or self._rules(stack, None, port.name, "output", "postrouting")
                yield from self.leave(stack, port.name, blocked)
        elif link.peer is not None:
            obstacle = obstacle or self._cable_obstacle(stack, link)
            yield from self._enter(link.peer.stack, link.peer.link, obstacle)
        elif not link.is_loopback:
            yield Reached(stack, name, True, obstacle or link_obstacle(stack, link))

    def _enter(self, stack: str, name: str, obstacle: Obstacle | None) -> Iterator[Reached]:
        """A broadcast comes in by a link."""
        if self._again("in", stack, name):
            return
        link = self._view.link(stack, name)
        obstacle = obstacle or self._rules(stack, name, None, "ingress", family="netdev")
        bridge = self._view.stacks[stack].links.get(link.master or "")
        if bridge is None or bridge.kind != "bridge":
            yield Reached(stack, name, obstacle=obstacle)
            return
        obstacle = obstacle or port_obstacle(stack, link) or _admin_obstacle(stack, bridge)
        obstacle = obstacle or self._rules(stack, name, None, "prerouting")
        ends = obstacle or self._rules(stack, name, None, "input")
        yield Reached(stack, bridge.name, obstacle=ends)
        for port in self._ports(stack, bridge.name):
            if port.name == name:
                continue
            blocked = obstacle or port_obstacle(stack, port)
            if blocked is None and are_isolated(link, port):
                place = LinkRef(stack, port.name)
                text = f"{name} and {port.name} are isolated ports"
                blocked = Obstacle(Reason.ISOLATED, place, text)
            blocked = blocked or self._rules(stack, name, port.name, "forward")
            blocked = blocked or self._rules(stack, None, port.name, "postrouting")
            yield from self.leave(stack, port.name, blocked)

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

    def _cable_obstacle(self, stack: str, link: Link) -> Obstacle | None:
        """A cable with an end set down; that end is named, not the one that lost carrier."""
        assert link.peer is not None  # noqa: S101  the caller looked
        far = self._view.link(link.peer.stack, link.peer.link)
        if link.up and not far.up:
            return link_obstacle(link.peer.stack, far)
        return link_obstacle(stack, link)

    def _again(self, way: str, stack: str, link: str) -> bool:
        key = (way, stack, link)
        if key in self._seen:
            return True
        self._seen.add(key)
        return False


def _admin_obstacle(stack: str, bridge: Link) -> Obstacle | None:
    # A bridge loses carrier with its last port; that alone stops no frame.
    return None if bridge.up else link_obstacle(stack, bridge)
