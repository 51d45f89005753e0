"""Asking who has the next hop, by ARP or neighbour discovery, and following question and answer.

Many a silent loss is one of these messages and no packet of the user's: nothing is sent to a
next hop that does not answer. Source: RFC 826, RFC 4861.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.measure import Exchange, Leg
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.probes import bpf_messages
from kvmdiag.probes.arp_asker import Asker, asker_of, port_of
from kvmdiag.probes.capture import Capture, without_link_layer
from kvmdiag.probes.captures import open_captures
from kvmdiag.probes.exchange import ends, places, wait_for
from kvmdiag.probes.frames import resolution_request
from kvmdiag.simulate.facts.addresses import parse_address

PATIENCE = 1.0
_AFTER_FIRST = 0.1
_ARP_LENGTH, _ARP_REPLY = 28, 2
_SOLICITED, _ADVERTISED = 135, 136
_IPV6_HEADER = 40
_TARGET_MAC = 2


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """An ARP or ND message that was seen at a link; ``mac`` is what an answer tells."""

    place: LinkRef
    outgoing: bool
    time_ns: int
    answer: bool
    mac: str | None


def follow_arp(
    snapshot: Snapshot, way: Walk, *, timeout: float = PATIENCE, on_tap: bool = False
) -> Exchange:
    """Ask in the walk's source's name for its next hop towards the destination, and follow that.

    Raises:
        NotReadableError: nothing can be sent in its name, or capturing is not allowed.
        UsageError: it has no route, or no link to ask by.

    """
    asker = asker_of(snapshot, way, on_tap)
    frame = resolution_request(asker.mac, asker.source, asker.wanted)
    with ExitStack() as opened:
        port = opened.enter_context(port_of(asker))
        code = bpf_messages.resolution(asker.source, asker.wanted)
        captures = open_captures(snapshot, opened, code, first=[asker.stack.name])
        sent_ns = time.time_ns()
        port.put(frame)
        found = wait_for(captures.opened, timeout, _Arrivals(asker).enough, _messages)
    unwatched = tuple(f"not watched: {name}: {why}" for name, why in captures.blind)
    return _exchange(snapshot, asker, found, sent_ns, unwatched)


class _Arrivals:
    """Whether an answer has arrived; a second machine with the address gets a moment, too."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._first: float | None = None

    def enough(self, found: list[Resolution]) -> bool:
        if self._first is None and any(_has_arrived(one, self._asker) for one in found):
            self._first = time.monotonic()
        return self._first is not None and time.monotonic() > self._first + _AFTER_FIRST


def _messages(captures: Iterable[Capture]) -> list[Resolution]:
    found = []
    for capture in captures:
        for frame in capture.frames():
            told = _told(without_link_layer(frame))
            if told is not None:
                found.append(
                    Resolution(
                        place=LinkRef(capture.stack, frame.link),
                        outgoing=frame.outgoing,
                        time_ns=frame.time_ns,
                        answer=told[0],
                        mac=told[1],
                    )
                )
    return sorted(found, key=lambda one: one.time_ns)


def _told(packet: bytes) -> tuple[bool, str | None] | None:
    """Whether it is an answer, and which MAC address it tells; ``None`` for anything else."""
    if len(packet) >= _ARP_LENGTH and packet[:2] == b"\0\1":
        answer = int.from_bytes(packet[6:8], "big") == _ARP_REPLY
        return answer, packet[8:14].hex(":") if answer else None
    upper = packet[_IPV6_HEADER:]
    if len(upper) < 24 or packet[0] >> 4 != 6 or upper[0] not in (_SOLICITED, _ADVERTISED):
        return None
    if upper[0] == _SOLICITED:
        return False, None
    option = upper[24:32]
    mac = option[2:8].hex(":") if option[:2] == bytes((_TARGET_MAC, 1)) else None
    return True, mac


def _has_arrived(one: Resolution, asker: Asker) -> bool:
    return one.answer and one.place == asker.place and one.outgoing == asker.on_tap


def _exchange(
    snapshot: Snapshot,
    asker: Asker,
    found: Sequence[Resolution],
    sent_ns: int,
    unwatched: tuple[str, ...],
) -> Exchange:
    asked = [one for one in found if not one.answer]
    answers = [one for one in found if one.answer]
    arrived = [one for one in answers if _has_arrived(one, asker)]
    macs = list(dict.fromkeys(one.mac for one in arrived or answers if one.mac))
    who = [f"{mac} ({_owner(snapshot, mac)})" for mac in macs]
    remarks = [*asker.remarks, *unwatched]
    if len(macs) > 1:
        remarks.insert(0, f"{len(macs)} machines say that they have {asker.wanted}")
    legs = (
        Leg(
            name="question",
            arrived=True if answers else None if asked else False,
            text=f"who has {asker.wanted}? tell {asker.source}",
            places=places(asked, sent_ns),
        ),
        Leg(
            name="answer",
            arrived=bool(arrived),
            text=_answer_text(asker, answers, bool(arrived), who),
            places=places(answers, sent_ns),
        ),
    )
    verdict = f"{asker.name} arp {asker.wanted}: "
    if arrived:
        verdict += f"it is at {', '.join(who) or 'a MAC address that it does not tell'}"
    elif answers:
        verdict += f"the answer is lost; it was last seen at {answers[-1].place}"
    else:
        verdict += f"no answer; {_fate(snapshot, asker, asked)}"
    return Exchange(
        kind="arp", subject=str(asker.wanted), works=bool(arrived), verdict=verdict, legs=legs,
        remarks=tuple(remarks),
    )  # fmt: skip


def _answer_text(
    asker: Asker, answers: Sequence[Resolution], arrived: bool, who: Sequence[str]
) -> str:
    if not answers:
        return "none was seen"
    said = ", ".join(who) or "no MAC address is told"
    return said if arrived else f"{said}; never seen at {asker.place}"


def _fate(snapshot: Snapshot, asker: Asker, asked: Sequence[Resolution]) -> str:
    """Where the question got to, and whether who has the address got it."""
    if not asked:
        link = asker.link
        why = "is down" if not link.up else "has no carrier" if not link.carrier else None
        return "the question was seen nowhere" + (f": {asker.place} {why}" if why else "")
    owners = _having(snapshot, asker.wanted)
    silent = [one.place for one in asked if not one.outgoing and one.place in owners]
    if silent:
        return (
            f"{silent[0]} has that address, got the question and does not answer "
            "(arp_ignore, arp_filter or rp_filter may keep it from that)"
        )
    got = ends(snapshot, asked, asker.place)
    if got:
        return f"the question got to {', '.join(map(str, got))}"
    return f"the question did not get beyond {asked[-1].place}"


def _having(snapshot: Snapshot, address: IPAddress) -> set[LinkRef]:
    return {
        LinkRef(stack.name, entry.link)
        for stack in snapshot.stacks
        for entry in stack.addresses or ()
        if parse_address(entry.address) == address
    }


def _owner(snapshot: Snapshot, mac: str) -> str:
    """The link with this MAC address; a bridge rather than the port it has it from."""
    found = [
        (link.master is not None, LinkRef(stack.name, link.name))
        for stack in snapshot.stacks
        for link in stack.links or ()
        if link.mac == mac
    ]
    return str(min(found)[1]) if found else "of no machine that is known here"
