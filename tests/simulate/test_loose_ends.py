"""Snapshots with loose ends, from a race while reading or from somebody's editor."""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Outcome, Reason, Walk
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk


def _network(net) -> Snapshot:
    net.cable("guest", "eth0", "192.0.2.2/24", "host", "vnet0", "192.0.2.1/24")
    return net.snapshot


def _changed(snapshot: Snapshot, stack: str, link: str, **changes: object) -> Snapshot:
    links = snapshot.stack(stack).links or ()
    after = tuple(replace(entry, **changes) if entry.name == link else entry for entry in links)
    return snapshot.with_stack(replace(snapshot.stack(stack), links=after))


def _walk(snapshot: Snapshot, source: str, destination: str) -> Walk:
    return walk(snapshot, resolve(snapshot, source, destination))


def _is_untold(way: Walk) -> bool:
    end = way.decisive
    return (end.outcome, end.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)


def test_a_cable_to_a_link_that_is_gone(net):
    """What becomes of the packet cannot be told, and the link is named."""
    snapshot = _changed(_network(net), "guest", "eth0", peer=LinkRef("host", "vnet9"))
    way = _walk(snapshot, "guest", "host")
    assert _is_untold(way)
    assert "host has no link vnet9" in way.request.end.because


def test_a_cable_to_a_stack_that_is_gone(net):
    """The same when the whole namespace is not there."""
    snapshot = _changed(_network(net), "guest", "eth0", peer=LinkRef("elsewhere", "eth0"))
    assert _is_untold(_walk(snapshot, "guest", "host"))


def test_a_route_by_a_link_that_is_gone(net):
    """Routes and links are read one after the other."""
    snapshot = _changed(_network(net), "guest", "eth0", name="eth9")
    assert _is_untold(_walk(snapshot, "guest", "host"))


def test_a_packet_from_an_outside_to_which_nothing_leads(net):
    """It is unknown where it would come in."""
    way = _walk(_network(net), "203.0.113.1", "guest")
    assert _is_untold(way)


def test_a_link_that_is_its_own_master(net):
    """The walk ends."""
    snapshot = _changed(_network(net), "host", "vnet0", master="vnet0")
    assert _walk(snapshot, "guest", "host").works is not True


def test_a_cable_whose_ends_are_one(net):
    """The frame comes in where it was sent from, and the walk ends."""
    snapshot = _changed(_network(net), "guest", "eth0", peer=LinkRef("guest", "eth0"))
    assert _walk(snapshot, "guest", "host").works is not True


def test_more_bridges_than_anybody_has(net):
    """A row of a thousand ends in "cannot be told", not in an overflow."""
    snapshot = _network(net)

    def bridge(n: int) -> tuple[Link, Link, Link]:
        port, name = BridgePort(), f"br{n}"
        ends = (LinkRef("host", f"to{n + 1}"), LinkRef("host", f"from{n - 1}"))
        return (
            Link(index=100 + n, name=name, kind="bridge", bridge=Bridge(), mac="52:54:00:0:0:1"),
            Link(index=9, name=f"from{n}", kind="veth", master=name, port=port, peer=ends[0]),
            Link(index=9, name=f"to{n}", kind="veth", master=name, port=port, peer=ends[1]),
        )

    row = tuple(link for n in range(1, 1000) for link in bridge(n))
    first = Link(index=9, name="from0", kind="veth", port=BridgePort(), peer=LinkRef("host", "to1"))
    links = (*(snapshot.stack("host").links or ()), *row, first)
    snapshot = snapshot.with_stack(replace(snapshot.stack("host"), links=links))
    joined = _changed(snapshot, "host", "vnet0", master="br1", port=BridgePort())
    assert _is_untold(_walk(joined, "guest", "192.0.2.77"))
