"""Adding and removing routes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec

from kvmdiag.actions.keep import keep, keep_link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, Route, Stack

_DEFAULTS = ("0.0.0.0/0", "::/0")


class AddRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Add a route of the main table by ``gateway`` on ``link``. ``destination`` is a CIDR.

    Without a gateway the destination is on the link itself.
    """

    stack: str
    destination: str
    link: str
    gateway: str | None = None

    @property
    def disruptive(self) -> bool:
        """False: it is added only where there was no way at all."""
        return False

    @property
    def _words(self) -> tuple[str, ...]:
        shown = "default" if self.destination in _DEFAULTS else self.destination
        via = () if self.gateway is None else ("via", self.gateway)
        return (shown, *via, "dev", self.link)

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route add ...``."""
        del snapshot  # the command does not depend on what was there
        return (*self._ip, "route", "add", *self._words)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route del ...``."""
        del snapshot
        return (*self._ip, "route", "del", *self._words)

    def persist(self, snapshot: Snapshot) -> str:
        """The lines for netplan and for systemd-networkd."""
        to = self._words[0]
        via = "" if self.gateway is None else f", via: {self.gateway}"
        by = f"Destination={to}" if self.gateway is None else f"Gateway={self.gateway}"
        netplan = f"'routes: [{{to: {to}{via}}}]' under {self.link}"
        networkd = f"'[Route] {by}'"
        way = " ".join(word for word in (self.destination, self.gateway) if word)
        version = 6 if ":" in self.destination else 4
        added = f"'up ip route add {' '.join(self._words)}'"
        ways = {
            "netplan": f"{netplan} in {{name}}; then netplan apply",
            "networkd": f"{networkd} in {{name}}; then networkctl reload",
            "networkmanager": f"nmcli connection modify {{name}} +ipv{version}.routes '{way}'",
            "ifupdown": f"{added} under 'iface {self.link}' in {{name}}",
            "libvirt": f"<route> for {way} in the network's XML: virsh net-edit {{name}}",
            "any": f"netplan: {netplan}; or systemd-networkd: {networkd} in its .network file",
        }
        return keep_link(snapshot, snapshot.stack(self.stack), self.link, ways)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The routes with the new one; a stack whose routes were not read stays unread.

        Where there is a route to that destination with the same metric, the kernel refuses
        another (fib_table_insert, fib6_add_rt2node), and nothing changes. So it does where the
        gateway is not on the link (fib_check_nh).
        """
        stack = snapshot.stack(self.stack)
        metric = 1024 if ":" in self.destination else 0  # IP6_RT_PRIO_USER
        if stack.routes is None or any(
            (route.destination, route.table, route.metric) == (self.destination, 254, metric)
            for route in stack.routes
        ):
            return snapshot
        if self.gateway is not None and not _is_near(stack, self.link, self.gateway):
            return snapshot
        route = Route(
            destination=self.destination,
            metric=metric,
            # ip-route(8) takes a route without a gateway to lead to the link itself.
            scope="link" if self.gateway is None and metric == 0 else "global",
            next_hops=(NextHop(link=self.link, gateway=self.gateway),),
        )
        changed = msgspec.structs.replace(stack, routes=(route, *stack.routes))
        return snapshot.with_stack(changed)

    @property
    def _ip(self) -> tuple[str, ...]:
        return ("ip", "-6") if ":" in self.destination else ("ip",)


class DeleteRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a route exactly as it is in the snapshot."""

    stack: str
    route: Route
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route del ...``."""
        del snapshot
        return (*self._ip, "route", "del", *self._words)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route append ...``, which works also beside another to the same destination."""
        del snapshot
        verb = "append" if self.route.version == 4 else "add"
        return (*self._ip, "route", verb, *self._words, "proto", self.route.protocol)

    def persist(self, snapshot: Snapshot) -> str:
        """By protocol it is known who put it there."""
        who = {
            "dhcp": "use-routes: false (netplan dhcp4-overrides) or UseRoutes=no on that link",
            "kernel": "take the address away from that link's configuration",
        }.get(self.route.protocol, "take it out of netplan, the .network file or the VPN's file")
        return keep(snapshot.stack(self.stack), who)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The routes without it."""
        stack = snapshot.stack(self.stack)
        if stack.routes is None:
            return snapshot
        kept = tuple(route for route in stack.routes if route != self.route)
        return snapshot.with_stack(msgspec.structs.replace(stack, routes=kept))

    @property
    def _words(self) -> tuple[str, ...]:
        return _words(self.route)

    @property
    def _ip(self) -> tuple[str, ...]:
        return _program(self.route)


class ReplaceRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Change a route in place: ``new`` is for the same destination, table and metric."""

    stack: str
    old: Route
    new: Route
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip route replace ...``: there is never a moment without the route."""
        del snapshot  # the command does not depend on what was there
        return self._line(self.new)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The old one in its place."""
        del snapshot
        return self._line(self.old)

    def persist(self, snapshot: Snapshot) -> str:
        """Where the link's routes are configured."""
        how = (
            f"write '{self.new.text}' for '{self.old.text}' where the link's routes are configured"
        )
        if self.old.protocol == "dhcp":
            how = f"the DHCP server gives '{self.old.text}': correct it there"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The routes with the new one in the old one's place (fib_table_insert)."""
        stack = snapshot.stack(self.stack)
        if stack.routes is None:
            return snapshot
        routes = tuple(self.new if route == self.old else route for route in stack.routes)
        return snapshot.with_stack(msgspec.structs.replace(stack, routes=routes))

    def _line(self, route: Route) -> tuple[str, ...]:
        onlink = ("onlink",) if any("onlink" in hop.flags for hop in route.next_hops) else ()
        sizes = {"mtu": route.mtu, "advmss": route.advertised_mss}
        limits = tuple(w for key, n in sizes.items() if n is not None for w in (key, str(n)))
        words = (*_words(route), *onlink, *limits, "proto", route.protocol)
        return (*_program(route), "route", "replace", *words)


def _is_near(stack: Stack, link: str, gateway: str) -> bool:
    """Whether a route without a gateway leads to an address on this very link."""
    address = ip_address(gateway)
    return address.is_link_local or any(
        route.type == "unicast"
        and route.version == address.version
        and any(hop.link == link and hop.gateway is None for hop in route.next_hops)
        and address in ip_network(route.destination, strict=False)
        for route in stack.routes or ()
    )


def _words(route: Route) -> tuple[str, ...]:
    """A route as ip-route(8) takes it."""
    words = route.text.split()
    if route.nexthop:
        # By its object alone: the kernel finds no such route by gateway, link or type.
        words = [route.destination, "nhid", str(route.nexthop)]
        words += ["metric", str(route.metric)] if route.metric else []
    if route.table != 254:
        words += ["table", str(route.table)]
    if route.scope == "link" and not route.nexthop:
        words += ["scope", "link"]
    return tuple(words)


def _program(route: Route) -> tuple[str, ...]:
    return ("ip", "-6") if route.version == 6 else ("ip",)
