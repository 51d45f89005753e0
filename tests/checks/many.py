"""A host with as many guests as wanted, on libvirt's NAT network; its facts are made up."""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Address, FdbEntry, NextHop, PolicyRule, Route, Stack
from kvmdiag.parse.iptables import parse_save

_LOOPBACK = Link(index=1, name="lo", type="loopback")
_RULES = tuple(
    PolicyRule(priority=priority, table=table)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)
_HOOKS = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
_NETWORK = libvirt_rules.NatNetwork("virbr0", "192.168.0.0/16")


def host_with(guests: int) -> Snapshot:
    """A host with libvirt's default rules and so many guests on one NAT network."""
    links = [
        _LOOPBACK,
        Link(index=2, name="eth0", mac="02:00:00:00:00:02"),
        Link(index=3, name="virbr0", kind="bridge", mac="02:00:00:00:00:03", bridge=Bridge()),
    ]
    fdb = []
    stacks = []
    for number in range(guests):
        mac = f"52:54:00:01:{number >> 8:02x}:{number & 255:02x}"
        links.append(_tap(number, mac))
        fdb.append(FdbEntry(bridge="virbr0", port=f"vnet{number}", mac=mac))
        address = f"192.168.{1 + (number >> 7)}.{1 + (number & 127)}"
        stacks.append(_guest(f"vm{number}", mac, address, f"vnet{number}"))
    return Snapshot(
        tool="bench",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6.1",
        stacks=(_host(tuple(links), tuple(fdb)), *stacks),
        domains=(),
        networks=(_VIRTUAL,),
    )


_VIRTUAL = Network(
    name="default",
    active=True,
    bridge="virbr0",
    mode="nat",
    addresses=("192.168.0.1/16",),
    dhcp=True,
)


def _tap(number: int, mac: str) -> Link:
    return Link(
        index=10 + number,
        name=f"vnet{number}",
        kind="tun",
        mac=f"fe:{mac[3:]}",
        master="virbr0",
        port=BridgePort(),
        peer=LinkRef(f"vm{number}", "eth0"),
        guest=f"vm{number}",
    )


def _host(links: tuple[Link, ...], fdb: tuple[FdbEntry, ...]) -> Stack:
    text = _saved(libvirt_rules.chains() + libvirt_rules.network_rules(_NETWORK))
    return Stack(
        name="host",
        kind="host",
        netns=OWN_NETNS,
        links=links,
        addresses=(
            Address(link="eth0", address="10.0.0.10", prefix_length=24),
            Address(link="virbr0", address="192.168.0.1", prefix_length=16),
        ),
        routes=(
            *_routes("eth0", "10.0.0.10", "10.0.0.0/24", "10.0.0.1"),
            *_routes("virbr0", "192.168.0.1", "192.168.0.0/16", None),
        ),
        policy_rules=_RULES,
        neighbours=(),
        fdb=fdb,
        sysctls={
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.eth0.forwarding": "1",
            "net.ipv4.conf.virbr0.forwarding": "1",
            "net.bridge.bridge-nf-call-iptables": "1",
        },
        tables=parse_save(text, family="ip", backend="iptables-nft"),
        sockets=tuple(
            ListeningSocket(protocol="udp", address="0.0.0.0", port=port, uid=0, inode=port)
            for port in (53, 67)
        ),
    )


def _routes(link: str, own: str, network: str, gateway: str | None) -> tuple[Route, ...]:
    hop = (NextHop(link=link),)
    found = (
        Route(destination=f"{own}/32", table=255, type="local", next_hops=hop),
        Route(destination=network, scope="link", preferred_source=own, next_hops=hop),
    )
    if gateway is None:
        return found
    way = (NextHop(link=link, gateway=gateway),)
    return (*found, Route(destination="0.0.0.0/0", next_hops=way))


def _saved(restore: str) -> str:
    """What iptables-save prints after this was restored: each table once, with its own chains."""
    tables: dict[str, list[str]] = {}
    for line in restore.splitlines():
        if line.startswith("*"):
            hooks = _HOOKS[line[1:]]
            current = tables.setdefault(line, [f":{hook} ACCEPT [0:0]" for hook in hooks])
        elif line != "COMMIT":
            current.append(line)
    return "".join(f"{name}\n" + "\n".join(rows) + "\nCOMMIT\n" for name, rows in tables.items())


def _guest(name: str, mac: str, address: str, tap: str) -> Stack:
    nic = Link(index=2, name="eth0", mac=mac, peer=LinkRef("host", tap))
    return Stack(
        name=name,
        kind="guest",
        netns=None,
        links=(_LOOPBACK, nic),
        addresses=(Address(link="eth0", address=address, prefix_length=16),),
        routes=_routes("eth0", address, "192.168.0.0/16", "192.168.0.1"),
        policy_rules=_RULES,
        neighbours=(),
        fdb=(),
        sysctls={},
        tables=(),
    )
