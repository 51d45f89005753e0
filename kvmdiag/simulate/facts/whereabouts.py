"""Which machines may answer for an address, and which ports of a bridge may lead to them.

On a bridge with hundreds of guests nearly every port leads to one machine only. Those that
cannot be meant need not be asked, and all others still are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from kvmdiag.model.link import Link
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Stack
from kvmdiag.simulate.facts.stack_view import StackView

Machines = frozenset[str]


class Upper(NamedTuple):
    """A link that stands on another one, and the stack it is in."""

    stack: str
    link: Link


Uppers = Mapping[tuple[str, str], tuple[Upper, ...]]
"""Links that stand on another one, by the stack and name of that one."""


def uppers_of(stacks: Mapping[str, StackView]) -> Uppers:
    """All links of these stacks that stand on others, of their own stack or another."""
    found: dict[tuple[str, str], list[Upper]] = {}
    for name, view in stacks.items():
        for lower, link in view.stacked:
            found.setdefault((lower.stack, lower.link), []).append(Upper(name, link))
    return {lower: tuple(uppers) for lower, uppers in found.items()}


class Whereabouts:
    """What is known of a snapshot's machines, by address and by port."""

    def __init__(self, stacks: Mapping[str, StackView], uppers: Uppers) -> None:
        self._stacks = stacks
        self._uppers = uppers
        self._bridges: dict[tuple[str, str], _Bridge] = {}

    def answerers(self, address: IPAddress) -> Machines:
        """Machines that may answer ARP or neighbour discovery for an address."""
        return self._by_address.get(address, frozenset()) | self._unlike_others

    def with_mac(self, mac: str | None) -> Machines:
        """Machines with a link of that MAC address."""
        return self._by_mac.get(mac or "", frozenset())

    def ports(self, stack: str, bridge: str, machines: Machines | None) -> Sequence[Link]:
        """The ports of a bridge without those that lead to none of the machines."""
        ports = self._stacks[stack].ports.get(bridge, ())
        if machines is None:
            return ports
        key = (stack, bridge)
        if key not in self._bridges:
            self._bridges[key] = _Bridge(map(self._machine_behind, ports))
        return [ports[position] for position in self._bridges[key].towards(machines)]

    def _machine_behind(self, port: Link) -> str | None:
        """The one machine that a port leads to, ``None`` if there may be others."""
        if port.peer is None:
            return None
        far = self._stacks.get(port.peer.stack)
        link = far.links.get(port.peer.link) if far is not None and far.stack.links else None
        if link is None or link.master is not None:
            return None
        uppers = self._uppers.get((port.peer.stack, port.peer.link), ())
        if any(upper.stack != port.peer.stack or upper.link.peer for upper in uppers):
            return None
        return port.peer.stack

    @cached_property
    def _by_address(self) -> dict[IPAddress, Machines]:
        found: dict[IPAddress, set[str]] = {}
        for name, view in self._stacks.items():
            for address in view.local_addresses if view.stack.addresses is not None else ():
                found.setdefault(address, set()).add(name)
        return {address: frozenset(names) for address, names in found.items()}

    @cached_property
    def _by_mac(self) -> dict[str, Machines]:
        found: dict[str, set[str]] = {}
        for name, view in self._stacks.items():
            for link in view.stack.links or ():
                found.setdefault(link.mac or "", set()).add(name)
        return {mac: frozenset(names) for mac, names in found.items() if mac}

    @cached_property
    def _unlike_others(self) -> Machines:
        """Machines that may answer for addresses that are not their own, or are not known."""
        stacks = (view.stack for view in self._stacks.values())
        return frozenset(stack.name for stack in stacks if _may_answer_for_others(stack))


class _Bridge:
    """Positions of a bridge's ports by the machine behind them."""

    def __init__(self, machines: Iterable[str | None]) -> None:
        self._others: list[int] = []
        self._by_machine: dict[str, list[int]] = {}
        for position, machine in enumerate(machines):
            if machine is None:
                self._others.append(position)
            else:
                self._by_machine.setdefault(machine, []).append(position)

    def towards(self, machines: Machines) -> list[int]:
        found = self._others.copy()
        for machine in machines:
            found += self._by_machine.get(machine, ())
        found.sort()
        return found


def _may_answer_for_others(stack: Stack) -> bool:
    if None in (stack.links, stack.addresses, stack.routes, stack.policy_rules, stack.sysctls):
        return True
    return (
        any(
            value != "0" and name.endswith((".proxy_arp", ".proxy_arp_pvlan", ".proxy_ndp"))
            for name, value in (stack.sysctls or {}).items()
        )
        or any(entry.proxy for entry in stack.neighbours or ())
        or any(
            route.type == "local"
            and not route.destination.endswith(("/32", "/128"))
            and not route.destination.startswith("127.")
            for route in stack.routes or ()
        )
    )
