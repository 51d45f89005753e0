"""Asking for an address, and following the question and the offers.

Only DISCOVER is sent, in the guest's own name: servers answer it with an OFFER, which binds
nobody. To go on would take a lease, or take one away, so the exchange is left there.
Source: RFC 2131, RFC 2132.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Protocol, Self

import msgspec

from kvmdiag.errors import NotReadableError, UsageError
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.measure import Exchange, Leg
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.probes import bpf
from kvmdiag.probes.behind_tap import mac_behind, taps_of
from kvmdiag.probes.captures import open_captures
from kvmdiag.probes.exchange import Message, places, wait_for
from kvmdiag.probes.scapy_quiet import layers, services
from kvmdiag.probes.tap import injector
from kvmdiag.system.namespaces import entered

PATIENCE = 5.0
"""dnsmasq and others ping an address for up to three seconds before they offer it."""

_AFTER_FIRST = 0.3
_BROADCAST = 0x8000
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


class _Port(Protocol):
    """Something that frames can be put on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def put(self, frame: bytes) -> None: ...


class _Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: ``place`` is where offers arrive; they go out there when it is a tap."""

    name: str
    stack: Stack
    link: Link
    mac: str
    on_tap: bool
    remarks: tuple[str, ...]

    @property
    def place(self) -> LinkRef:
        return LinkRef(self.stack.name, self.link.name)


def follow_dhcp(
    snapshot: Snapshot, source: str, *, timeout: float = PATIENCE, on_tap: bool = False
) -> Exchange:
    """Ask in the source's name (``node1`` or ``node1:ens6``) and follow what happens.

    Raises:
        NotReadableError: nothing can be sent in its name, or capturing is not allowed.
        UsageError: there is no such guest or NIC.

    """
    client = _client(snapshot, source, on_tap)
    transaction = secrets.randbits(32)
    with ExitStack() as opened:
        port = opened.enter_context(_port(client))
        frame = _discover(client.mac, transaction)
        captures = open_captures(snapshot, opened, bpf.dhcp(transaction), first=[client.stack.name])
        sent_ns = time.time_ns()
        port.put(frame)
        arrived = _Arrivals(client)
        found = wait_for(captures.opened, timeout, arrived.enough)
    unwatched = tuple(f"{name}: {why}" for name, why in captures.blind)
    return _exchange(client, found, _ends(snapshot, found, client), sent_ns, unwatched)


class _Arrivals:
    """Whether offers have arrived; a second server gets a moment to answer, too."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._first: float | None = None

    def enough(self, found: list[Message]) -> bool:
        if self._first is None and any(_has_arrived(m, self._client) for m in _offers(found)):
            self._first = time.monotonic()
        return self._first is not None and time.monotonic() > self._first + _AFTER_FIRST


def _client(snapshot: Snapshot, source: str, on_tap: bool) -> _Client:
    name, _, wanted = source.partition(":")
    stack = next((s for s in snapshot.stacks if s.name == name), None)
    if stack is not None and stack.netns is not None and not on_tap:
        link = _nic(stack, wanted or None)
        return _Client(
            name=source, stack=stack, link=link, mac=link.mac or "", on_tap=False, remarks=()
        )
    found = next(taps_of(snapshot, name, wanted or None), None)
    if found is None:
        raise UsageError(f"no guest {source!r} with a tap on this host")
    assumed: list[str] = []
    mac = mac_behind(snapshot, *found, assumed)
    said = f"sent into {found[0].name}/{found[1].name}, as if {name} had sent it, from {mac}"
    return _Client(
        name=source, stack=found[0], link=found[1], mac=mac, on_tap=True,
        remarks=(said, *assumed),
    )  # fmt: skip


def _nic(stack: Stack, wanted: str | None) -> Link:
    """The named NIC, else the first that could ask for an address."""
    for link in stack.links or ():
        usable = link.type == "ether" and link.mac and link.bridge is None
        if usable and link.name == (wanted or link.name):
            return link
    raise UsageError(f"{stack.name} has no NIC {wanted or ''}".rstrip())


def _port(client: _Client) -> _Port:
    return injector(client.stack, client.link) if client.on_tap else _Nic(client)


class _Nic:
    """Sends as a DHCP client does: frames, because there is no address yet."""

    def __init__(self, client: _Client) -> None:
        with entered(client.stack.netns or ""):
            try:
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._socket.bind((client.link.name, 0))
            except OSError as error:
                raise NotReadableError(
                    f"cannot send from {client.place}: {error.strerror}"
                ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def put(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError as error:
            raise NotReadableError(f"cannot send: {error.strerror}") from None


def _discover(mac: str, transaction: int) -> bytes:
    """DISCOVER, to be answered by broadcast: the address offered is nobody's yet."""
    scapy, service = layers(), services()
    hardware = bytes.fromhex(mac.replace(":", ""))
    asked = [("message-type", "discover"), ("param_req_list", [1, 3, 6, 51]), "end"]
    return bytes(
        scapy.Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / scapy.IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 - no address yet
        / scapy.UDP(sport=68, dport=67)
        / service.BOOTP(chaddr=hardware, xid=transaction, flags=_BROADCAST)
        / service.DHCP(options=asked)
    )


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


def _has_arrived(message: Message, client: _Client) -> bool:
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
    client: _Client,
    found: Sequence[Message],
    ends: Sequence[LinkRef],
    sent_ns: int,
    unwatched: tuple[str, ...],
) -> Exchange:
    asked = [m for m in found if m.payload[:1] == bytes((_REQUEST,))]
    offers = _offers(found)
    arrived = [m for m in offers if _has_arrived(m, client)]
    told = list(dict.fromkeys(str(_offer(m)) for m in arrived or offers))
    legs = (
        _question_leg(asked, ends, bool(offers), sent_ns),
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
        verdict += f"no OFFER; DISCOVER {_fate(asked, ends)}"
    return Exchange(
        kind="dhcp", subject=client.name, works=bool(arrived), verdict=verdict, legs=legs,
        remarks=tuple(remarks),
    )  # fmt: skip


def _ends(snapshot: Snapshot, found: Iterable[Message], client: _Client) -> tuple[LinkRef, ...]:
    """Where the broadcast ended: links it came in by and that are no port of a bridge."""
    ports = {
        LinkRef(stack.name, link.name)
        for stack in snapshot.stacks
        for link in stack.links or ()
        if link.master is not None
    }
    return tuple(
        dict.fromkeys(
            m.place
            for m in found
            if m.payload[:1] == bytes((_REQUEST,))
            and not m.outgoing
            and m.place not in {*ports, client.place}
        )
    )


def _fate(asked: Sequence[Message], ends: Sequence[LinkRef]) -> str:
    if not asked:
        return "was seen nowhere"
    if ends:
        return f"got to {', '.join(map(str, ends))}"
    return f"did not get beyond {asked[-1].place}"


def _question_leg(
    asked: Sequence[Message],
    ends: Sequence[LinkRef],
    answered: bool,
    sent_ns: int,
) -> Leg:
    text = _fate(asked, ends)
    arrived: bool | None = answered
    if answered:
        text = "a server got it"
    elif ends:
        text, arrived = f"{text}; whether a server listens is not known", None
    return Leg(name="DISCOVER", arrived=arrived, text=text, places=places(asked, sent_ns))


def _offer_text(
    client: _Client, offers: Sequence[Message], arrived: bool, told: Sequence[str]
) -> str:
    if not offers:
        return "no server sent one"
    if arrived:
        return "; ".join(told)
    return f"sent ({'; '.join(told)}), but never seen at {client.place}"
