"""Asking for an address, and following the question and the offers.

Only DISCOVER is sent, in the guest's own name: servers answer it with an OFFER, which binds
nobody. To go on would take a lease, or take one away, so the exchange is left there.
Source: RFC 2131, RFC 2132.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.measure import Exchange, Leg
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes import bpf_messages
from kvmdiag.probes.captures import open_captures
from kvmdiag.probes.dhcp_client import Client, client_of, discover, port_of
from kvmdiag.probes.exchange import Message, ends, messages, places, wait_for

PATIENCE = 5.0
"""dnsmasq and others ping an address for up to three seconds before they offer it."""

_AFTER_FIRST = 0.3
_REQUEST, _REPLY = 1, 2
_DISCOVER, _OFFER = 1, 2
_YIADDR, _COOKIE_AT, _OPTIONS_AT = slice(16, 20), 236, 240
_COOKIE = b"\x63\x82\x53\x63"
_PAD, _END, _MASK, _ROUTER, _LEASE, _TYPE, _SERVER = 0, 255, 1, 3, 51, 53, 54


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers; ``None`` where it does not say."""

    address: IPv4Address
    server: IPv4Address | None
    router: IPv4Address | None
    seconds: int | None

    def __str__(self) -> str:
        parts = [f"{self.address}"]
        if self.server is not None:
            parts.append(f"by {self.server}")
        if self.router is not None:
            parts.append(f"router {self.router}")
        if self.seconds is not None:
            parts.append(f"for {self.seconds} s")
        return ", ".join(parts)


def follow_dhcp(
    snapshot: Snapshot, source: str, *, timeout: float = PATIENCE, on_tap: bool = False
) -> Exchange:
    """Ask in the source's name (``node1`` or ``node1:ens6``) and follow what happens.

    Raises:
        NotReadableError: nothing can be sent in its name, or capturing is not allowed.
        UsageError: there is no such guest or NIC.

    """
    client = client_of(snapshot, source, on_tap)
    transaction = secrets.randbits(32)
    with ExitStack() as opened:
        port = opened.enter_context(port_of(client))
        frame = discover(client.mac, transaction)
        captures = open_captures(
            snapshot, opened, bpf_messages.dhcp(transaction), first=[client.stack.name]
        )
        sent_ns = time.time_ns()
        port.put(frame)
        arrived = _Arrivals(client)
        found = wait_for(captures.opened, timeout, arrived.enough, messages)
    unwatched = tuple(f"{name}: {why}" for name, why in captures.blind)
    asked = [m for m in found if m.payload[:1] == bytes((_REQUEST,))]
    got_to = ends(snapshot, asked, client.place)
    return _exchange(client, found, got_to, sent_ns, unwatched)


class _Arrivals:
    """Whether offers have arrived; a second server gets a moment to answer, too."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._first: float | None = None

    def enough(self, found: list[Message]) -> bool:
        if self._first is None and any(_has_arrived(m, self._client) for m in _offers(found)):
            self._first = time.monotonic()
        return self._first is not None and time.monotonic() > self._first + _AFTER_FIRST


def _options(payload: bytes) -> dict[int, bytes]:
    """The options as far as they were captured; a damaged one ends the list."""
    found: dict[int, bytes] = {}
    if payload[_COOKIE_AT:_OPTIONS_AT] != _COOKIE:
        return found
    at = _OPTIONS_AT
    while at + 2 <= len(payload) and payload[at] != _END:
        if payload[at] == _PAD:
            at += 1
            continue
        code, length = payload[at], payload[at + 1]
        value = payload[at + 2 : at + 2 + length]
        if len(value) < length:
            break
        found.setdefault(code, value)
        at += 2 + length
    return found


def _offers(found: Iterable[Message]) -> list[Message]:
    return [
        message
        for message in found
        if message.payload[:1] == bytes((_REPLY,))
        and _options(message.payload).get(_TYPE) == bytes((_OFFER,))
    ]


def _has_arrived(message: Message, client: Client) -> bool:
    return message.place == client.place and message.outgoing == client.on_tap


def _offer(message: Message) -> Offer:
    options = _options(message.payload)
    seconds = options.get(_LEASE)
    return Offer(
        address=IPv4Address(message.payload[_YIADDR]),
        server=_address(options.get(_SERVER)),
        router=_address(options.get(_ROUTER)),
        seconds=int.from_bytes(seconds, "big") if seconds else None,
    )


def _address(value: bytes | None) -> IPv4Address | None:
    return IPv4Address(value[:4]) if value and len(value) >= 4 else None


def _exchange(
    client: Client,
    found: Sequence[Message],
    got_to: Sequence[LinkRef],
    sent_ns: int,
    unwatched: tuple[str, ...],
) -> Exchange:
    asked = [m for m in found if m.payload[:1] == bytes((_REQUEST,))]
    offers = _offers(found)
    arrived = [m for m in offers if _has_arrived(m, client)]
    told = list(dict.fromkeys(str(_offer(m)) for m in arrived or offers))
    legs = (
        _question_leg(asked, got_to, bool(offers), sent_ns),
        Leg(
            name="OFFER",
            arrived=bool(arrived),
            text=_offer_text(client, offers, bool(arrived), told),
            places=places(offers, sent_ns),
        ),
    )
    remarks = [
        "REQUEST and ACK are not tried, so that no lease is taken or changed",
        *client.remarks,
        *(f"not watched: {text}" for text in unwatched),
    ]
    servers = {offer.server for offer in map(_offer, arrived)}
    if len(servers) > 1:
        remarks.insert(0, f"{len(servers)} servers answer: {', '.join(map(str, servers))}")
    verdict = f"{client.name} dhcp: "
    if arrived:
        verdict += f"is offered {told[0]}"
    elif offers:
        verdict += f"the OFFER is lost; it was last seen at {offers[-1].place}"
    else:
        verdict += f"no OFFER; DISCOVER {_fate(asked, got_to)}"
    return Exchange(
        kind="dhcp", subject=client.name, works=bool(arrived), verdict=verdict, legs=legs,
        remarks=tuple(remarks),
    )  # fmt: skip


def _fate(asked: Sequence[Message], got_to: Sequence[LinkRef]) -> str:
    if not asked:
        return "was seen nowhere"
    if got_to:
        return f"got to {', '.join(map(str, got_to))}"
    return f"did not get beyond {asked[-1].place}"


def _question_leg(
    asked: Sequence[Message],
    got_to: Sequence[LinkRef],
    answered: bool,
    sent_ns: int,
) -> Leg:
    text = _fate(asked, got_to)
    arrived: bool | None = answered
    if answered:
        text = "a server got it"
    elif got_to:
        text, arrived = f"{text}; whether a server listens is not known", None
    return Leg(name="DISCOVER", arrived=arrived, text=text, places=places(asked, sent_ns))


def _offer_text(
    client: Client, offers: Sequence[Message], arrived: bool, told: Sequence[str]
) -> str:
    if not offers:
        return "no server sent one"
    if arrived:
        return "; ".join(told)
    return f"sent ({'; '.join(told)}), but never seen at {client.place}"
