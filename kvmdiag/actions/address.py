"""Adding and removing addresses, with the routes that come and go with them."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Literal

import msgspec

from kvmdiag.actions.keep import keep_link
from kvmdiag.actions.link_effects import address_routes, link_named
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, Route, Stack


class _AddressChange(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a link comes or goes; ``address`` is written as ``192.0.2.1/24``."""

    stack: str
    link: str
    address: str

    def _line(self, verb: Literal["add", "del"]) -> tuple[str, ...]:
        return ("ip", "addr", verb, self.address, "dev", self.link)


class AddAddress(_AddressChange, frozen=True, kw_only=True):
    """``ip addr add ADDRESS dev LINK``."""

    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip addr add ADDRESS dev LINK``."""
        del snapshot  # the command does not depend on what was there
        return self._line("add")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip addr del ADDRESS dev LINK``."""
        del snapshot
        return self._line("del")

    def persist(self, snapshot: Snapshot) -> str:
        """Where addresses are configured."""
        address, link = self.address, self.link
        ways = {
            "netplan": f"'addresses: [{address}]' under {link} in {{name}}; then netplan apply",
            "networkd": f"'Address={address}' under [Network] in {{name}}",
            "networkmanager": f"nmcli connection modify {{name}} +ipv4.addresses {address}",
            "ifupdown": f"'address {address}' under 'iface {link}' in {{name}}",
            "libvirt": "the <ip> of the network: virsh net-edit {name}",
            "any": f"'addresses: [{address}]' under {link} in netplan, or Address= in its "
            ".network file",
        }
        return keep_link(snapshot, snapshot.stack(self.stack), link, ways)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The address, and on a link that is up its routes."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if stack.addresses is None or link is None:
            return snapshot
        found = ip_interface(self.address)
        new = Address(link=self.link, address=str(found.ip), prefix_length=found.network.prefixlen)
        routes = stack.routes
        if routes is not None and link.up and found.version == 4:
            flags = frozenset() if link.carrier else frozenset({"linkdown"})
            routes = (*routes, *(_flagged(route, flags) for route in address_routes(new)))
        changed = msgspec.structs.replace(stack, addresses=(*stack.addresses, new), routes=routes)
        return snapshot.with_stack(changed)


class DeleteAddress(_AddressChange, frozen=True, kw_only=True):
    """``ip addr del ADDRESS dev LINK``."""

    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip addr del ADDRESS dev LINK``."""
        del snapshot
        return self._line("del")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip addr add ADDRESS dev LINK``; routes by way of it must be added again."""
        del snapshot
        return self._line("add")

    def persist(self, snapshot: Snapshot) -> str:
        """The file that gives the link its address must not."""
        address, link = self.address, self.link
        ways = {
            "netplan": f"take {address} (or dhcp4) from under {link} in {{name}}",
            "networkd": f"take 'Address={address}' (or DHCP=) out of {{name}}",
            "networkmanager": f"nmcli connection modify {{name}} -ipv4.addresses {address}",
            "ifupdown": f"'iface {link} inet manual' in {{name}}",
            "any": f"take {address} (or dhcp4) of {link} out of netplan or its .network file",
        }
        return keep_link(snapshot, snapshot.stack(self.stack), link, ways)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """Without the address, its routes, and those that prefer it as source (fib_del_ifaddr)."""
        stack = snapshot.stack(self.stack)
        if stack.addresses is None:
            return snapshot
        kept = tuple(a for a in stack.addresses if not self._is(a))
        return snapshot.with_stack(
            msgspec.structs.replace(stack, addresses=kept, routes=self._routes(stack))
        )

    def _is(self, address: Address) -> bool:
        return address.link == self.link and address.network == self.address

    def _routes(self, stack: Stack) -> tuple[Route, ...] | None:
        if stack.routes is None:
            return None
        ip = str(ip_interface(self.address).ip)
        mine = [a for a in stack.addresses or () if a.link == self.link and a.address == ip]
        kept = {_way(route) for a in mine if not self._is(a) for route in address_routes(a)}
        if kept:
            # The link has it with another prefix length still (fib_del_ifaddr).
            gone = {_way(route) for a in mine for route in address_routes(a)} - kept
            return tuple(route for route in stack.routes if _way(route) not in gone)
        return tuple(
            route
            for route in stack.routes
            if route.preferred_source != ip
            or not all(hop.link == self.link for hop in route.next_hops)
        )


def _way(route: Route) -> tuple[object, ...]:
    """What makes two routes the same, whatever became of their link since."""
    links = tuple(hop.link for hop in route.next_hops)
    return (route.destination, route.table, route.type, route.preferred_source, links)


def _flagged(route: Route, flags: frozenset[str]) -> Route:
    hops = tuple(msgspec.structs.replace(hop, flags=flags) for hop in route.next_hops)
    return msgspec.structs.replace(route, next_hops=hops)
