"""The tracked connections between some addresses, from the conntrack table.

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h;
net/netfilter/nf_conntrack_netlink.c (ctnetlink_fill_info).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import islice
from typing import Any, TypeVar

from kvmdiag.collect.flows.lines import find_lines
from kvmdiag.collect.kernel.attributes import Layout, address, big_endian, decode, nest
from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Flow, FlowTuple
from kvmdiag.system.modules import is_there
from kvmdiag.system.netlink import NETFILTER, Netlink

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_HEADER = struct.Struct("=BBH")
_FAMILIES = ((socket.AF_INET, 4), (socket.AF_INET6, 6))
_SECONDS = 3.0
_MOST = 10_000
_FILE = "/proc/thread-self/net/nf_conntrack"
_Entry = TypeVar("_Entry", bytes, str)
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
    0x080: "src-nat-done",
    0x100: "dst-nat-done",
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


def flows_among(addresses: Iterable[str]) -> tuple[Flow, ...]:
    """The tracked connections of the calling thread's namespace between any two of these.

    On whichever side of a translation they stand. Sorted by protocol and addresses.

    Raises:
        NotReadableError: the table cannot be read: without rights, in three seconds, or without
            loading a module; or more of its connections are such than are of use.

    """
    wanted = set(addresses)
    try:
        told = _by_netlink(wanted) if is_there("nf_conntrack_netlink") else _by_file(wanted)
        found = list(islice(told, _MOST + 1))
    except PermissionError:
        raise NotReadableError("not allowed to read the conntrack table: run as root") from None
    except OSError as error:
        raise NotReadableError(
            f"the conntrack table could not be read ({error.strerror or error}): conntrack -L"
        ) from None
    if len(found) > _MOST:
        raise NotReadableError(f"more than {_MOST} connections are such: conntrack -L")
    return tuple(sorted(found, key=_order))


def _by_netlink(wanted: Collection[str]) -> Iterator[Flow]:
    with Netlink(NETFILTER) as kernel:
        for family, version in _FAMILIES:
            mine = {one for one in wanted if ip_address(one).version == version}
            # A connection is between two; who talks to himself is of no interest.
            if len(mine) > 1:
                yield from find(_in_time(kernel.each(_GET, _HEADER.pack(family, 0, 0))), mine)


def _by_file(wanted: Collection[str]) -> Iterator[Flow]:
    """Where asking by netlink would load the module that answers."""
    try:
        with open(_FILE, encoding="ascii", errors="replace") as lines:
            yield from find_lines(_in_time(lines), wanted)
    except FileNotFoundError:
        raise NotReadableError(
            "the kernel's nf_conntrack_netlink is not loaded: modprobe nf_conntrack_netlink"
        ) from None


def _in_time(messages: Iterable[_Entry]) -> Iterator[_Entry]:
    """The entries of a table that may have millions of entries, while there is time."""
    deadline = time.monotonic() + _SECONDS
    for message in messages:
        if time.monotonic() > deadline:
            raise TimeoutError(f"it is too long to be read in {_SECONDS:g} s")
        yield message


def find(messages: Iterable[bytes], addresses: Collection[str]) -> Iterator[Flow]:
    """The flows between two of these addresses, out of all the kernel tells."""
    wanted = {ip_address(text).compressed for text in addresses}
    packed = [ip_address(text).packed for text in wanted]
    for message in messages:
        # Of a table of a million flows few are decoded.
        if sum(part in message for part in packed) > 1:
            flow = _flow(decode(message, _FLOW, _HEADER.size))
            sides = (flow.original, flow.reply)
            if any({side.source, side.destination} <= wanted for side in sides):
                yield flow


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
