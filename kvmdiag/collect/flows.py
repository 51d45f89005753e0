"""The tracked connections between two addresses, from the conntrack table.

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h;
net/netfilter/nf_conntrack_netlink.c (ctnetlink_fill_info).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from kvmdiag.collect.attributes import Layout, address, big_endian, decode, nest
from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Flow, FlowTuple
from kvmdiag.system.modules import is_there
from kvmdiag.system.netlink import NETFILTER, Netlink

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_HEADER = struct.Struct("=BBH")
_IP: Layout = {
    1: ("source", address),
    2: ("destination", address),
    3: ("source", address),
    4: ("destination", address),
}
_PROTOCOL: Layout = {
    1: ("number", big_endian),
    2: ("source_port", big_endian),
    3: ("destination_port", big_endian),
    4: ("icmp_id", big_endian),
    5: ("icmp_type", big_endian),
    7: ("icmp_id", big_endian),
    8: ("icmp_type", big_endian),
}
_TUPLE: Layout = {1: ("ip", nest(_IP)), 2: ("protocol", nest(_PROTOCOL))}
_INFO: Layout = {1: ("tcp", nest({1: ("state", big_endian)}))}
_FLOW: Layout = {
    1: ("original", nest(_TUPLE)),
    2: ("reply", nest(_TUPLE)),
    3: ("status", big_endian),
    4: ("info", nest(_INFO)),
    7: ("timeout", big_endian),
    8: ("mark", big_endian),
    18: ("zone", big_endian),
}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp"}
_STATUS = {
    0x001: "expected",
    0x002: "seen-reply",
    0x004: "assured",
    0x008: "confirmed",
    0x010: "src-nat",
    0x020: "dst-nat",
    0x200: "dying",
    0x400: "fixed-timeout",
    0x2000: "helper",
    0x4000: "offload",
    0x8000: "hw-offload",
}
_TCP_STATES = (
    "none",
    "syn-sent",
    "syn-recv",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
)


def flows_between(one: str, other: str) -> tuple[Flow, ...]:
    """All tracked connections of the calling thread's namespace that both addresses are in.

    On whichever side of a translation they stand. Sorted by protocol and addresses.

    Raises:
        NotReadableError: the table cannot be read without rights, or without loading a module.

    """
    if not is_there("nf_conntrack_netlink"):
        raise NotReadableError(
            "the kernel's nf_conntrack_netlink is not loaded: modprobe nf_conntrack_netlink"
        )
    family = socket.AF_INET6 if ":" in one else socket.AF_INET
    try:
        with Netlink(NETFILTER) as kernel:
            messages = kernel.dump(_GET, _HEADER.pack(family, 0, 0))
    except PermissionError:
        raise NotReadableError("not allowed to read the conntrack table: run as root") from None
    except OSError as error:
        raise NotReadableError(f"the conntrack table did not answer ({error.strerror})") from None
    return find(messages, one, other)


def find(messages: Iterable[bytes], one: str, other: str) -> tuple[Flow, ...]:
    """The flows that both addresses are in, out of all the kernel tells."""
    wanted = {ip_address(one).compressed, ip_address(other).compressed}
    packed = [ip_address(text).packed for text in wanted]
    found = []
    for message in messages:
        # Of a table of a million flows few are decoded.
        if all(part in message for part in packed):
            flow = _flow(decode(message, _FLOW, _HEADER.size))
            ends = {flow.original.source, flow.original.destination}
            if wanted <= ends | {flow.reply.source, flow.reply.destination}:
                found.append(flow)
    return tuple(sorted(found, key=_order))


def _flow(fields: Mapping[str, Any]) -> Flow:
    original = fields["original"]
    number = original.get("protocol", {}).get("number", 0)
    state = fields.get("info", {}).get("tcp", {}).get("state")
    return Flow(
        protocol=_PROTOCOLS.get(number, str(number)),
        original=_tuple(original),
        reply=_tuple(fields["reply"]),
        status=frozenset(word for bit, word in _STATUS.items() if fields.get("status", 0) & bit),
        mark=fields.get("mark", 0),
        zone=fields.get("zone", 0),
        timeout=fields.get("timeout"),
        tcp_state=None if state is None or state >= len(_TCP_STATES) else _TCP_STATES[state],
    )


def _tuple(fields: Mapping[str, Any]) -> FlowTuple:
    protocol = {name: v for name, v in fields.get("protocol", {}).items() if name != "number"}
    return FlowTuple(
        source=fields["ip"]["source"], destination=fields["ip"]["destination"], **protocol
    )


def _order(flow: Flow) -> tuple[str, str]:
    return flow.protocol, f"{flow.original} {flow.reply} {flow.zone}"
