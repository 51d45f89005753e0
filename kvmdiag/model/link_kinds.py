"""What links of particular kinds are set to, and what hangs on links.

Words are those of iproute2. Source: include/uapi/linux/if_link.h, if_bonding.h, nl80211.h.
"""

from __future__ import annotations

from kvmdiag.model.fact import Fact


class Process(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A process that holds something; ``name`` is what it calls itself (proc(5), comm)."""

    pid: int
    name: str


class Macvlan(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A macvlan or macvtap on its lower link: private, vepa, bridge, passthru or source.

    In none of the modes does it reach the stack of its own lower link. ``readers`` are the
    processes that hold a macvtap (QEMU), ``None`` when that could not be read.
    """

    mode: str
    readers: tuple[Process, ...] | None = ()


class Ipvlan(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An ipvlan on its lower link: l2, l3 or l3s; ``readers`` are those of an ipvtap."""

    mode: str
    readers: tuple[Process, ...] | None = ()


class Vxlan(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A VXLAN tunnel (RFC 7348). ``remote`` is a peer or a multicast group.

    ``external`` takes the network's number and the peer from routes or programs.
    """

    vni: int
    port: int = 8472
    local: str | None = None
    remote: str | None = None
    learning: bool = True
    external: bool = False


class Bond(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Several links as one. ``active`` and ``primary`` name ports of it; times are in ms."""

    mode: str
    active: str | None = None
    primary: str | None = None
    miimon: int = 0
    arp_interval: int = 0
    min_links: int = 0
    hash_policy: str = "layer2"
    lacp_rate: str | None = None


class BondPort(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What a bond knows of one of its ports.

    ``state`` is active or backup; ``mii_status`` is up, going_down, down or going_back.
    """

    state: str = "active"
    mii_status: str = "up"
    failures: int = 0
    aggregator: int | None = None


class Vrf(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A routing domain: what arrives on its ports is routed by ``table``."""

    table: int


class Wireless(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An 802.11 interface. ``mode`` is managed (a station), AP, ...

    Only with ``four_addresses`` does a station carry frames of others than itself.
    """

    mode: str
    four_addresses: bool = False


class VirtualFunction(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An SR-IOV virtual function, as its physical NIC sees it.

    ``link_state`` is auto (the uplink's), enable or disable; ``vlan`` 0 is none. ``None`` is
    what the driver does not tell.
    """

    index: int
    mac: str | None = None
    vlan: int = 0
    qos: int = 0
    spoof_check: bool | None = None
    trust: bool | None = None
    link_state: str | None = None


class Xdp(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A program that sees frames before anything else does.

    ``mode`` is native, generic, offload or multiple; ``program`` the kernel's id of it.
    """

    mode: str
    program: int | None = None


class Qdisc(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A queueing discipline; ``handle`` and ``parent`` as tc(8) writes them (``8001:``, root)."""

    kind: str
    handle: str
    parent: str


class TcFilter(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A traffic control filter: it may drop, change or redirect what it sees.

    ``where`` is ingress, egress, or the handle of the qdisc or class it hangs on. ``protocol``
    is the EtherType it looks at, 0x0003 for all. ``actions`` are their kinds (police, mirred,
    gact ...); ``redirects`` are links that mirred actions send frames to.
    """

    where: str
    kind: str
    priority: int
    protocol: int
    handle: int = 0
    chain: int = 0
    program: str | None = None
    direct_action: bool = False
    actions: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()


class LinkCounters(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """What went through since the link was made (``ip -s -s link``); never the state of one."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    multicast: int = 0
    collisions: int = 0
    rx_over_errors: int = 0
    rx_missed: int = 0
    rx_nohandler: int = 0
