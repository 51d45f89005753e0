"""What the walk's hooks say of a packet that is sent through the router."""

from __future__ import annotations

from msgspec.structs import replace as with_fields

from kvmdiag.model.packet import Packet
from kvmdiag.simulate.facts.conntrack import Conntrack
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.rules.context import Context
from kvmdiag.simulate.rules.hook import run_hook

from .conftest import Bench, Ends
from .sent import Sent


def walked(bench: Bench, view: StackView, sent: Sent) -> set[str]:
    """Texts of the rules that the walk's hooks say the packet matched."""
    conntrack = Conntrack()
    if sent.after is not None:
        _hooks(bench, view, conntrack, sent.after)
    return _hooks(bench, view, conntrack, sent)


def translated(bench: Bench, sent: Sent, view: StackView | None = None) -> Ends | None:
    """Addresses and ports with which the packet leaves the router, as the walk's hooks say."""
    view = view or bench.view()
    conntrack = Conntrack(view.flows)
    if sent.after is not None:
        _hooks(bench, view, conntrack, sent.after)
    packet = _passed(bench, view, conntrack, sent)[1]
    return None if packet is None else (packet.src, packet.sport, packet.dst, packet.dport)


def _hooks(bench: Bench, view: StackView, conntrack: Conntrack, sent: Sent) -> set[str]:
    return _passed(bench, view, conntrack, sent)[0]


def _passed(
    bench: Bench, view: StackView, conntrack: Conntrack, sent: Sent
) -> tuple[set[str], Packet | None]:
    """The rules a packet matched, and how it left, ``None`` if it did not."""
    side = "far" if sent.back else "near"
    packet, tracked = sent.packet, None
    incoming, outgoing = ("o0", "i0") if sent.back else ("i0", "o0")
    links = {
        "prerouting": (incoming, None),
        "forward": (incoming, outgoing),
        "postrouting": (None, outgoing),
    }
    matched: set[str] = set()
    for hook, (in_link, out_link) in links.items():
        if hook == "forward":
            packet = with_fields(packet, ttl=packet.ttl - 1)
        at = Context(
            view=view,
            hook=hook,
            family=packet.family,
            packet=packet,
            in_link=in_link,
            out_link=out_link,
            own=False,
            src_mac=bench.macs[side],
            dst_mac=bench.macs[f"{side} router"],
        )
        result = run_hook(at, conntrack, tracked)
        matched |= {ref.text for ref in result.matched if ref.table != "sentinel"}
        if result.kind != "accept":
            return matched, None
        packet, tracked = result.packet, result.tracked
    return matched, packet
