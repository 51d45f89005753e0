"""Addresses and networks from their text, remembered because facts repeat the same few."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kvmdiag.model.packet import IPAddress


@lru_cache(maxsize=65536)
def parse_network(text: str) -> IPv4Network | IPv6Network:
    """A network from its text, of which host bits may be set."""
    return ip_network(text, strict=False)


@lru_cache(maxsize=65536)
def parse_address(text: str) -> IPAddress:
    """An address from its text."""
    return ip_address(text)


@lru_cache(maxsize=65536)
def bounds(text: str) -> tuple[int, int, int] | None:
    """IP version, first and last address (as numbers) of a CIDR or ``first-last``.

    ``None`` when the text is neither.
    """
    try:
        if "-" in text:
            first, last = (ip_address(part) for part in text.split("-"))
            return first.version, int(first), int(last)
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network.version, int(network.network_address), int(network.broadcast_address)
