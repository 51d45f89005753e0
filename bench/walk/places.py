"""The places that are walked: the practice cluster, with many rules, and many guests."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from random import Random

from msgspec.structs import replace

from kvmdiag.model.codec import load
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, NextHop, PolicyRule, Route, Stack
from kvmdiag.parse.iptables import parse_rule

_POLICY = tuple(
    PolicyRule(priority=priority, table=table)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)


def cluster() -> Snapshot:
    """A snapshot that was taken of ``kvmdiag lab up cluster``."""
    return load((Path(__file__).parent / "cluster.snapshot").read_bytes())


def with_rules(snapshot: Snapshot, count: int) -> Snapshot:
    """The cluster with that many further rules in front of its host's FORWARD chain."""
    random = Random(count)  # noqa: S311 - the same rules every time
    more = tuple(_rule(random, number) for number in range(count))
    host = snapshot.stack("host")
    assert host.tables is not None  # noqa: S101 - it was read
    tables = []
    for table in host.tables:
        chains = tuple(
            replace(chain, rules=more + chain.rules)
            if table.name == "filter" and chain.hook == "forward"
            else chain
            for chain in table.chains
        )
        tables.append(replace(table, chains=chains))
    return snapshot.with_stack(replace(host, tables=tuple(tables)))


def _rule(random: Random, number: int) -> Rule:
    """A rule as firewalls are made of: mostly of one address, some of a network or a device."""
    address = IPv4Address(0xAC100000 + random.randrange(1 << 20))
    kinds = (
        f"-s {address} -j DROP",
        f"-d {address} -p tcp -m tcp --dport {1 + number % 60000} -j ACCEPT",
        f"-d {address} -i eth{number % 64} -m conntrack --ctstate NEW -j REJECT",
        f"-i tap{number} -j DROP",
        f"-s {address} -d 203.0.113.{number % 256} -m comment --comment r{number} -j ACCEPT",
    )
    return parse_rule(f"-A FORWARD {kinds[number % len(kinds)]}")


def guests(count: int) -> Snapshot:
    """So many guests in namespaces, with taps on one bridge of a host that filters nothing."""
    snapshot = cluster()
    host = snapshot.stack("host")
    bridge = Link(index=1, name="br0", kind="bridge", mac="02:00:00:00:00:01", bridge=Bridge())
    ports = tuple(
        Link(
            index=2 + number,
            name=f"vnet{number}",
            kind="veth",
            mac=f"fe:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            master="br0",
            peer=LinkRef(f"g{number}", "eth0"),
            port=BridgePort(),
        )
        for number in range(count)
    )
    lo = Link(index=1000, name="lo", type="loopback")
    own = replace(
        host,
        links=(lo, bridge, *ports),
        addresses=(Address(link="br0", address="10.50.0.1", prefix_length=16),),
        routes=_routes("br0", "10.50.0.1"),
        neighbours=(),
        fdb=(),
    )
    others = tuple(_guest(number, host) for number in range(count))
    return replace(snapshot, stacks=(own, *others))


def _guest(number: int, like: Stack) -> Stack:
    address = str(IPv4Address("10.50.1.0") + number)
    nic = Link(
        index=2,
        name="eth0",
        kind="veth",
        mac=f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
        peer=LinkRef("host", f"vnet{number}"),
    )
    return Stack(
        name=f"g{number}",
        kind="namespace",
        netns=f"/run/netns/g{number}",
        links=(Link(index=1, name="lo", type="loopback"), nic),
        addresses=(Address(link="eth0", address=address, prefix_length=16),),
        routes=_routes("eth0", address),
        policy_rules=_POLICY,
        neighbours=(),
        fdb=(),
        sysctls=like.sysctls,
        tables=(),
    )


def _routes(link: str, address: str) -> tuple[Route, ...]:
    here = (NextHop(link=link),)
    return (
        Route(destination="10.50.0.0/16", scope="link", protocol="kernel", next_hops=here),
        Route(destination=f"{address}/32", table=255, type="local", scope="host", next_hops=here),
    )
