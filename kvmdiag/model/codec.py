"""Snapshots as files: gzip'd JSON, the same bytes for the same facts.

A file may come from anybody: it is unpacked up to a limit, decoded strictly against the
model, and its addresses and numbers are checked, before anything uses it. What is left for
others to expect are names that lead nowhere and rings of links and chains: a race while
reading makes such snapshots as well.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from kvmdiag.errors import InputError
from kvmdiag.model.fields import FieldInfo, fields, is_struct, leaves, structs, texts
from kvmdiag.model.meaning import UNORDERED, Meaning
from kvmdiag.model.snapshot import SCHEMA, Snapshot
from kvmdiag.model.stack import Stack

LIMIT = 128 << 20
"""Most bytes of JSON that are unpacked."""

MOST_VALUES = 8_000_000
"""Most values in a file. Small ones take ten times as much memory as they do as text."""

LARGEST_NUMBER = 2**64 - 1
"""Counters of the kernel have 64 bits, everything else fewer."""

_GZIP = 16 + zlib.MAX_WBITS
_LONG_NUMBER = re.compile(rb"\d{20}")
_ADDRESSES = frozenset({Meaning.ADDRESS})


class _Header(msgspec.Struct):
    schema: str
    tool: str = ""


def save(snapshot: Snapshot) -> bytes:
    """The file of a snapshot."""
    # The highest level, gzip's own choice, takes three times as long to save seven percent.
    return gzip.compress(encoded(_in_order(snapshot)), compresslevel=6, mtime=0)


def encoded(facts: Any) -> bytes:
    r"""Facts as JSON; what is no Unicode is written out (``\udcff``).

    Names of links and arguments of processes may hold any byte; Python reads those that are
    no UTF-8 as lone surrogates (PEP 383), which no encoding has.
    """
    try:
        return msgspec.json.encode(facts, order="deterministic")
    except UnicodeEncodeError:
        return msgspec.json.encode(_written_out(facts), order="deterministic")


def _written_out(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, msgspec.Struct):
        changes = {name: _written_out(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, Mapping):
        return {_written_out(key): _written_out(inner) for key, inner in value.items()}
    if isinstance(value, tuple | frozenset):
        return type(value)(map(_written_out, value))
    return value


def load(data: bytes) -> Snapshot:
    """The snapshot in a file.

    Raises:
        InputError: it is damaged, cut off, of another version, or no snapshot at all.

    """
    text = _unpacked(data)
    try:
        header = msgspec.json.decode(text, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a kvmdiag snapshot: {_short(str(error))}") from None
    if header.schema != SCHEMA:
        raise InputError(
            f"snapshot is of version {_short(header.schema)}, this kvmdiag reads {SCHEMA}: "
            "use the kvmdiag that wrote it"
        )
    try:
        snapshot = msgspec.json.decode(text, type=Snapshot)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        by = f" (written by {_short(header.tool)})" if header.tool else ""
        raise InputError(f"snapshot is not understood{by}: {_short(str(error))}") from None
    if _LONG_NUMBER.search(text):
        _refuse_large_numbers(snapshot)
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
    if text.count(b",") > MOST_VALUES:
        raise InputError(f"snapshot holds more than {MOST_VALUES} values")
    return text


def _in_order(value: Any) -> Any:
    """The struct with those lists sorted whose order means nothing."""
    struct: type = type(value)
    changes = {}
    for field in _leading_to_unordered(struct):
        old = getattr(value, field.name)
        if not old:
            continue
        if field.key in UNORDERED:
            changes[field.name] = tuple(sorted(old, key=msgspec.json.encode))
        elif isinstance(old, tuple):
            changes[field.name] = tuple(map(_in_order, old))
        else:
            changes[field.name] = _in_order(old)
    return msgspec.structs.replace(value, **changes) if changes else value


@cache
def _leading_to_unordered(struct: type) -> tuple[FieldInfo, ...]:
    """The fields whose value is such a list, or holds one somewhere."""
    return tuple(
        field
        for field in fields(struct)
        if field.key in UNORDERED
        or any(
            inner.key in UNORDERED
            for hint in leaves(field.type)
            if is_struct(hint)
            for below in structs(hint)
            for inner in fields(below)
        )
    )


def _refuse_large_numbers(value: Any) -> None:
    """No field has room for a number of more than 64 bits; arithmetic on one takes for ever."""
    if isinstance(value, int):
        if abs(value) > LARGEST_NUMBER:
            raise InputError("damaged snapshot: a number in it has more than 64 bits")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_large_numbers(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            _refuse_large_numbers(inner)
    elif isinstance(value, tuple | frozenset):
        for inner in value:
            _refuse_large_numbers(inner)


def _complaints(snapshot: Snapshot) -> Iterator[str]:
    """What the types cannot say: names that lead nowhere, addresses that are none."""
    names = [stack.name for stack in snapshot.stacks]
    if snapshot.host not in names:
        yield f"there is no stack {snapshot.host!r}, which is said to be the host"
    if len(set(names)) < len(names):
        yield "two stacks have the same name"
    for stack in snapshot.stacks:
        for network in _networks(stack):
            try:
                ip_network(network, strict=False)
            except ValueError:
                yield f"{network!r} in stack {stack.name!r} is no network"
    for field, address in texts(snapshot, _ADDRESSES):
        try:
            ip_address(address)
        except ValueError:
            yield f"{address!r} ({field.key}) is no address"


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
