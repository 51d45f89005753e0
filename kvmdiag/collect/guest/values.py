"""Values from a guest, taken only if they are what they should be.

Whatever is not raises ValueError or TypeError, and nothing else.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

NAME = 15
"""The longest name of a link, and of any word that is taken from a guest."""

_TABLES = {"local": 255, "main": 254, "default": 253}
_HEX = frozenset("0123456789abcdef:")


def checked_ip(value: object) -> str:
    """An IP address as the model writes it."""
    return str(ip_address(str(value)))


def checked_mac(value: object) -> str:
    """A hardware address as the model writes it."""
    text = str(value).lower()
    if not set(text) <= _HEX or len(text) > 17:
        raise ValueError("a MAC address that is none")
    return text


def checked_name(value: object) -> str:
    """A word that the kernel would take for a link's name, or near enough."""
    text = str(value)
    if not text or len(text) > NAME or not text.isprintable() or "/" in text or " " in text:
        raise ValueError("a link's name that is none")
    return text


def number(value: object) -> int:
    """A number that fits the kernel's 32 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError("a number that is none")
    return value


def entries(text: str) -> list[dict[str, Any]]:
    """The objects of a JSON list; an empty one is printed as nothing at all by some versions."""
    if not text.strip():
        return []
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise ValueError("not the JSON that was asked for") from None


def an_object(value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise TypeError("an object that is none")
    return value


def objects(value: object) -> list[dict[str, Any]]:
    """A list of JSON objects."""
    if not isinstance(value, list):
        raise TypeError("a list that is none")
    return [an_object(entry) for entry in value]


def table(value: object) -> int:
    """The number of a routing table."""
    text = str(value)
    return _TABLES[text] if text in _TABLES else int(text)


def prefix(value: object, version: int) -> str:
    """A destination or source of one IP version as the model writes it."""
    text = str(value)
    if text in ("default", "any", "all"):
        return "0.0.0.0/0" if version == 4 else "::/0"
    network = ip_network(text, strict=False)
    if network.version != version:
        raise ValueError(f"a destination of another IP version than {version}")
    return str(network)
