"""Networks for the walk, made of facts alone: no kernel, no namespaces.

    def test_forwarding(net):
        net.cable("guest", "eth0", "192.0.2.2/24", "host", "vnet0", "192.0.2.1/24")
        walk = net.walk("guest", "host")
        assert walk.request.outcome is Outcome.DELIVERED

Connected and local routes, the three policy rules every stack has, and MAC addresses come by
themselves; sysctls are zero until set.
"""

from __future__ import annotations

import itertools
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.matches import Match
from kvmdiag.model.netfilter import Chain, Family, HookName, Rule, Table
from kvmdiag.model.packet import Protocol
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, NextHop, PolicyRule, Route, Stack
from kvmdiag.model.statements import Statement
from kvmdiag.model.trace import Walk
from kvmdiag.parse.iptables import parse_save
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

_RULES = tuple(
    PolicyRule(priority=priority, table=table, version=version)
    for version in (4, 6)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)


class Network:
    """A snapshot under construction."""

    def __init__(self) -> None:
        self._stacks: dict[str, Stack] = {}
        self._numbers = itertools.count(1)

    @property
    def snapshot(self) -> Snapshot:
        """The facts as they are now; the first stack is the host unless one is called so."""
        host = "host" if "host" in self._stacks else next(iter(self._stacks))
        return Snapshot(
            tool="test",
            taken_at="2026-01-01T00:00:00+00:00",
            kernel="6.1",
            host=host,
            stacks=tuple(self._stacks.values()),
        )

    def stack(self, name: str) -> Stack:
        """The stack of that name, made when it is first asked for."""
        if name not in self._stacks:
            lo = Link(index=1, name="lo", type="loopback", operstate="unknown", mtu=65536)
            self._stacks[name] = Stack(
                name=name,
                kind="host" if name == "host" else "namespace",
                netns=f"/run/netns/{name}",
                links=(lo,),
                addresses=(),
                routes=(),
                policy_rules=_RULES,
                neighbours=(),
                fdb=(),
                sysctls={},
                tables=(),
            )
            self.address(name, "lo", "127.0.0.1/8", scope="host")
        return self._stacks[name]

    def change(self, stack: str, **facts: Any) -> None:
        """Replace facts of a stack."""
        self._stacks[stack] = replace(self.stack(stack), **facts)

    def add(self, stack: str, fact: str, *values: Any) -> None:
        """Append to a fact that is a list."""
        self.change(stack, **{fact: (*getattr(self.stack(stack), fact), *values)})

    def link(self, stack: str, name: str, network: str | None = None, **facts: Any) -> None:
        """A link, with an address if one is given."""
        number = next(self._numbers)
        facts.setdefault("mac", f"02:00:00:00:00:{number:02x}")
        self.stack(stack)
        self.add(stack, "links", Link(index=number + 1, name=name, **facts))
        if network is not None:
            self.address(stack, name, network)

    def alter(self, stack: str, link: str, **facts: Any) -> None:
        """Change a link that is there."""
        links = self.stack(stack).links or ()
        self.change(stack, links=tuple(replace(k, **facts) if k.name == link else k for k in links))

    def port(self, stack: str, link: str, **settings: Any) -> None:
        """Change what a bridge knows of a port."""
        self.alter(stack, link, port=BridgePort(**settings))

    def cable(
        self,
        one: str,
        link: str,
        network: str | None,
        other: str,
        other_link: str,
        other_network: str | None = None,
    ) -> None:
        """A veth pair."""
        peer = LinkRef(other, other_link)
        self.link(one, link, network, kind="veth", peer=peer)
        self.link(other, other_link, other_network, kind="veth", peer=LinkRef(one, link))

    def bridge(self, stack: str, name: str, network: str | None = None, **settings: Any) -> None:
        """A bridge without ports."""
        self.link(stack, name, network, kind="bridge", bridge=Bridge(**settings))

    def guest(self, name: str, network: str, bridge: str = "br0", stack: str = "host") -> None:
        """A stack on a bridge; the port is called tap-NAME, the guest's own link eth0."""
        self.cable(name, "eth0", network, stack, f"tap-{name}")
        self.alter(stack, f"tap-{name}", master=bridge, port=BridgePort())

    def address(self, stack: str, link: str, network: str, *, scope: str = "global") -> None:
        """An address with the routes that come with it."""
        interface = ip_interface(network)
        own = f"{interface.ip}/{interface.max_prefixlen}"
        hop = (NextHop(link=link),)
        source = str(interface.ip)
        self.add(
            stack,
            "addresses",
            Address(
                link=link, address=source, prefix_length=interface.network.prefixlen, scope=scope
            ),
        )
        self.add(
            stack,
            "routes",
            Route(destination=own, table=255, type="local", next_hops=hop, preferred_source=source),
            Route(destination=str(interface.network), next_hops=hop, preferred_source=source)
            if scope != "host"
            else Route(destination="127.0.0.0/8", table=255, type="local", next_hops=hop),
        )

    def route(
        self,
        stack: str,
        destination: str,
        via: str | None = None,
        dev: str | None = None,
        **facts: Any,
    ) -> None:
        """A route; without ``dev`` the link in whose network the gateway is."""
        if destination == "default":
            destination = "::/0" if via and ":" in via else "0.0.0.0/0"
        if via is not None and dev is None:
            dev = next(
                a.link
                for a in self.stack(stack).addresses or ()
                if ip_interface(via).ip in ip_network(a.network, strict=False)
            )
        hops = (NextHop(link=dev, gateway=via),) if dev else ()
        self.add(stack, "routes", Route(destination=destination, next_hops=hops, **facts))

    def policy(self, stack: str, priority: int, **selectors: Any) -> None:
        """A policy rule."""
        self.add(stack, "policy_rules", PolicyRule(priority=priority, **selectors))

    def set(self, stack: str, name: str, value: int) -> None:
        """A sysctl by its full name."""
        self.change(stack, sysctls={**(self.stack(stack).sysctls or {}), name: str(value)})

    def forward(self, stack: str) -> None:
        """Let a stack forward whatever comes in by any of its links."""
        self.set(stack, "net.ipv4.ip_forward", 1)
        for link in ("all", *(link.name for link in self.stack(stack).links or ())):
            self.set(stack, f"net.ipv4.conf.{link}.forwarding", 1)
            self.set(stack, f"net.ipv6.conf.{link}.forwarding", 1)

    def rules(self, stack: str, *rules: str, table: str = "filter", policy: str = "") -> None:
        """Rules of iptables: ``net.rules("host", "-A FORWARD -j DROP")``."""
        chains = {
            "filter": ("INPUT", "FORWARD", "OUTPUT"),
            "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
            "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
            "raw": ("PREROUTING", "OUTPUT"),
        }[table]
        mine = {rule.split()[1] for rule in rules} - set(chains)
        lines = [f":{c} {'DROP' if c == policy else 'ACCEPT'} [0:0]" for c in chains]
        lines += [f":{chain} - [0:0]" for chain in sorted(mine)]
        text = "\n".join([f"*{table}", *lines, *rules, "COMMIT", ""])
        self.add(stack, "tables", *parse_save(text, family="ip", backend="iptables-nft"))

    def table(self, stack: str, table: Table) -> None:
        """A table that iptables cannot express."""
        self.add(stack, "tables", table)

    def chain(
        self,
        stack: str,
        hook: HookName,
        *body: Match | Statement,
        family: Family = "inet",
        **facts: Any,
    ) -> None:
        """A base chain of nft with one rule of these parts, or none, alone in its table."""
        text = " ".join(type(part).__name__ for part in body)
        rules = (Rule(body=body, text=text),) if body else ()
        facts = {"name": hook, "type": "filter", "rules": rules, **facts}
        chain = Chain(hook=hook, **facts)
        name = f"t{len(self.stack(stack).tables or ())}"
        self.table(stack, Table(family=family, name=name, backend="nft", chains=(chain,)))

    def neighbour(self, stack: str, link: str, address: str, mac: str | None, state: str) -> None:
        """A neighbour entry."""
        entry = Neighbour(link=link, address=address, mac=mac, state=state)
        self.add(stack, "neighbours", entry)

    def fdb(self, stack: str, bridge: str, port: str, mac: str, *, sticky: bool = False) -> None:
        """A static FDB entry."""
        entry = FdbEntry(bridge=bridge, port=port, mac=mac, static=True, sticky=sticky)
        self.add(stack, "fdb", entry)

    def mac(self, stack: str, link: str) -> str:
        """The MAC address of a link."""
        return next(k.mac or "" for k in self.stack(stack).links or () if k.name == link)

    def walk(
        self,
        source: str,
        destination: str,
        proto: Protocol = "icmp",
        port: int | None = None,
        bound: str | None = None,
    ) -> Walk:
        """Ask; ``bound`` is the source address to send from."""
        question = resolve(self.snapshot, source, destination, proto=proto, port=port)
        if bound is not None:
            start = Endpoint(text=source, stack=source, address=bound)
            question = Question(
                source=start, destination=question.destination, proto=proto, port=port
            )
        return walk(self.snapshot, question)


@pytest.fixture
def net() -> Network:
    """An empty network."""
    return Network()


@pytest.fixture
def bridged() -> Network:
    """Two guests on bridge br0 of the host: 10.0.0.2 and 10.0.0.3; the bridge is 10.0.0.1."""
    network = Network()
    network.bridge("host", "br0", "10.0.0.1/24")
    network.guest("g1", "10.0.0.2/24")
    network.guest("g2", "10.0.0.3/24")
    return network


@pytest.fixture
def routed() -> Network:
    """Guest 10.1.0.2, router 10.1.0.1 and 10.2.0.1, far 10.2.0.2; everything works."""
    network = Network()
    network.cable("guest", "eth0", "10.1.0.2/24", "host", "in0", "10.1.0.1/24")
    network.cable("far", "eth0", "10.2.0.2/24", "host", "out0", "10.2.0.1/24")
    network.route("guest", "default", "10.1.0.1")
    network.route("far", "default", "10.2.0.1")
    network.forward("host")
    return network
