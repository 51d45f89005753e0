"""The forwarding information base: policy rules and routes, looked up as the kernel does.

Sources: net/core/fib_rules.c (fib_rules_lookup), net/ipv4/fib_trie.c (fib_table_lookup),
net/ipv4/fib_rules.c (fib4_rule_match, fib4_rule_suppress).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from ipaddress import ip_network

import msgspec

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.stack import NextHop, PolicyRule, Route
from kvmdiag.model.trace import RouteRef
from kvmdiag.simulate.facts.addresses import bounds
from kvmdiag.simulate.facts.unread import NotUnderstood

_BITS = {4: 32, 6: 128}
_LOCAL = 255

# Types of rules and routes that say no (fib_props in net/ipv4/fib_semantics.c).
_REFUSALS = frozenset({"blackhole", "unreachable", "prohibit", "throw"})

# A rule for all routing domains does not apply elsewhere (l3mdev_fib_rule_match).
_OF_DOMAINS = ("l3mdev",)


class Flow(msgspec.Struct, frozen=True):
    """What a lookup is made with (struct flowi). ``iif`` is ``lo`` for the stack's own packets."""

    dst: IPAddress
    src: IPAddress | None = None
    iif: str = "lo"
    oif: str | None = None
    mark: int = 0
    proto: str | None = None
    sport: int | None = None
    dport: int | None = None


def flow_of(packet: Packet, iif: str) -> Flow:
    """What an incoming packet is routed by."""
    return Flow(
        dst=packet.dst,
        src=packet.src,
        iif=iif,
        mark=packet.mark,
        proto=packet.proto,
        sport=packet.sport,
        dport=packet.dport,
    )


class Found(msgspec.Struct, frozen=True):
    """A route and the next hop taken; ``others`` are those it could have been as well (ECMP)."""

    route: Route
    hop: NextHop
    ref: RouteRef
    others: tuple[NextHop, ...] = ()

    @property
    def refusal(self) -> str | None:
        """``blackhole``, ``unreachable`` or ``prohibit`` when the route says no."""
        return self.route.type if self.route.type in _REFUSALS else None

    @property
    def gateway(self) -> str | None:
        """The next router, ``None`` when the destination is on the link itself."""
        return self.hop.gateway

    @property
    def link(self) -> str | None:
        """The outgoing link; what a stack sends to itself goes by its loopback."""
        return "lo" if self.route.type == "local" else self.hop.link


class Fib:
    """Routes and policy rules of one stack, ready for longest-prefix lookups.

    ``domains`` are the links of routing domains (VRFs), which rules for all domains are about.
    """

    def __init__(
        self,
        stack: str,
        routes: tuple[Route, ...],
        rules: tuple[PolicyRule, ...],
        domains: frozenset[str] = frozenset(),
    ) -> None:
        self._stack = stack
        self._domains = domains
        self._tables: dict[tuple[int, int], _Table] = {}
        self._routes = routes
        self._refs: dict[int, RouteRef] = {}
        for route in routes:
            table = self._tables.setdefault((route.version, route.table), _Table(route.version))
            table.add(route)
        # sorted() is stable: rules of one priority keep the kernel's order.
        self._rules = {
            version: sorted(
                (rule for rule in rules if rule.version == version),
                key=lambda rule: rule.priority,
            )
            for version in (4, 6)
        }
        self.has_custom_rules = any(
            rule.priority not in (0, 32766, 32767) for rule in self._rules[4]
        )
        self.rules_ask_for_ports = any(
            rule.protocol or rule.source_ports or rule.destination_ports for rule in self._rules[4]
        )
        self.has_custom_local_routes = any(
            route.table != _LOCAL and route.type == "local" and route.version == 4
            for route in routes
        )

    def lookup(self, flow: Flow) -> Found | None:
        """The route for a flow, ``None`` when there is none.

        Raises:
            NotUnderstood: a policy rule that may apply has a selector we do not know.
        """
        version = flow.dst.version
        rules = self._rules[version]
        position = 0
        while position < len(rules):
            rule = rules[position]
            position += 1
            if not _selects(rule, flow):
                continue
            if rule.unknown == _OF_DOMAINS and not self._domains & {flow.iif, flow.oif}:
                continue
            if rule.unknown:
                raise NotUnderstood(
                    self._stack, f"policy rule {rule.priority} has {', '.join(rule.unknown)}"
                )
            if rule.action == "goto":
                position = next(
                    (i for i, r in enumerate(rules) if r.priority == rule.goto), len(rules)
                )
                continue
            if rule.action in _REFUSALS:
                return self._refused(rule, flow)
            if rule.action != "lookup" or rule.table is None:
                continue
            found = self._lookup_table(rule, flow)
            if found is not None and found.route.type != "throw":
                return found
        return None

    def _lookup_table(self, rule: PolicyRule, flow: Flow) -> Found | None:
        table = self._tables.get((flow.dst.version, rule.table or 0))
        if table is None:
            return None
        for route, hops in table.matches(flow):
            limit = rule.suppress_prefix_length
            if limit is not None and route.type == "unicast":
                length = int(route.destination.partition("/")[2])
                if length <= limit:
                    return None
            return Found(route, hops[0], self._ref(route), hops[1:])
        return None

    def _ref(self, route: Route) -> RouteRef:
        """Names a route; made once for each, since it takes longer than to find it."""
        found = self._refs.get(id(route))
        if found is None:
            found = RouteRef(stack=self._stack, table=route.table, text=route.text)
            self._refs[id(route)] = found
        return found

    def _refused(self, rule: PolicyRule, flow: Flow) -> Found:
        everything = "0.0.0.0/0" if flow.dst.version == 4 else "::/0"
        route = Route(destination=everything, type=rule.action)
        text = f"ip rule {rule.priority}: {rule.action}"
        return Found(route, NextHop(), RouteRef(stack=self._stack, table=0, text=text))


class _Table:
    """Routes of one table by prefix length and network; all are added before any is looked up."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._by_host_bits: dict[int, dict[int, list[Route]]] = {}

    def add(self, route: Route) -> None:
        network = ip_network(route.destination, strict=False)
        nets = self._by_host_bits.setdefault(_BITS[self._version] - network.prefixlen, {})
        nets.setdefault(int(network.network_address), []).append(route)

    @cached_property
    def _longest_first(self) -> tuple[tuple[int, dict[int, list[Route]]], ...]:
        """The number of host bits with the networks of that size, each with its routes in order."""
        for nets in self._by_host_bits.values():
            for routes in nets.values():
                routes.sort(key=_order)
        return tuple(sorted(self._by_host_bits.items()))

    def matches(self, flow: Flow) -> Iterator[tuple[Route, tuple[NextHop, ...]]]:
        """Usable routes, the longest prefix and then the lowest metric first."""
        number = int(flow.dst)
        for free, nets in self._longest_first:
            here = nets.get(number >> free << free)
            if here is None:
                continue
            if len(here) > 1 and self._version == 6 and flow.iif != "lo":
                here = sorted(here, key=lambda route: _order(route, flow.iif))
            for route in here:
                hops = _usable_hops(route, flow)
                if hops:
                    yield route, hops


_NOWHERE = (NextHop(),)


def _order(route: Route, iif: str | None = None) -> tuple[int, int, bool]:
    """The order in which routes to one network are tried.

    With IPv6 those come first that look closely at the source (fib6_node_lookup_1), and of
    equals one that leads back out by where the packet came in (rt6_score_route).
    """
    closely = int(route.source.partition("/")[2]) if route.source is not None else 0
    back = iif is not None and any(hop.link == iif for hop in route.next_hops)
    return -closely, route.metric, not back


def _usable_hops(route: Route, flow: Flow) -> tuple[NextHop, ...]:
    """The next hops that are alive and leave by the link asked for."""
    if route.tos:
        return ()
    if route.source is not None and (flow.src is None or not _within(flow.src, route.source)):
        return ()
    hops = route.next_hops
    if not hops:
        return _NOWHERE
    oif = flow.oif
    if len(hops) == 1:
        hop = hops[0]
        return () if "dead" in hop.flags or (oif is not None and hop.link != oif) else hops
    return tuple(
        hop for hop in hops if "dead" not in hop.flags and (oif is None or hop.link == oif)
    )


def _selects(rule: PolicyRule, flow: Flow) -> bool:
    """Whether a policy rule applies, as far as its known selectors tell."""
    chosen = (
        (rule.source is None or (flow.src is not None and _within(flow.src, rule.source)))
        and (rule.destination is None or _within(flow.dst, rule.destination))
        and (rule.iif is None or rule.iif == flow.iif)
        and (rule.oif is None or rule.oif == flow.oif)
        and _marked(rule, flow.mark)
        and (rule.protocol is None or rule.protocol == flow.proto)
        and _in_range(rule.source_ports, flow.sport)
        and _in_range(rule.destination_ports, flow.dport)
        and not rule.tos
    )
    return chosen != rule.invert


def _marked(rule: PolicyRule, mark: int) -> bool:
    if rule.fwmark is None and rule.fwmask is None:
        return True
    mask = 0xFFFFFFFF if rule.fwmask is None else rule.fwmask
    return not ((rule.fwmark or 0) ^ mark) & mask


def _in_range(ports: tuple[int, int] | None, port: int | None) -> bool:
    return ports is None or (port is not None and ports[0] <= port <= ports[1])


def _within(address: IPAddress, network: str) -> bool:
    span = bounds(network)
    return span is not None and address.version == span[0] and span[1] <= int(address) <= span[2]
