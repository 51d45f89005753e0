"""What elements of sets stand for, from their text as nft writes it.

Each function here raises ValueError or KeyError for a text that it does not understand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

from kvmdiag.parse import values
from kvmdiag.simulate.rules.context import PROTOCOLS

Span = tuple[int, int] | str
"""First and last number, or a name; a name's trailing ``*`` stands for any ending."""

_FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3}
ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "8021q": 0x8100, "ip6": 0x86DD, "8021ad": 0x88A8}
"""Numbers of the protocols in frames, by nft's names for them."""


def number(text: str) -> Span:
    """A number, or ``first-last``."""
    return _range(text, lambda part: values.number(part, (1 << 128) - 1))


def _range(text: str, one: Callable[[str], int]) -> tuple[int, int]:
    first, found, last = text.partition("-")
    return (one(first), one(last)) if found else (one(text),) * 2


def address(text: str) -> Span:
    """An address, a CIDR or ``first-last``."""
    if "-" in text:
        return _range(text, lambda part: int(ip_address(part)))
    network = ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def protocol(text: str) -> Span:
    """A protocol above IP, by name or number."""
    name = values.protocol(text)
    return (PROTOCOLS.get(name) or int(name),) * 2


def family(text: str) -> Span:
    """A family, by nft's name for it."""
    return (_FAMILIES[text],) * 2


def ethertype(text: str) -> Span:
    """A protocol in frames, by name or number."""
    named = ETHERTYPES.get(text)
    return (values.number(text, 0xFFFF) if named is None else named,) * 2


def mac(text: str) -> Span:
    """A MAC address, or ``first-last``."""
    return _range(text, lambda part: int(part.replace(":", ""), 16))


def icmp(*, v6: bool) -> Callable[[str], Span]:
    """A parser of the types of ICMP, by name or number."""
    return lambda text: (values.icmp_type(text, v6=v6)[0],) * 2


def icmp_code(text: str) -> Span:
    """A code of ICMP, by name or number."""
    return (values.icmp_code(text),) * 2


def dscp(text: str) -> Span:
    """A service class, by name or number."""
    return (values.dscp(text),) * 2


def name(text: str) -> Span:
    """The name of a device or of a kind of device."""
    return text


def word(words: Mapping[str, int]) -> Callable[[str], Span]:
    """A parser of names that stand for numbers; plain numbers are understood too."""
    return lambda text: (words[text] if text in words else values.number(text, 0xFFFF),) * 2
