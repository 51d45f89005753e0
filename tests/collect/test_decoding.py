"""Decoding of attributes: whatever bytes come, what is understood is right, and nothing breaks."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.collect.flows import table as flows
from kvmdiag.collect.kernel import addresses, bridges, generic, links, routes, traffic_control
from kvmdiag.collect.kernel.attributes import decode, each, nest, number, raw
from kvmdiag.collect.kernel.policy_rules import policy_rules

from .netlink_messages import nested, u8, u32


def test_only_what_a_layout_names_is_decoded():
    """By name, nested where it says so, of any size."""
    data = nested((1, u32(7)), (9, b"other"), (2 | 0x8000, nested((1, u8(3)))))
    layout = {1: ("one", number), 2: ("two", nest({1: ("inner", number)}))}
    assert decode(data, layout) == {"one": 7, "two": {"inner": 3}}


EVERYTHING = {kind: (str(kind), raw) for kind in range(0x4000)}


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_decoder(data):
    """It ends where there is no attribute any more."""
    found = decode(data, EVERYTHING)
    assert found == {str(kind): value for kind, value in each(data)}


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_what_is_written_is_read(pairs):
    """Each attribute, in its order."""
    assert list(each(nested(*pairs))) == pairs


DECODERS = {
    "links": lambda messages: links.links(links.raw_links(messages)),
    "counters": links.counters,
    "addresses": lambda messages: addresses.addresses(messages, NAMES),
    "neighbours": lambda messages: addresses.neighbours(messages, messages, NAMES),
    "fdb": lambda messages: bridges.fdb(messages, NAMES),
    "tunnels": lambda messages: bridges.tunnels(messages, NAMES),
    "vlans": bridges.vlans,
    "mdb": lambda messages: bridges.mdb(messages, NAMES),
    "routes": lambda messages: routes.routes(messages, NAMES),
    "nexthops": lambda messages: routes.nexthops(messages, NAMES),
    "policy rules": policy_rules,
    "qdiscs": lambda messages: traffic_control.qdiscs(messages, NAMES),
    "wireless": generic.wireless,
    "flows": lambda messages: list(flows.find(messages, ("192.0.2.1", "192.0.2.2"))),
}


NAMES = {0: "lo", 1: "eth0"}


ATTRIBUTES = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(st.tuples(st.integers(0, 60), inner), max_size=4).map(
        lambda pairs: nested(*pairs)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", DECODERS)
@given(head=st.binary(max_size=16), rest=ATTRIBUTES)
def test_whatever_a_kernel_says_is_decoded_or_refused(name, head, rest):
    """Refused by the errors that become a gap, and by no other."""
    with suppress(OSError, LookupError, ValueError, struct.error):
        DECODERS[name]((head + rest, head.ljust(12, b"\0") + rest, head.ljust(16, b"\0") + rest))
