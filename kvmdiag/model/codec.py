"""Snapshots as files: gzip'd JSON, the same bytes for the same facts.

A file may come from anybody: it is unpacked up to a limit, decoded strictly against the
model, and its addresses are checked, before anything uses it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import msgspec

from kvmdiag.errors import InputError
from kvmdiag.model.snapshot import SCHEMA, Snapshot
from kvmdiag.model.stack import Stack

LIMIT = 256 << 20
"""Most bytes of JSON that are unpacked."""

_GZIP = 16 + zlib.MAX_WBITS


class _Header(msgspec.Struct):
    schema: str


def save(snapshot: Snapshot) -> bytes:
    """The file of a snapshot."""
    return gzip.compress(msgspec.json.encode(snapshot, order="deterministic"), mtime=0)


def load(data: bytes) -> Snapshot:
    """The snapshot in a file.

    Raises:
        InputError: it is damaged, cut off, of another version, or no snapshot at all.

    """
    text = _unpacked(data)
    try:
        schema = msgspec.json.decode(text, type=_Header).schema
        if schema != SCHEMA:
            raise InputError(
                f"snapshot is of version {_short(schema)}, this kvmdiag reads {SCHEMA}: "
                "use the kvmdiag that wrote it"
            )
        snapshot = msgspec.json.decode(text, type=Snapshot)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a kvmdiag snapshot: {_short(str(error))}") from None
    for complaint in _complaints(snapshot):
        raise InputError(f"damaged snapshot: {_short(complaint)}")
    return snapshot


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        text = unpacker.decompress(data, LIMIT + 1)
    except zlib.error:
        raise InputError("not a kvmdiag snapshot: not in gzip format, or damaged") from None
    if len(text) > LIMIT:
        raise InputError(f"snapshot is larger than {LIMIT >> 20} MiB when unpacked")
    if not unpacker.eof:
        raise InputError("damaged snapshot: the file is cut off; take or copy it again")
    if unpacker.unused_data:
        raise InputError("damaged snapshot: there is more behind its end")
    return text


def _complaints(snapshot: Snapshot) -> Iterator[str]:
    """What the types cannot say: names that lead nowhere, addresses that are none."""
    names = [stack.name for stack in snapshot.stacks]
    if snapshot.host not in names:
        yield f"there is no stack {snapshot.host!r}, which is said to be the host"
    if len(set(names)) < len(names):
        yield "two stacks have the same name"
    for stack in snapshot.stacks:
        for address in _addresses(stack):
            try:
                ip_address(address)
            except ValueError:
                yield f"{address!r} in stack {stack.name!r} is no address"
        for network in _networks(stack):
            try:
                ip_network(network, strict=False)
            except ValueError:
                yield f"{network!r} in stack {stack.name!r} is no network"


def _addresses(stack: Stack) -> Iterator[str]:
    for address in stack.addresses or ():
        if address.peer is not None:
            yield address.peer
    for route in stack.routes or ():
        if route.preferred_source is not None:
            yield route.preferred_source
        yield from (hop.gateway for hop in route.next_hops if hop.gateway is not None)
    for neighbour in stack.neighbours or ():
        yield neighbour.address


def _networks(stack: Stack) -> Iterator[str]:
    for address in stack.addresses or ():
        yield address.network
    for route in stack.routes or ():
        yield route.destination
        if route.source is not None:
            yield route.source
    for rule in stack.policy_rules or ():
        yield from (prefix for prefix in (rule.source, rule.destination) if prefix is not None)


def _short(text: str) -> str:
    """One line of it, with nothing a terminal would obey."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= 200 else f"{line[:200]}..."
