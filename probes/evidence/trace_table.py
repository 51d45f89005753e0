"""The tables that tell nf_tables to trace the probe and nothing else.

One table each of the families bridge and inet, with chains that come before all others, let
everything pass, and set the trace bit of what has the probe's signature. The kernel deletes
them together with the netlink socket that made them (``flags owner``, since Linux 5.12), and
until then lets nobody else touch them. A guest that sends the probe back without end does not
make the kernel tell of each: the trace bit is set so many times a second and no more.

They do not make the kernel track connections, which only NAT and ``ct`` do, and being first
they change nothing of the order of the rest.
Source: include/uapi/linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kvmdiag.model.packet import Direction
from kvmdiag.probes.evidence.nfnetlink import (
    ACKNOWLEDGE,
    APPEND,
    CREATE,
    NFTABLES,
    Request,
    attribute,
    long_number,
    nest,
    number,
    text,
)
from kvmdiag.probes.evidence.signature import Signature, anywhere
from kvmdiag.probes.packet import Probe

INET, BRIDGE = 1, 7

_TABLE, _CHAIN, _RULE = (NFTABLES << 8 | message for message in (0, 3, 6))
_OWNER = 2
_PREROUTING, _OUTPUT = 0, 3
_FIRST = -32000
_VERDICT_REGISTER, _REGISTER = 0, 1
_TRANSPORT_HEADER = 2
_META_TRACE, _META_PROTOCOL = 12, 16
_EQUAL = 0
_GOTO = -4
_PER_SECOND, _AT_ONCE = 200, 200
_NAME, _DATA, _ELEMENT = 1, 2, 1
_MAKE = ACKNOWLEDGE | CREATE


def chains(probes: Sequence[Probe]) -> Mapping[str, tuple[int, Direction]]:
    """The chains that set the trace bit: by name, of which probe, and which way it travels."""
    return {
        _chain(index, signature): (index, signature.direction)
        for index, probe in enumerate(probes)
        for signature in anywhere(probe)
    }


def _chain(index: int, signature: Signature) -> str:
    return f"{signature.direction}-{index}"


def requests(
    name: str, family: int, probes: Sequence[Probe], *, limited: bool = True
) -> tuple[Request, ...]:
    """The batch that makes the table; ``limited`` wants a kernel with nft's ``limit``."""
    setting = chains(probes)
    trace = (*(_limit() if limited else ()), *_set_trace())
    return (
        Request(_TABLE, family, text(1, name) + number(2, _OWNER), _MAKE),
        *(Request(_CHAIN, family, text(1, name) + text(3, one), _MAKE) for one in setting),
        *(_rule(name, family, one, trace) for one in setting),
        *_base_chain(name, family, "prerouting", _PREROUTING, probes),
        *_base_chain(name, family, "output", _OUTPUT, probes),
    )


def _base_chain(
    name: str, family: int, chain: str, hook: int, probes: Sequence[Probe]
) -> Iterable[Request]:
    body = (
        text(1, name),
        text(3, chain),
        nest(4, number(1, hook), number(2, _FIRST)),
        text(7, "filter"),
    )
    yield Request(_CHAIN, family, b"".join(body), _MAKE)
    for index, probe in enumerate(probes):
        for signature in anywhere(probe):
            going = _chain(index, signature)
            yield _rule(name, family, chain, _matching(signature, going))


def _rule(name: str, family: int, chain: str, expressions: Iterable[bytes]) -> Request:
    body = text(1, name) + text(2, chain) + nest(4, *expressions)
    return Request(_RULE, family, body, _MAKE | APPEND)


def _expression(name: str, *details: bytes) -> bytes:
    return nest(_ELEMENT, text(_NAME, name), nest(_DATA, *details))


def _matching(signature: Signature, going: str) -> Iterable[bytes]:
    yield _expression("meta", number(2, _META_PROTOCOL), number(1, _REGISTER))
    yield _is(bytes((signature.protocol,)))
    for start, wanted in signature.bytes:
        yield _expression(
            "payload",
            number(1, _REGISTER),
            number(2, _TRANSPORT_HEADER),
            number(3, start),
            number(4, len(wanted)),
        )
        yield _is(wanted)
    verdict = nest(2, number(1, _GOTO), text(2, going))
    yield _expression("immediate", number(1, _VERDICT_REGISTER), nest(2, verdict))


def _is(value: bytes) -> bytes:
    return _expression("cmp", number(1, _REGISTER), number(2, _EQUAL), nest(3, attribute(1, value)))


def _limit() -> Iterable[bytes]:
    yield _expression(
        "limit", long_number(1, _PER_SECOND), long_number(2, 1), number(3, _AT_ONCE), number(4, 0)
    )


def _set_trace() -> Iterable[bytes]:
    yield _expression("immediate", number(1, _REGISTER), nest(2, attribute(1, b"\1\0\0\0")))
    yield _expression("meta", number(2, _META_TRACE), number(3, _REGISTER))
