"""Links of one network stack: NICs, taps, veth ends, bridges and their ports."""

from __future__ import annotations

import msgspec


class LinkRef(msgspec.Struct, frozen=True):
    """A link in a stack; ``str()`` gives ``host/mybr0``."""

    stack: str
    link: str

    def __str__(self) -> str:
        return f"{self.stack}/{self.link}"


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """What a bridge device itself is set to (``IFLA_BR_*``). Times are in centiseconds."""

    stp: bool = False
    forward_delay: int = 1500
    vlan_filtering: bool = False
    nf_call_iptables: bool = False
    nf_call_ip6tables: bool = False
    nf_call_arptables: bool = False
    multicast_snooping: bool = True
    group_fwd_mask: int = 0


class BridgePort(msgspec.Struct, frozen=True, kw_only=True):
    """What a bridge knows of one of its ports (``IFLA_BRPORT_*``).

    ``state`` is one of disabled, listening, learning, forwarding, blocking.
    """

    state: str = "forwarding"
    isolated: bool = False
    hairpin: bool = False
    learning: bool = True
    flood: bool = True


class Tap(msgspec.Struct, frozen=True, kw_only=True):
    """A tun or tap device (``IFLA_TUN_*``)."""

    mode: str = "tap"
    persistent: bool = False


class Vlan(msgspec.Struct, frozen=True, kw_only=True):
    """An 802.1Q device on top of its lower link."""

    vid: int


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One network device.

    ``kind`` is the kernel's link kind (bridge, veth, tun, vlan, macvtap ...); ``None`` is a
    physical or emulated NIC. ``master`` and ``lower`` are names of links in the same stack.
    ``peer`` is the far end of the cable when that end was seen: the other half of a veth
    pair, or the guest's NIC behind a tap. ``guest`` names the machine known to be behind
    a tap even when its inside cannot be seen.
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
    peer: LinkRef | None = None
    guest: str | None = None
    bridge: Bridge | None = None
    port: BridgePort | None = None
    tap: Tap | None = None
    vlan: Vlan | None = None

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
