"""VXLAN: which peer a frame is sent to, wrapped in a packet of the machine's own.

Sources: drivers/net/vxlan/vxlan_core.c (vxlan_xmit, vxlan_xmit_one, vxlan_rcv).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.link_kinds import Vxlan
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood
from kvmdiag.simulate.facts.view import View

_ALL_OTHERS = "00:00:00:00:00:00"
_ETHERNET = 14  # bytes
_HEADERS = {4: 20 + 8 + 8, 6: 40 + 8 + 8}
_SOME_PORT = 49152  # udp_flow_src_port takes it from a hash of the inner frame


class Peer(NamedTuple):
    """Where a VXLAN link sends to; ``end`` is the link that unwraps it, if that is seen."""

    address: IPAddress
    port: int
    end: LinkRef | None


def peers(view: View, stack: str, link: Link, mac: str | None) -> Iterator[Peer]:
    """The peers that a frame for a MAC address (``None``: for all) is sent to.

    That is the one behind which the address is known to be, else all there are.

    Raises:
        NotUnderstood: they are found by multicast, or told by routes or programs.
        NotRead: the entries of the link were not read.

    """
    vxlan = link.vxlan
    entries = view.stacks[stack].stack.tunnels
    if vxlan is None or vxlan.external:
        text = f"where {link.name} sends to is told by routes or programs (external)"
        raise NotUnderstood(stack, text)
    if entries is None:
        raise NotRead(stack, "tunnels")
    mine = [entry for entry in entries if entry.link == link.name]
    known = [entry for entry in mine if entry.mac == mac]
    found = known or [entry for entry in mine if entry.mac == _ALL_OTHERS]
    addresses = {entry.remote: entry.port or vxlan.port for entry in found}
    if any(entry.vni not in (None, vxlan.vni) for entry in found):
        raise NotUnderstood(stack, f"{link.name} sends to networks of other numbers")
    if not found and vxlan.remote is not None:
        addresses[vxlan.remote] = vxlan.port
    for text, port in addresses.items():
        address = parse_address(text)
        if address.is_multicast:
            raise NotUnderstood(stack, f"{link.name} finds its peers by multicast ({text})")
        yield Peer(address, port, _end(view, address, port, vxlan))


def _end(view: View, address: IPAddress, port: int, vxlan: Vxlan) -> LinkRef | None:
    for name, other in view.stacks.items():
        if other.stack.addresses is not None and address in other.local_addresses:
            taker = unwrapper(view, name, port, vxlan.vni)
            if taker is not None:
                return LinkRef(name, taker.name)
    return None


def unwrapper(view: View, stack: str, port: int | None, vni: int) -> Link | None:
    """The link of a stack that takes what comes in for a network, at a UDP port."""
    for link in view.stacks[stack].stack.links or ():
        vxlan = link.vxlan
        if vxlan is not None and link.up and (vxlan.port, vxlan.vni) == (port, vni):
            return link
    return None


def wrapped(inner: Packet, peer: Peer, source: IPAddress) -> Packet:
    """The packet that carries a frame; it may be cut up (no ``df``)."""
    return Packet(
        src=source,
        dst=peer.address,
        proto="udp",
        sport=_SOME_PORT,
        dport=peer.port,
        length=inner.length + _ETHERNET + _HEADERS[peer.address.version],
        dont_fragment=False,
    )


class Wrapped(msgspec.Struct, frozen=True):
    """A frame under way in a tunnel, and what becomes of it at the far end."""

    inner: Packet
    src_mac: str | None
    dst_mac: str | None
    vlan: int | None
    vni: int
    stack: str
    link: str
    peer: str
