"""Indexes over the facts of one stack, so that the walk asks instead of searching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TypeVar

from kvmdiag.model.activity import Flow
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Address, BridgeVlan, FdbEntry, Neighbour, Stack
from kvmdiag.model.trace import SysctlRef
from kvmdiag.simulate.facts import conntrack
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.chains import BaseChain, base_chains
from kvmdiag.simulate.facts.fib import Fib
from kvmdiag.simulate.facts.tracking import is_active
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood

T = TypeVar("T")

_OF_DEVICES: tuple[Family, ...] = ("netdev", "inet")


class _Links(dict[str, Link]):
    """Links by name. A name that leads nowhere ends the walk: a link vanished while reading."""

    def __init__(self, stack: str, links: tuple[Link, ...]) -> None:
        super().__init__((link.name, link) for link in links)
        self._stack = stack

    def __missing__(self, name: str) -> Link:
        raise NotUnderstood(self._stack, f"{self._stack} has no link {name or '-'}")


class StackView:
    """One stack, indexed. Facts that were not read raise :class:`NotRead` when asked for."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.name = stack.name
        self._base_chains: dict[tuple[Family, HookName], tuple[BaseChain, ...]] = {}
        self._has_nat: dict[Family, bool] = {}
        self._conntrack_active: dict[Family, bool] = {}
        self._device_chains: dict[tuple[HookName, str], tuple[BaseChain, ...]] = {}
        self._idle: dict[tuple[Family, HookName], bool] = {}
        self._conf: dict[tuple[str, str, int], int] = {}

    @cached_property
    def links(self) -> dict[str, Link]:
        """Links by name."""
        return _Links(self.name, self._read(self.stack.links, "links"))

    @cached_property
    def ports(self) -> dict[str, tuple[Link, ...]]:
        """Ports by the name of their bridge."""
        found: dict[str, list[Link]] = {}
        for link in self.links.values():
            if link.master is not None:
                found.setdefault(link.master, []).append(link)
        return {bridge: tuple(ports) for bridge, ports in found.items()}

    @cached_property
    def vlans(self) -> dict[str, dict[int, BridgeVlan]]:
        """The VLANs of bridge ports, and of bridges themselves, by link and number."""
        found: dict[str, dict[int, BridgeVlan]] = {}
        for entry in self._read(self.stack.bridge_vlans, "bridge_vlans"):
            found.setdefault(entry.link, {})[entry.vid] = entry
        return found

    @cached_property
    def stacked(self) -> tuple[tuple[LinkRef, Link], ...]:
        """Links that stand on another one (VLANs, macvlans ...), each with that one."""
        return tuple(
            (link.below or LinkRef(self.name, link.lower or ""), link)
            for link in self.stack.links or ()
            if link.below is not None or link.lower is not None
        )

    @cached_property
    def macs(self) -> dict[str, frozenset[str | None]]:
        """MAC addresses at which a bridge takes frames up: its own and its ports'."""
        return {
            name: frozenset({link.mac, *(port.mac for port in self.ports.get(name, ()))})
            for name, link in self.links.items()
            if link.kind == "bridge"
        }

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """All addresses in the kernel's order."""
        return self._read(self.stack.addresses, "addresses")

    @cached_property
    def local_addresses(self) -> dict[IPAddress, str]:
        """Every address this stack has, with the link it is on."""
        return {parse_address(entry.address): entry.link for entry in self.addresses}

    def addresses_of(self, link: str, version: int) -> Iterator[Address]:
        """The addresses of one link and one IP version, primary ones first."""
        mine = [
            entry
            for entry in self.addresses
            if entry.link == link and parse_address(entry.address).version == version
        ]
        yield from sorted(mine, key=lambda entry: entry.secondary)

    @cached_property
    def fib(self) -> Fib:
        """Routes and policy rules."""
        return Fib(
            self.name,
            self._read(self.stack.routes, "routes"),
            self._read(self.stack.policy_rules, "policy_rules"),
            self._domains(),
        )

    def _domains(self) -> frozenset[str]:
        """VRFs and their ports."""
        found = {link.name for link in self.stack.links or () if link.kind == "vrf"}
        ports = {link.name for link in self.stack.links or () if link.master in found}
        return frozenset(found | ports)

    @cached_property
    def neighbours(self) -> dict[tuple[str, str], Neighbour]:
        """Neighbour entries by link and address; what could not be read counts as unknown."""
        entries = self.stack.neighbours or ()
        return {(entry.link, entry.address): entry for entry in entries}

    @cached_property
    def static_fdb(self) -> dict[tuple[str, str, int | None], FdbEntry]:
        """FDB entries that somebody set by hand, by bridge, MAC address and VLAN."""
        entries = self.stack.fdb or ()
        return {(e.bridge, e.mac, e.vlan): e for e in entries if e.static and not e.local}

    def base_chains(self, family: Family, hook: HookName) -> tuple[BaseChain, ...]:
        """The chains that see packets of a family at a hook, in the order of priority."""
        found = self._base_chains.get((family, hook))
        if found is None:
            found = base_chains(self._read(self.stack.tables, "tables"), family, hook)
            self._base_chains[family, hook] = found
        return found

    def device_chains(self, hook: HookName, link: str) -> tuple[BaseChain, ...]:
        """The chains of families netdev and inet that hang on a link itself (ingress, egress)."""
        found = self._device_chains.get((hook, link))
        if found is None:
            chains = [
                base
                for family in _OF_DEVICES
                for base in self.base_chains(family, hook)
                if link in base.chain.devices
            ]
            found = tuple(sorted(chains, key=lambda base: base.chain.priority))
            self._device_chains[hook, link] = found
        return found

    def has_nat(self, family: Family) -> bool:
        """Whether there are nat chains, in which case every connection is made a unique one."""
        found = self._has_nat.get(family)
        if found is None:
            found = self._has_nat[family] = any(
                chain.type == "nat"
                for table in self._read(self.stack.tables, "tables")
                if table.family in (family, "inet")
                for chain in table.chains
            )
        return found

    @cached_property
    def flows(self) -> dict[conntrack.Tuple, Flow]:
        """The connections that were there before, by both of their tuples."""
        return {way: flow for flow in self.stack.flows or () for way in conntrack.tuples_of(flow)}

    @cached_property
    def filters_frames(self) -> bool:
        """Whether there are chains that see frames in bridges or on links, not packets of IP."""
        return any(
            table.family in ("bridge", "netdev") or chain.hook in ("ingress", "egress")
            for table in self._read(self.stack.tables, "tables")
            for chain in table.chains
            if chain.hook is not None
        )

    def is_idle(self, family: Family, hook: HookName) -> bool:
        """Whether nothing happens to packets of a family at a hook: no chains, no conntrack."""
        found = self._idle.get((family, hook))
        if found is None:
            tracks = family in ("ip", "ip6") and self.conntrack_active(family)
            found = not tracks and not self.base_chains(family, hook)
            self._idle[family, hook] = found
        return found

    def conntrack_active(self, family: Family) -> bool:
        """Whether connections of this family are tracked."""
        found = self._conntrack_active.get(family)
        if found is None:
            found = is_active(self._read(self.stack.tables, "tables"), family)
            self._conntrack_active[family] = found
        return found

    def sysctl(self, name: str, default: int = 0) -> int:
        """The number a sysctl is set to; ``default`` where the kernel does not have it."""
        if self.stack.sysctls is None:
            raise NotRead(self.name, "sysctls")
        text = self.stack.sysctls.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else default

    def settings(self, names: Iterable[str], default: int = 0) -> SysctlRef | None:
        """Sysctls with their values, as what decided together; ``None`` without any."""
        values = tuple((name, str(self.sysctl(name, default))) for name in names)
        return SysctlRef(stack=self.name, values=values) if values else None

    def conf(self, link: str, key: str, version: int = 4) -> int:
        """``net.ipvN.conf.LINK.KEY``, with dots in the link's name as sysctl(8) writes them."""
        asked = (link, key, version)
        found = self._conf.get(asked)
        if found is None:
            found = self._conf[asked] = self.sysctl(conf_name(link, key, version))
        return found

    def conf_any(self, link: str, key: str) -> bool:
        """``conf.all`` or the link's own (``IN_DEV_ORCONF``)."""
        return bool(self.conf("all", key) or self.conf(link, key))

    def conf_max(self, link: str, key: str) -> int:
        """The greater of ``conf.all`` and the link's own (``IN_DEV_MAXCONF``)."""
        return max(self.conf("all", key), self.conf(link, key))

    def _read(self, fact: T | None, name: str) -> T:
        if fact is None:
            raise NotRead(self.name, name)
        return fact


def conf_name(link: str, key: str, version: int = 4) -> str:
    """The dotted name of a per-interface sysctl."""
    return f"net.ipv{version}.conf.{link.replace('.', '/')}.{key}"
