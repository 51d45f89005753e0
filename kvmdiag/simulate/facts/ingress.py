"""The checks an incoming packet's source must pass: reverse path filter and martians.

Source: fib_validate_source and __fib_validate_source in net/ipv4/fib_frontend.c. IPv6 has
none of them.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView, conf_name


class BadSource(msgspec.Struct, frozen=True):
    """Why a packet's source is refused on the link it came in by.

    ``sysctls`` are those whose values made it so; ``expected`` is the link by which this
    stack itself would go to that source, ``None`` when it has no route to it.
    """

    reason: Reason
    because: str
    sysctls: tuple[str, ...] = ()
    expected: str | None = None


def check_source(view: StackView, link: str, flow: Flow, oif: str | None) -> BadSource | None:
    """What is wrong with ``flow.src`` for a packet that came in by ``link``.

    ``oif`` is the link it would be forwarded to, ``None`` when it is for this machine.
    """
    if flow.src is None or flow.dst.version == 6:
        return None
    strictness = view.conf_max(link, "rp_filter")
    # A router that would send a redirect looks closer even with the filter off.
    if strictness or (oif == link and view.conf_any(link, "send_redirects")):
        return _full_check(view, link, flow, oif, strictness)
    if view.conf_any(link, "accept_local"):
        return None
    if view.fib.has_custom_rules or view.fib.has_custom_local_routes:
        return _full_check(view, link, flow, oif, 0)
    return _own_address(link) if flow.src in view.local_addresses else None


def _full_check(
    view: StackView, link: str, flow: Flow, oif: str | None, strictness: int
) -> BadSource | None:
    """Look the source up as if it were the destination, and see where that leads."""
    assert flow.src is not None  # noqa: S101  the caller looked
    way_back = Flow(
        dst=flow.src,
        src=flow.dst,
        iif=oif or "lo",
        mark=flow.mark if view.conf_any(link, "src_valid_mark") else 0,
    )
    if view.fib.rules_ask_for_ports:  # fib4_rules_early_flow_dissect
        way_back = replace(way_back, proto=flow.proto, sport=flow.dport, dport=flow.sport)
    back = view.fib.lookup(way_back)
    if back is None or back.refusal is not None:
        return _no_way_back(link, strictness)
    if back.route.type == "local":
        if not view.conf_any(link, "accept_local"):
            return _own_address(link)
    elif back.route.type != "unicast":
        return BadSource(Reason.MARTIAN, f"its source is a {back.route.type} address here")
    if any(hop.link == link for hop in back.route.next_hops):
        return None
    if not any(True for _ in view.addresses_of(link, 4)):
        return _no_way_back(link, strictness)
    if strictness == 1:
        names = (conf_name("all", "rp_filter"), conf_name(link, "rp_filter"))
        because = (
            f"it came in by {link}, but the way back to {flow.src} is by {back.link},"
            " and the strict reverse path filter wants both to be the same"
        )
        return BadSource(Reason.RP_FILTER, because, names, back.link)
    return None


def _no_way_back(link: str, strictness: int) -> BadSource | None:
    if not strictness:
        return None
    names = (conf_name("all", "rp_filter"), conf_name(link, "rp_filter"))
    because = "there is no route back to its source, and the reverse path filter is on"
    return BadSource(Reason.RP_FILTER, because, names)


def _own_address(link: str) -> BadSource:
    names = (conf_name("all", "accept_local"), conf_name(link, "accept_local"))
    return BadSource(Reason.MARTIAN, "its source is an address of this very machine", names)
