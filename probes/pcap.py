"""A capture file of a trace: every link that was watched is an interface of it.

Format: pcapng (draft-ietf-opsawg-pcapng). Times are in nanoseconds; each packet says in a
comment which hop it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from kvmdiag.model.link import LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Hop, Walk
from kvmdiag.probes.observation import Observation, Sighting

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_END, _COMMENT, _NAME, _RESOLUTION, _FLAGS = 0, 1, 2, 9, 2
_APPLICATION = 4
_NANOSECONDS = 9  # 10 to the minus
_INBOUND, _OUTBOUND = 1, 2
_LINK_TYPES = {1: 1, 772: 1}  # Ethernet; loopback has an Ethernet header too
_RAW_IP = 101
_LONGEST = 65535

_Options = Sequence[tuple[int, bytes]]


def pcapng(snapshot: Snapshot, probes: Sequence[tuple[Walk, Observation]]) -> bytes:
    """The whole file; with each observation goes its fused walk, whose hops the comments name."""
    places = _places(snapshot, [seen for _, seen in probes])
    numbers = {key: number for number, key in enumerate(places)}
    blocks = [_block(_SECTION, struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1), _SECTION_OPTIONS)]
    for place, link_type in places:
        options = ((_NAME, _cut(str(place))), (_RESOLUTION, bytes((_NANOSECONDS,))))
        blocks.append(_block(_INTERFACE, struct.pack("=HHI", link_type, 0, 0), options))
    for number, (way, one) in enumerate(probes, start=1):
        for sighting in one.sightings:
            if sighting.frame is not None:
                key = (sighting.place, _link_type(sighting))
                comment = _comment(sighting, way, one)
                if len(probes) > 1:
                    comment = f"probe {number}: {comment}"
                blocks.append(_packet(numbers[key], sighting, comment))
    return b"".join(blocks)


_SECTION_OPTIONS: _Options = ((_APPLICATION, b"kvmdiag trace"),)


def _places(snapshot: Snapshot, seen: Iterable[Observation]) -> list[tuple[LinkRef, int]]:
    """Links with the type of what was captured there: those of each watched stack, in order."""
    observations = list(seen)
    watched = {name for one in observations for name in one.watched}
    found: dict[tuple[LinkRef, int], None] = {}
    for stack in snapshot.stacks:
        for link in (stack.links or ()) if stack.name in watched else ():
            found[LinkRef(stack.name, link.name), _type_of(link.type)] = None
    for one in observations:
        for sighting in one.sightings:
            if sighting.frame is not None:
                found[sighting.place, _link_type(sighting)] = None
    return list(found)


def _type_of(link: str) -> int:
    return _LINK_TYPES[1] if link in ("ether", "loopback") else _RAW_IP


def _link_type(sighting: Sighting) -> int:
    assert sighting.frame is not None  # noqa: S101 - asked for only then
    return _LINK_TYPES.get(sighting.frame.hardware, _RAW_IP)


def _comment(sighting: Sighting, way: Walk, one: Observation) -> str:
    """``request, hop 3 of 7: host/mybr0 bridge``, and what became of the addresses."""
    hops = [hop for hop in way.hops if hop.direction == sighting.direction]
    at = f"{sighting.place} {'out' if sighting.direction_on_link == 'out' else 'in'}"
    if sighting.quoted:
        return f"ICMP error that quotes the probe: {at}"
    shown = [hop for hop in hops if hop.seen and hop.time_us is not None]
    since = (sighting.time_ns - one.sent_ns) / 1000
    for number, hop in enumerate(shown, start=1):
        if hop.place == sighting.place and _is_of(hop, since):
            expected = "" if hop.predicted else ", not predicted"
            return f"{sighting.direction}, hop {number}: {at}, {hop.stage}{expected}"
    return f"{sighting.direction}: {at}"


def _is_of(hop: Hop, since: float) -> bool:
    return hop.time_us is not None and abs(hop.time_us - since) < 1


def _packet(interface: int, sighting: Sighting, comment: str) -> bytes:
    frame = sighting.frame
    assert frame is not None  # noqa: S101 - asked for only then
    outward = sighting.direction_on_link == "out"
    body = struct.pack(
        "=IIIII",
        interface,
        sighting.time_ns >> 32,
        sighting.time_ns & 0xFFFFFFFF,
        len(frame.data),
        max(frame.length, len(frame.data)),
    )
    flags = struct.pack("=I", _OUTBOUND if outward else _INBOUND)
    return _block(_PACKET, body + _padded(frame.data), ((_COMMENT, _cut(comment)), (_FLAGS, flags)))


def _block(kind: int, body: bytes, options: _Options) -> bytes:
    content = body + b"".join(_options(options))
    length = len(content) + 12
    return struct.pack("=II", kind, length) + content + struct.pack("=I", length)


def _options(options: _Options) -> Iterator[bytes]:
    for code, value in options:
        yield struct.pack("=HH", code, len(value)) + _padded(value)
    yield struct.pack("=HH", _END, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _cut(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_LONGEST]
