"""Links of one network stack: NICs, taps, veth ends, bridges and their ports."""

from __future__ import annotations

from kvmdiag.model.fact import Fact
from kvmdiag.model.link_kinds import (
    Bond,
    BondPort,
    Ipvlan,
    LinkCounters,
    Macvlan,
    Process,
    Qdisc,
    TcFilter,
    VirtualFunction,
    Vrf,
    Vxlan,
    Wireless,
    Xdp,
)


class LinkRef(Fact, frozen=True):
    """A link in a stack; ``str()`` gives ``host/mybr0``."""

    stack: str
    link: str

    def __str__(self) -> str:
        return f"{self.stack}/{self.link}"


class Bridge(Fact, frozen=True, kw_only=True):
    """What a bridge device itself is set to (``IFLA_BR_*``). Times are in centiseconds.

    ``default_pvid`` 0 is none. ``root_port`` is the number of the port that leads to the
    spanning tree's root, 0 when this bridge is the root or there is no spanning tree.
    """

    stp: bool = False
    forward_delay: int = 1500
    vlan_filtering: bool = False
    nf_call_iptables: bool = False
    nf_call_ip6tables: bool = False
    nf_call_arptables: bool = False
    multicast_snooping: bool = True
    group_fwd_mask: int = 0
    multicast_querier: bool = False
    ageing_time: int = 30000
    priority: int = 32768
    root_port: int = 0
    vlan_protocol: str = "802.1Q"
    default_pvid: int = 0


class BridgePort(Fact, frozen=True, kw_only=True):
    """What a bridge knows of one of its ports (``IFLA_BRPORT_*``).

    ``state`` is one of disabled, listening, learning, forwarding, blocking.
    """

    state: str = "forwarding"
    isolated: bool = False
    hairpin: bool = False
    learning: bool = True
    flood: bool = True
    multicast_flood: bool = True
    broadcast_flood: bool = True
    neigh_suppress: bool = False
    proxy_arp: bool = False
    guard: bool = False
    root_block: bool = False
    fast_leave: bool = False
    multicast_to_unicast: bool = False
    vlan_tunnel: bool = False
    locked: bool = False
    priority: int = 32
    cost: int = 2
    group_fwd_mask: int = 0


class Tap(Fact, frozen=True, kw_only=True):
    """A tun or tap device (``IFLA_TUN_*``).

    ``queues`` are those that a program has attached, ``None`` when the kernel does not tell;
    ``readers`` the processes that hold them (QEMU, a VPN), ``None`` when that could not be read.
    """

    mode: str = "tap"
    persistent: bool = False
    multi_queue: bool = False
    queues: int | None = None
    disabled_queues: int = 0
    vnet_header: bool = False
    owner: int | None = None
    group: int | None = None
    readers: tuple[Process, ...] | None = None


class Vlan(Fact, frozen=True, kw_only=True):
    """An 802.1Q device on top of its lower link; ``protocol`` is 802.1Q or 802.1ad."""

    vid: int
    protocol: str = "802.1Q"


class Link(Fact, frozen=True, kw_only=True):
    """One network device.

    ``kind`` is the kernel's link kind (bridge, veth, tun, vlan, macvtap ...); ``None`` is a
    physical or emulated NIC. ``master`` and ``lower`` are names of links in the same stack;
    ``below`` is the lower link where that lies in another one (a container's macvlan).
    ``peer`` is the far end of the cable: the other half of a veth pair, or the guest's NIC
    behind a tap. It leads nowhere (to ``an unseen namespace``) where that belongs to this
    machine and was not seen, and is ``None`` where the snapshot ends. ``guest`` names the
    machine known to be behind a tap even when its inside cannot be seen.

    ``address_assigned`` says where the MAC is from: permanent, random, stolen or set; ``None``
    for links of another namespace than the own, of which nothing tells it. ``offloads`` are
    the ethtool features that are on, ``carrier_changes`` how often the cable came or went.
    ``qdiscs``, ``filters``, ``offloads`` and ``counters`` are ``None`` when they could not be
    read; ``wireless`` is ``None`` for what is no 802.11 interface.
    """

    index: int
    name: str
    kind: str | None = None
    type: str = "ether"
    mac: str | None = None
    mtu: int = 1500
    up: bool = True
    carrier: bool = True
    operstate: str = "up"
    master: str | None = None
    lower: str | None = None
    below: LinkRef | None = None
    peer: LinkRef | None = None
    guest: str | None = None
    bridge: Bridge | None = None
    port: BridgePort | None = None
    tap: Tap | None = None
    vlan: Vlan | None = None
    macvlan: Macvlan | None = None
    ipvlan: Ipvlan | None = None
    vxlan: Vxlan | None = None
    bond: Bond | None = None
    bond_port: BondPort | None = None
    vrf: Vrf | None = None
    wireless: Wireless | None = None
    virtual_functions: tuple[VirtualFunction, ...] = ()
    xdp: tuple[Xdp, ...] = ()
    alias: str | None = None
    alternative_names: tuple[str, ...] = ()
    permanent_mac: str | None = None
    address_assigned: str | None = None
    tx_queue_length: int = 1000
    tx_queues: int = 1
    rx_queues: int = 1
    promiscuous: bool = False
    all_multicast: bool = False
    arp: bool = True
    protocol_down: bool = False
    group: int = 0
    carrier_changes: int = 0
    qdiscs: tuple[Qdisc, ...] | None = None
    filters: tuple[TcFilter, ...] | None = None
    offloads: tuple[str, ...] | None = None
    counters: LinkCounters | None = None

    @property
    def is_loopback(self) -> bool:
        """True for ``lo``."""
        return self.type == "loopback"

    @property
    def is_uplink(self) -> bool:
        """True when frames sent here leave what the snapshot can see, other than to a guest."""
        if self.is_loopback or self.peer is not None or self.guest is not None:
            return False
        return self.kind in (None, "veth", "bond", "wlan")
