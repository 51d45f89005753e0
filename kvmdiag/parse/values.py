"""Values as iptables and nft print them: addresses, ports, protocols, marks, ICMP types.

Every function raises ``ValueError`` on what it does not understand; its callers keep the text
as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeVar

from kvmdiag.model.matches import FieldIs, Ranges
from kvmdiag.model.netfilter import Family

_Value = TypeVar("_Value", bound=IPv4Address | IPv6Address | IPv4Network | IPv6Network)

ALL_BITS = 0xFFFFFFFF
"""Of a mark, and of other numbers of four bytes."""

# /etc/protocols, in the names the programs print; the model names only the first four.
_PROTOCOLS = {
    "tcp": "tcp",
    "udp": "udp",
    "icmp": "icmp",
    "icmpv6": "icmpv6",
    "ipv6-icmp": "icmpv6",
    "icmp6": "icmpv6",
    "6": "tcp",
    "17": "udp",
    "1": "icmp",
    "58": "icmpv6",
    "igmp": "2",
    "ipencap": "4",
    "ipip": "4",
    "dccp": "33",
    "ipv6": "41",
    "gre": "47",
    "esp": "50",
    "ah": "51",
    "comp": "108",
    "ipcomp": "108",
    "ospf": "89",
    "pim": "103",
    "vrrp": "112",
    "l2tp": "115",
    "sctp": "132",
    "udplite": "136",
}

# RFC 792, RFC 1812 as libxt_icmp.h and nft describe icmp_type name them.
_ICMP = {
    "echo-reply": (0, None),
    "pong": (0, None),
    "destination-unreachable": (3, None),
    "network-unreachable": (3, 0),
    "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3),
    "fragmentation-needed": (3, 4),
    "source-quench": (4, None),
    "redirect": (5, None),
    "echo-request": (8, None),
    "ping": (8, None),
    "router-advertisement": (9, None),
    "router-solicitation": (10, None),
    "time-exceeded": (11, None),
    "ttl-exceeded": (11, None),
    "parameter-problem": (12, None),
    "timestamp-request": (13, None),
    "timestamp-reply": (14, None),
    "info-request": (15, None),
    "info-reply": (16, None),
    "address-mask-request": (17, None),
    "address-mask-reply": (18, None),
}

# RFC 4443, RFC 4861, RFC 2710.
_ICMPV6 = {
    "destination-unreachable": (1, None),
    "packet-too-big": (2, None),
    "time-exceeded": (3, None),
    "ttl-exceeded": (3, None),
    "parameter-problem": (4, None),
    "echo-request": (128, None),
    "ping": (128, None),
    "echo-reply": (129, None),
    "pong": (129, None),
    "mld-listener-query": (130, None),
    "mld-listener-report": (131, None),
    "mld-listener-done": (132, None),
    "mld-listener-reduction": (132, None),
    "router-solicitation": (133, None),
    "nd-router-solicit": (133, None),
    "router-advertisement": (134, None),
    "nd-router-advert": (134, None),
    "neighbour-solicitation": (135, None),
    "neighbor-solicitation": (135, None),
    "nd-neighbor-solicit": (135, None),
    "neighbour-advertisement": (136, None),
    "neighbor-advertisement": (136, None),
    "nd-neighbor-advert": (136, None),
    "redirect": (137, None),
    "nd-redirect": (137, None),
    "mld2-listener-report": (143, None),
}


def network(text: str, family: Family) -> str:
    """``10.0.0.0/255.0.0.0`` as ``10.0.0.0/8``; a mask with holes is not understood."""
    return str(_of_family(ip_network(text, strict=False), family))


def address(text: str, family: Family) -> str:
    """An address of that family, as Python prints it."""
    return str(_of_family(ip_address(text), family))


def address_range(text: str, family: Family) -> str:
    """``first-last``, both of that family and in order."""
    first, last = (_of_family(ip_address(end), family) for end in text.split("-"))
    if int(first) > int(last):
        msg = f"{text} runs backwards"
        raise ValueError(msg)
    return f"{first}-{last}"


def _of_family(value: _Value, family: Family) -> _Value:
    if family in ("ip", "ip6") and value.version != (4 if family == "ip" else 6):
        msg = f"{value} is no address of {family}"
        raise ValueError(msg)
    return value


def protocol(text: str) -> str:
    """A layer 4 protocol as the model names it."""
    known = _PROTOCOLS.get(text.lower())
    return known if known is not None else str(number(text, 255))


def number(text: str, most: int) -> int:
    """A number up to ``most``, decimal or hexadecimal."""
    value = int(text, 16 if text[:2].lower() == "0x" else 10)
    if not 0 <= value <= most:
        msg = f"{text} is not within 0 and {most}"
        raise ValueError(msg)
    return value


def port_range(text: str, separator: str = ":") -> tuple[int, int]:
    """``80`` or ``1000:2000``; an end left out is the end of all ports."""
    first, found, last = text.partition(separator)
    if not found:
        return (number(first, 65535),) * 2
    return number(first or "0", 65535), number(last or "65535", 65535)


def port_ranges(text: str, separator: str = ":") -> Ranges:
    """A list of ports and ranges."""
    return tuple(port_range(part, separator) for part in text.split(","))


def icmp_type(text: str, *, v6: bool) -> tuple[int, int | None]:
    """A type by name or number, with a code where one is given: ``3/4``."""
    named = (_ICMPV6 if v6 else _ICMP).get(text)
    if named is not None:
        return named
    kind, found, code = text.partition("/")
    return number(kind, 255), number(code, 255) if found else None


# RFC 792 and RFC 4443 in the names nft has for codes.
_ICMP_CODES = {
    "net-unreachable": 0,
    "host-unreachable": 1,
    "prot-unreachable": 2,
    "port-unreachable": 3,
    "frag-needed": 4,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}

# RFC 2474, RFC 2597, RFC 3246 and RFC 5865.
_DSCP = {
    **{f"cs{number}": number << 3 for number in range(8)},
    **{f"af{c}{d}": c << 3 | d << 1 for c in range(1, 5) for d in range(1, 4)},
    "be": 0,
    "ef": 46,
    "va": 44,
    "lephb": 1,
}


def icmp_code(text: str) -> int:
    """A code of ICMP, by number or by one of the names nft has for those of ICMPv4."""
    named = _ICMP_CODES.get(text)
    return number(text, 255) if named is None else named


def dscp(text: str) -> int:
    """A service class by name or number."""
    named = _DSCP.get(text.lower())
    return number(text, 63) if named is None else named


def connection_status(words: Iterable[str], *, negate: bool) -> FieldIs:
    """Any of several bits of ``enum ip_conntrack_status``, by nft's or iptables' names."""
    mask = 0
    for word in words:
        bit = _STATUS_BITS.get(word.replace("_", "-"))
        if bit is None:
            raise ValueError(word)
        mask |= bit
    return FieldIs(field="ct status", ranges=((1, 0xFFFF),), mask=mask, negate=negate)


_STATUS_BITS = {
    "none": 0,
    "expected": 0x1,
    "seen-reply": 0x2,
    "assured": 0x4,
    "confirmed": 0x8,
    "snat": 0x10,
    "dnat": 0x20,
}


def mark(text: str) -> tuple[int, int]:
    """``value`` and ``mask`` of ``0x1/0xff``."""
    value, found, mask = text.partition("/")
    return number(value, ALL_BITS), number(mask, ALL_BITS) if found else ALL_BITS


def interface(text: str) -> str:
    """A name as the model has it: iptables' ``veth+`` is ``veth*``."""
    return f"{text[:-1]}*" if text.endswith("+") else text
