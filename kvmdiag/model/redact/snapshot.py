"""Replaces in a whole snapshot what could tell whose it is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from kvmdiag.model.fields import FieldInfo, fields, texts
from kvmdiag.model.meaning import Meaning
from kvmdiag.model.redact.addresses import Addresses, IPAddress, IPNetwork
from kvmdiag.model.redact.macs import Macs
from kvmdiag.model.redact.names import Names
from kvmdiag.model.redact.text import Texts
from kvmdiag.model.snapshot import Snapshot

# How often other stand-ins are tried when one is somebody else's original; so many addresses
# are looked at altogether.
_TRIES = 64
_LOOKS = 100_000


def redact(snapshot: Snapshot, *, key: bytes | None = None) -> Snapshot:
    """The snapshot with addresses, MACs, names and unknown words replaced by stand-ins.

    The same original has the same stand-in everywhere, and every path is judged as before.
    Without ``key`` the stand-ins are different each time, and nobody can find out by trying.
    """
    return Redactor(snapshot, key=key).snapshot()


class Redactor:
    """The stand-ins for one snapshot, for it and for texts about it."""

    def __init__(self, snapshot: Snapshot, *, key: bytes | None = None) -> None:
        self._original = snapshot
        names = Names(
            [*_found(snapshot, Meaning.LINK), *_links_of_sysctls(snapshot)],
            _found(snapshot, Meaning.CHAIN),
            [*_found(snapshot, Meaning.NAME), *_namespaces(snapshot)],
        )
        addresses, macs = _best(snapshot, key or secrets.token_bytes(32))
        self._texts = Texts(addresses, macs, names)
        self._by_meaning: Mapping[Meaning, Callable[[str], str]] = {
            Meaning.WORD: str,
            Meaning.ADDRESS: self._texts.address,
            Meaning.NETWORK: self._texts.network,
            Meaning.MAC: self._texts.mac,
            Meaning.LINK: self._texts.name,
            Meaning.CHAIN: self._texts.name,
            Meaning.NAME: self._texts.name,
            Meaning.PATH: self._texts.path,
            Meaning.SYSCTLS: self._texts.sysctl,
            Meaning.RULE: self._texts.rule,
            Meaning.TEXT: self._texts.label,
            Meaning.PROSE: self._texts.prose,
            Meaning.UNKNOWN: self._texts.name,
        }

    def snapshot(self) -> Snapshot:
        """The snapshot, redacted."""
        redacted: Snapshot = self._struct(self._original)
        return redacted

    def text(self, text: str) -> str:
        """A command line or a sentence about the snapshot, with the same stand-ins."""
        return self._texts.prose(text)

    def _struct(self, struct: Any) -> Any:
        kind: type = type(struct)
        changes = {}
        for field in fields(kind):
            old = getattr(struct, field.name)
            new = self._value(field, old)
            if new is not old:
                changes[field.name] = new
        return msgspec.structs.replace(struct, **changes) if changes else struct

    def _value(self, field: FieldInfo, value: Any) -> Any:
        if isinstance(value, str):
            return self._by_meaning[field.meaning](value) if field.has_text else value
        if isinstance(value, msgspec.Struct):
            return self._struct(value)
        if isinstance(value, tuple):
            return tuple(self._value(field, inner) for inner in value)
        if isinstance(value, frozenset):
            return frozenset(self._value(field, inner) for inner in value)
        if isinstance(value, Mapping):
            return {
                self._value(field, name): self._mapped(field, inner)
                for name, inner in value.items()
            }
        return value

    def _mapped(self, field: FieldInfo, value: Any) -> Any:
        """What a mapping maps to; values of sysctls are numbers, or a few words."""
        if field.meaning is Meaning.SYSCTLS and isinstance(value, str):
            return self._texts.rule(value)
        return self._value(field, value)


def _found(snapshot: Snapshot, meaning: Meaning) -> list[str]:
    """Every text of a meaning, each once, in the order of the snapshot."""
    return list(dict.fromkeys(text for _, text in texts(snapshot, frozenset({meaning}))))


def _links_of_sysctls(snapshot: Snapshot) -> Iterable[str]:
    for name in _found(snapshot, Meaning.SYSCTLS):
        parts = name.split(".")
        if parts[0] == "net" and len(parts) > 4 and parts[2] in ("conf", "neigh"):
            yield parts[3].replace("/", ".")


def _namespaces(snapshot: Snapshot) -> Iterable[str]:
    for path in _found(snapshot, Meaning.PATH):
        if path.startswith("/run/netns/"):
            yield path.removeprefix("/run/netns/")


def _best(snapshot: Snapshot, key: bytes) -> tuple[Addresses, Macs]:
    """Stand-ins none of which is an original, as far as there is room for that.

    Where a snapshot uses most networks of a small block some must be used again.
    """
    plain, networks, ranges = _addresses_in(snapshot)
    chosen: tuple[int, Addresses, Macs] | None = None
    for number in range(min(_TRIES, 1 + _LOOKS // max(1, len(plain)))):
        derived = hashlib.blake2s(number.to_bytes(2, "big"), key=key).digest()
        macs = Macs(derived)
        addresses = Addresses(derived, networks, ranges, macs)
        made = {address: addresses(address) for address in plain}
        clashes = len(plain) - len(set(made.values()))
        score = clashes * len(plain) + sum(
            1 for address, new in made.items() if new in plain and not addresses.stays(address)
        )
        if chosen is None or score < chosen[0]:
            chosen = (score, addresses, macs)
        if score == 0:
            break
    assert chosen is not None  # noqa: S101  there is at least one try
    return chosen[1:]


def _addresses_in(
    snapshot: Snapshot,
) -> tuple[set[IPAddress], set[IPNetwork], set[tuple[IPAddress, IPAddress]]]:
    """Addresses, networks and ranges of the snapshot's fields, as numbers."""
    plain: set[IPAddress] = set()
    networks: set[IPNetwork] = set()
    ranges: set[tuple[IPAddress, IPAddress]] = set()
    for field, text in texts(snapshot, frozenset({Meaning.ADDRESS, Meaning.NETWORK})):
        try:
            if field.meaning is Meaning.ADDRESS or ("/" not in text and "-" not in text):
                plain.add(ip_address(text))
            elif "/" in text:
                networks.add(ip_network(text, strict=False))
                plain.add(ip_address(text.partition("/")[0]))
            else:
                first, last = (ip_address(end) for end in text.split("-"))
                ranges.add((first, last))
                plain |= {first, last}
        except ValueError:
            continue  # it is replaced as text
    for stack in snapshot.stacks:
        for address in stack.addresses or ():
            networks.add(ip_network(address.network, strict=False))
    return plain, networks, ranges
