"""The gateways of a machine, and those that stand for the outside of the host."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from ipaddress import ip_address

from kvmdiag.errors import UsageError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Outcome
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.walk import walk

# Addresses that nobody has (RFC 5737, RFC 3849): what is sent there goes by the default route.
_NOWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
_DEFAULTS = ("0.0.0.0/0", "::/0")


def gateways(stack: Stack, *, preferred: bool = False) -> tuple[str, ...]:
    """The next hops of the default routes; of those in use only, when ``preferred``.

    Nothing goes by a default route while its table has one with a lower metric.
    """
    return tuple(gateway for gateway, _ in _next_hops(stack, preferred=preferred))


def _next_hops(stack: Stack, *, preferred: bool) -> tuple[tuple[str, str | None], ...]:
    """Gateways and the links they are on."""
    routes = [
        route
        for route in stack.routes or ()
        if route.destination in _DEFAULTS and route.type == "unicast"
    ]
    least: dict[tuple[str, int], int] = {}
    for route in routes:
        key = (route.destination, route.table)
        least[key] = min(route.metric, least.get(key, route.metric))
    return tuple(
        (hop.gateway, hop.link)
        for route in routes
        if not preferred or route.metric == least[route.destination, route.table]
        for hop in route.next_hops
        if hop.gateway is not None
    )


class Outside:
    """The host's own gateways in use, which stand for what is beyond them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._hops = _next_hops(snapshot.stack(snapshot.host), preferred=True)

    @cached_property
    def _view(self) -> View:
        return View(self._snapshot)

    def of(self, stack: Stack) -> tuple[str, ...]:
        """The addresses that stand for the outside as this machine is to see it.

        Where policy routing gives each network an uplink of its own, the others are not for
        it: a packet to nobody in particular shows which one is. When it does not get out, all
        of them are. For a gateway that can be named on its own link only, as IPv6 routers
        announce themselves, an address beyond it stands.
        """
        many = Counter(ip_address(gateway).version for gateway, _ in set(self._hops))
        found = []
        for gateway, link in self._hops:
            address = ip_address(gateway)
            way_out = self._way_out(stack, address.version) if many[address.version] > 1 else None
            if way_out in (None, link):
                found.append(_NOWHERE[address.version] if address.is_link_local else gateway)
        return tuple(dict.fromkeys(found))

    def _way_out(self, stack: Stack, version: int) -> str | None:
        """The host's link by which a machine's packet leaves for nowhere; ``None``: it does not."""
        if stack.name == self._snapshot.host:
            return None
        try:
            question = resolve(self._snapshot, stack.name, _NOWHERE[version])
        except UsageError:
            return None
        request = walk(self._snapshot, question, view=self._view).request
        left = request.outcome is Outcome.LEFT and request.end.stack == self._snapshot.host
        return request.end.link if left else None
