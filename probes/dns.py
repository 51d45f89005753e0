"""Asking for a name, and following the query, what is forwarded of it, and the answers.

A resolver asks others in its own name, with a number of its own; only the name asked for is
the same. So every message that asks for this name meanwhile is seen, whoever sends it.
Source: RFC 1035.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from kvmdiag.errors import UsageError
from kvmdiag.model.measure import Exchange, Leg
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.probes import bpf_messages
from kvmdiag.probes.captures import open_captures
from kvmdiag.probes.exchange import Message, messages, places
from kvmdiag.probes.guest_programs import Enter
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.packet import new_probe
from kvmdiag.probes.scapy_quiet import services
from kvmdiag.probes.sources import sender_for
from kvmdiag.probes.watch import Watch

PORT = 53
_A, _AAAA = 1, 28
_HEADER = 12
_MARK = 8
_LONGEST_LABEL, _LONGEST_NAME = 63, 253
_CODES = {0: "no error", 2: "SERVFAIL", 3: "NXDOMAIN: there is no such name", 5: "REFUSED"}
_GOOD = (0, 3)


def follow_dns(
    snapshot: Snapshot,
    way: Walk,
    name: str,
    *,
    timeout: float = 2.0,
    on_tap: bool = False,
    enter: Enter | None = None,
) -> Exchange:
    """Ask the walk's destination for a name and follow what happens; sent as ``observe`` does.

    Raises:
        NotReadableError: the query cannot be sent, or capturing is not allowed.
        UsageError: it is no name that can be asked for.

    """
    wire = wire_name(name)
    payload = _query(name, _AAAA if ":" in (way.question.destination.address or "") else _A)
    probe = new_probe(way.question)
    probe = msgspec.structs.replace(probe, payload=payload, mark=payload[:_MARK])
    with ExitStack() as opened:
        sender = opened.enter_context(sender_for(snapshot, way, probe, on_tap=on_tap, enter=enter))
        sender.prepare()
        captures = open_captures(
            snapshot,
            opened,
            bpf_messages.dns(wire),
            first=[way.question.source.stack or "", *(hop.stack for hop in way.hops)],
        )
        watch = Watch(snapshot, [sender], captures.opened)
        opened.callback(watch.close)
        watch.send()
        # A resolver that waits for others keeps silent for long: no giving up before the time.
        watch.until_settled(timeout, quiet=timeout)
        found = [m for m in messages(captures.opened) if _asks_for(m.payload, wire)]
    remarks = (*sender.remarks, *(f"not watched: {who}: {why}" for who, why in captures.blind))
    return _exchange(way, name, found, watch.answers.get(0), payload[:2], sender.sent_ns, remarks)


def wire_name(name: str) -> bytes:
    """A name as it stands in messages: labels with their lengths.

    Raises:
        UsageError: a label is empty or too long, or is not ASCII.

    """
    try:
        labels = [label.encode("ascii") for label in name.removesuffix(".").split(".")]
    except UnicodeEncodeError:
        raise UsageError(f"{name!r}: write the name in ASCII (xn--...)") from None
    fits = all(0 < len(label) <= _LONGEST_LABEL for label in labels) and len(name) <= _LONGEST_NAME
    if not fits:
        raise UsageError(f"{name!r} is not a name that DNS could know")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _query(name: str, kind: int) -> bytes:
    service = services()
    number = secrets.randbits(16)
    question = service.DNSQR(qname=name.removesuffix(".") + ".", qtype=kind)
    return bytes(service.DNS(id=number, rd=1, qd=question))


def _asks_for(payload: bytes, wire: bytes) -> bool:
    return payload[_HEADER : _HEADER + len(wire)].lower() == wire.lower()


def _is_answer(message: Message) -> bool:
    return bool(message.payload[2] & 0x80)


def _code(message: Message) -> int:
    return message.payload[3] & 0xF


def _exchange(
    way: Walk,
    name: str,
    found: Sequence[Message],
    answer: Answer | None,
    number: bytes,
    sent_ns: int,
    remarks: tuple[str, ...],
) -> Exchange:
    own = [m for m in found if m.payload[:2] == number]
    other = [m for m in found if m.payload[:2] != number]
    query = [m for m in own if not _is_answer(m)]
    back = [m for m in own if _is_answer(m)]
    forward = [m for m in other if not _is_answer(m)]
    numbers = {m.payload[:2] for m in forward}
    upstream = [m for m in other if _is_answer(m) and m.payload[:2] in numbers]
    got = answer is not None and answer.kind == "reply"
    code = _code(back[-1]) if back else None
    legs = [
        _query_leg(way, query, bool(back or forward), answer, sent_ns),
        *_forward_legs(forward, upstream, got, sent_ns),
        _answer_leg(back, got, code, sent_ns),
    ]
    server = way.question.destination.text
    verdict = f"{way.question.source.text} dns {name} at {server}: "
    verdict += _ending(query, forward, upstream, back, got, code, answer)
    works = got and code in _GOOD if code is not None else got
    return Exchange(
        kind="dns", subject=name, works=works, verdict=verdict, legs=tuple(legs), remarks=remarks
    )


def _ending(
    query: Sequence[Message],
    forward: Sequence[Message],
    upstream: Sequence[Message],
    back: Sequence[Message],
    got: bool,
    code: int | None,
    answer: Answer | None,
) -> str:
    """Which message is missing, or what the answer says."""
    if got:
        return f"answered: {_said(code)}"
    if answer is not None:
        return f"no answer: {answer.text}"
    if back:
        return f"the answer is lost; it was last seen at {back[-1].place}"
    if upstream:
        return f"the resolver got an answer ({_said(_code(upstream[-1]))}) and passes none on"
    if forward:
        return f"no answer to what was forwarded, last seen at {forward[-1].place}"
    if query:
        return f"no answer; the query was last seen at {query[-1].place}"
    return "the query was seen nowhere"


def _said(code: int | None) -> str:
    return "its content was not seen" if code is None else _CODES.get(code, f"error {code}")


def _query_leg(
    way: Walk, query: Sequence[Message], followed: bool, answer: Answer | None, sent_ns: int
) -> Leg:
    text: str
    arrived: bool | None
    if followed:
        text, arrived = f"{way.question.destination.text} got it", True
    elif answer is not None:
        text, arrived = answer.text, False
    elif query:
        text, arrived = f"got to {query[-1].place}", None
    else:
        text, arrived = "was seen nowhere", False
    return Leg(name="query", arrived=arrived, text=text, places=places(query, sent_ns))


def _forward_legs(
    forward: Sequence[Message], upstream: Sequence[Message], got: bool, sent_ns: int
) -> list[Leg]:
    if not forward:
        if not got:
            return []
        text = "not seen: the resolver knew the answer, or asks where nobody looks"
        return [Leg(name="forward", arrived=None, text=text)]
    asked = sorted({str(m.destination) for m in forward})
    codes = sorted({_said(_code(m)) for m in upstream})
    text = ", ".join(codes) if upstream else f"none came from {', '.join(asked)}"
    return [
        Leg(
            name="forward",
            arrived=True if upstream else None,
            text=f"asked {', '.join(asked)}",
            places=places(forward, sent_ns),
        ),
        Leg(
            name="forward's answer",
            arrived=bool(upstream),
            text=text,
            places=places(upstream, sent_ns),
        ),
    ]


def _answer_leg(back: Sequence[Message], got: bool, code: int | None, sent_ns: int) -> Leg:
    if got:
        text = _said(code)
    elif back:
        text = f"{_said(code)}; it did not arrive"
    else:
        text = "none was seen"
    return Leg(name="answer", arrived=got, text=text, places=places(back, sent_ns))
