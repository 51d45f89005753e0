"""A network stack: the host, a network namespace or a guest, all of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kvmdiag.model.activity import Conntrack, Flow, ListeningSocket
from kvmdiag.model.fact import Fact
from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import Table

OWN_NETNS = "/proc/self/ns/net"
NAMED_NETNS = "/run/netns/"

StackKind = Literal["host", "namespace", "guest"]


class Address(Fact, frozen=True, kw_only=True):
    """An address on a link, ``192.168.48.10/24``; in the kernel's order of ``ip addr``.

    ``flags`` holds tentative, dadfailed, deprecated, temporary, dynamic, noprefixroute ...
    """

    link: str
    address: str
    prefix_length: int
    scope: str = "global"
    secondary: bool = False
    peer: str | None = None
    flags: frozenset[str] = frozenset()

    @property
    def network(self) -> str:
        """The address with its prefix length, as ``ip addr`` prints it."""
        return f"{self.address}/{self.prefix_length}"


class NextHop(Fact, frozen=True, kw_only=True):
    """One way out of a route.

    ``flags`` holds onlink, linkdown, dead, pervasive, and encap for one that wraps packets.
    """

    link: str | None = None
    gateway: str | None = None
    weight: int = 1
    flags: frozenset[str] = frozenset()


class Route(Fact, frozen=True, kw_only=True):
    """A route of any table; ``destination`` is a CIDR, ``0.0.0.0/0`` for the default.

    ``type`` is the kernel's: unicast, local, broadcast, multicast, blackhole, unreachable,
    prohibit, throw, anycast. ``protocol`` says who made it (kernel, boot, static, dhcp, ra).
    ``source`` is the CIDR that a source-specific IPv6 route is limited to. ``nexthop`` is the
    number of the nexthop object it uses; ``next_hops`` are then that object's.
    """

    destination: str
    table: int = 254
    type: str = "unicast"
    scope: str = "global"
    protocol: str = "boot"
    metric: int = 0
    tos: int = 0
    source: str | None = None
    preferred_source: str | None = None
    mtu: int | None = None
    next_hops: tuple[NextHop, ...] = ()
    nexthop: int | None = None
    advertised_mss: int | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.destination else 4

    @property
    def text(self) -> str:
        """The route as ``ip route`` would print it, without metrics of no interest."""
        words = [] if self.type == "unicast" else [self.type]
        words.append("default" if self.destination in ("0.0.0.0/0", "::/0") else self.destination)
        for hop in self.next_hops:
            if len(self.next_hops) > 1:
                words.append("nexthop")
            if hop.gateway:
                words += ["via", hop.gateway]
            if hop.link:
                words += ["dev", hop.link]
        if self.metric:
            words += ["metric", str(self.metric)]
        if self.preferred_source:
            words += ["src", self.preferred_source]
        return " ".join(words)


class PolicyRule(Fact, frozen=True, kw_only=True):
    """An ``ip rule``. ``action`` is lookup, blackhole, unreachable, prohibit, goto or nop.

    ``unknown`` lists selectors that were read but are not understood; such a rule may or
    may not apply, and the walk says so.
    """

    priority: int
    version: int = 4
    action: str = "lookup"
    table: int | None = None
    source: str | None = None
    destination: str | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    tos: int = 0
    protocol: str | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    goto: int | None = None
    suppress_prefix_length: int | None = None
    invert: bool = False
    unknown: tuple[str, ...] = ()


class Neighbour(Fact, frozen=True, kw_only=True):
    """An ARP or ND entry. ``state`` in the kernel's words: reachable, stale, permanent ..."""

    link: str
    address: str
    mac: str | None = None
    state: str = "stale"
    proxy: bool = False
    router: bool = False
    learned_elsewhere: bool = False


class FdbEntry(Fact, frozen=True, kw_only=True):
    """A bridge's knowledge of where a MAC address is. ``local`` entries are the host's own.

    ``learned_elsewhere`` is one that a program learned for it, ``sticky`` one that stays where
    it is whatever frames say.
    """

    bridge: str
    port: str
    mac: str
    local: bool = False
    static: bool = False
    vlan: int | None = None
    learned_elsewhere: bool = False
    sticky: bool = False


class TunnelEntry(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A VXLAN link's knowledge of behind which peer a MAC address is.

    The MAC 00:00:00:00:00:00 stands for all that are not known.
    """

    link: str
    mac: str
    remote: str
    port: int | None = None
    vni: int | None = None
    via: str | None = None


class BridgeVlan(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A VLAN that a bridge port, or the bridge itself, carries.

    ``pvid`` is where untagged frames go on their way in; ``untagged`` takes the tag off on the
    way out.
    """

    link: str
    vid: int
    pvid: bool = False
    untagged: bool = False


class MdbEntry(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A multicast group (address or MAC) that a bridge forwards to one of its ports.

    ``port`` is the bridge itself for groups that the host joined.
    """

    bridge: str
    port: str
    group: str
    vid: int = 0
    permanent: bool = False
    blocked: bool = False


class NexthopObject(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An ``ip nexthop``: one way out, a hole, or a group of others with their weights."""

    id: int
    next_hop: NextHop | None = None
    group: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False
    fdb: bool = False


class Stack(Fact, frozen=True, kw_only=True):
    """All facts of one stack.

    ``netns`` is the path of its network namespace as seen where kvmdiag ran:
    ``/proc/self/ns/net`` for that very namespace, ``/run/netns/NAME`` or
    ``/proc/PID/ns/net`` for another, ``None`` for a guest, which only its owner can enter.
    ``sysctls`` is keyed by dotted name
    (``net.ipv4.conf.eth0.rp_filter``; a dot in a link name is written as a slash, as
    sysctl(8) does). ``tables`` holds every netfilter table of every backend and family.
    ``counters`` are the kernel's by name (``Ip.InAddrErrors``, ``TcpExt.IPReversePathFilter``,
    ``Softnet.Dropped``).
    ``flows`` are the tracked connections between the addresses of an asked path (the
    snapshot's ``flows_between``), sorted; ``None`` also when no path was asked.
    ``assumed`` are sentences: what of this stack was not read but taken for granted, in
    snapshots made for judging paths; empty in one that was read.
    """

    name: str
    kind: StackKind
    netns: str | None
    links: tuple[Link, ...] | None = None
    addresses: tuple[Address, ...] | None = None
    routes: tuple[Route, ...] | None = None
    policy_rules: tuple[PolicyRule, ...] | None = None
    neighbours: tuple[Neighbour, ...] | None = None
    fdb: tuple[FdbEntry, ...] | None = None
    sysctls: Mapping[str, str] | None = None
    tables: tuple[Table, ...] | None = None
    nexthops: tuple[NexthopObject, ...] | None = None
    bridge_vlans: tuple[BridgeVlan, ...] | None = None
    mdb: tuple[MdbEntry, ...] | None = None
    tunnels: tuple[TunnelEntry, ...] | None = None
    sockets: tuple[ListeningSocket, ...] | None = None
    conntrack: Conntrack | None = None
    flows: tuple[Flow, ...] | None = None
    counters: Mapping[str, int] | None = None
    assumed: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Where a person goes to change this stack: host, a namespace, or inside a guest."""
        return f"inside {self.name}" if self.netns is None else self.name

    @property
    def entry(self) -> tuple[str, ...]:
        """The command prefix that takes a root shell, where kvmdiag ran, into this stack.

        Empty for that very namespace, and for a guest: its commands are for a shell inside.
        """
        if self.netns is None or self.netns == OWN_NETNS:
            return ()
        if self.netns.startswith(NAMED_NETNS):
            return ("ip", "netns", "exec", self.netns.removeprefix(NAMED_NETNS))
        return ("nsenter", f"--net={self.netns}", "--")
