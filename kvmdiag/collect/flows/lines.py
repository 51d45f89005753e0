"""Tracked connections as ``/proc/net/nf_conntrack`` lists them: where netlink does not tell.

That is without the module nf_conntrack_netlink, and inside guests. Lines that make no sense are
left out: a guest may print what it likes. Source: net/netfilter/nf_conntrack_standalone.c
(ct_seq_show, print_tuple), nf_conntrack_proto_tcp.c (tcp_print_conntrack).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import ip_address

from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Flow, FlowTuple

_NAMES = {"1": "icmp", "6": "tcp", "17": "udp", "33": "dccp", "47": "gre", "58": "icmpv6",
          "132": "sctp"}  # fmt: skip
_NUMBERS = {
    "sport": "source_port",
    "dport": "destination_port",
    "id": "icmp_id",
    "type": "icmp_type",
}
_LONGEST = 1024
_PORT = 0xFFFF
_WORD = 0xFFFFFFFF


def find_lines(lines: Iterable[str], addresses: Collection[str]) -> Iterator[Flow]:
    """The flows between two of these addresses.

    Raises:
        NotReadableError: whether nat rules will be asked about one of them is not told here.

    """
    wanted = {ip_address(text).compressed for text in addresses}
    marks = patterns(wanted)
    for line in lines:
        if len(line) > _LONGEST or not any(mark in line for mark in marks):
            continue
        try:
            flow = _flow(line.split())
        except (ValueError, KeyError, IndexError):
            continue
        sides = (flow.original, flow.reply)
        if not any({side.source, side.destination} <= wanted for side in sides):
            continue
        if not flow.status & {"seen-reply", "src-nat", "dst-nat"}:
            # It began with rules that translate nothing, or before there were any.
            raise NotReadableError(
                "whether nat rules are asked again about a connection without an answer is told"
                " by netlink only: modprobe nf_conntrack_netlink"
            )
        yield flow


def patterns(addresses: Iterable[str]) -> list[str]:
    """What every line about one of these addresses has in it; IPv6 is written out in full."""
    return sorted(f"src={ip_address(text).exploded} " for text in addresses)


def _flow(words: Sequence[str]) -> Flow:
    """``ipv4 2 tcp 6 431999 ESTABLISHED src=... dst=... [ASSURED] mark=0 zone=0 use=2``."""
    number = words[3]
    told = [word.partition("=") for word in words]
    starts = [place for place, (key, _, _) in enumerate(told) if key == "src"]
    first, second = starts[:2]
    original = _tuple([(key, value) for key, _, value in told[first:second]])
    reply = _tuple([(key, value) for key, _, value in told[second:]])
    rest = {key: value for key, _, value in told[second:]}
    # Of an offloaded connection there is no time left.
    timed = words[4].isdecimal()
    state = words[5 if timed else 4] if first == (6 if timed else 5) else None
    return Flow(
        protocol=_NAMES.get(number, str(int(number))),
        original=original,
        reply=reply,
        status=frozenset(_statuses(words, original, reply)),
        mark=_number(rest.get("mark", "0"), _WORD),
        zone=_number(rest.get("zone", "0"), _PORT),
        timeout=_number(words[4], _WORD) if timed else None,
        tcp_state=state.lower().replace("_", "-") if state and number == "6" else None,
    )


def _statuses(words: Collection[str], original: FlowTuple, reply: FlowTuple) -> Iterator[str]:
    yield "confirmed"
    if "[UNREPLIED]" not in words:
        yield "seen-reply"
    if "[ASSURED]" in words:
        yield "assured"
    if "[OFFLOAD]" in words or "[HW_OFFLOAD]" in words:
        yield "offload"
    ways = {
        "src-nat": (reply.destination, reply.destination_port)
        != (original.source, original.source_port),
        "dst-nat": (reply.source, reply.source_port)
        != (original.destination, original.destination_port),
    }
    for way, translated in ways.items():
        if translated:
            yield way
        # Where one is, nat rules were asked about both.
        if any(ways.values()):
            yield f"{way}-done"


def _tuple(pairs: Iterable[tuple[str, str]]) -> FlowTuple:
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return FlowTuple(
        source=ip_address(found["src"]).compressed,
        destination=ip_address(found["dst"]).compressed,
        **{ours: _number(found[name], _PORT) for name, ours in _NUMBERS.items() if name in found},
    )


def _number(text: str, most: int) -> int:
    value = int(text)
    if not 0 <= value <= most:
        raise ValueError("a number that is none")
    return value
