"""The tracked connections of a path, wherever on their way they are translated."""

from __future__ import annotations

import socket
import struct

import pytest
from msgspec.structs import replace

from kvmdiag.actions.conntrack import FlushConnections
from kvmdiag.collect.flows import table as flows
from kvmdiag.collect.flows.lines import find_lines
from kvmdiag.collect.flows.of_path import with_path_flows
from kvmdiag.collect.flows.table import flows_among
from kvmdiag.collect.kernel.attributes import attribute
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.errors import NotReadableError
from kvmdiag.model.activity import Conntrack, Flow, FlowTuple
from kvmdiag.model.codec import load, save
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack
from kvmdiag.system.namespaces import entered

GUEST, OUTSIDE, UPLINK = "192.0.2.2", "198.51.100.9", "198.51.100.1"


@pytest.fixture
def router(namespaces, eventually):
    """A guest 192.0.2.2 --- host with NAT --- outside 198.51.100.9; nothing is translated yet."""
    guest, host, outside = namespaces("guest"), namespaces("host"), namespaces("outside")
    guest.cable("eth0", host, "vnet0")
    host.cable("eno1", outside, "eth0")
    guest.ip("link set eth0 up", f"addr add {GUEST}/24 dev eth0", "route add default via 192.0.2.1")
    host.ip(
        "link set vnet0 up",
        "link set eno1 up",
        "addr add 192.0.2.1/24 dev vnet0",
        f"addr add {UPLINK}/24 dev eno1",
    )
    outside.ip(
        "link set eth0 up",
        f"addr add {OUTSIDE}/24 dev eth0",
        f"route add 192.0.2.0/24 via {UPLINK}",
    )
    host.sysctl("net.ipv4.ip_forward", 1)
    host.run("iptables-nft -t nat -A POSTROUTING -o eno1 -d 203.0.113.0/24 -j MASQUERADE")

    def ping(address=OUTSIDE):
        done = guest.run(f"ping -c1 -W1 {address}", check=False)
        return done.returncode == 0

    eventually(lambda: ping("192.0.2.1"), "no ping came through")
    return guest, host, outside, ping


def _masquerade(host):
    host.run("iptables-nft -t nat -A POSTROUTING -o eno1 -j MASQUERADE")


def test_connections_between_addresses(router, eventually):
    """With both sides of their translation; others are left out."""
    _, host, _, ping = router
    _masquerade(host)
    eventually(ping, "no ping came through")
    with entered(host.path):
        (flow, *rest) = flows_among([GUEST, OUTSIDE])
        others = flows_among([GUEST, "192.0.2.1"])
        answers = flows_among([OUTSIDE, UPLINK])
    assert flow.protocol == "icmp"
    assert {"seen-reply", "src-nat", "confirmed"} <= flow.status
    assert flow.original == FlowTuple(
        source=GUEST, destination=OUTSIDE, icmp_id=flow.original.icmp_id, icmp_type=8
    )
    assert (flow.reply.source, flow.reply.destination) == (OUTSIDE, UPLINK)
    assert flow.timeout is not None
    assert all(one.protocol == "icmp" for one in rest)
    assert {one.original.destination for one in others} == {"192.0.2.1"}
    assert [one.original for one in answers] == [one.original for one in (flow, *rest)]


def test_an_old_translation_is_found_by_where_it_leads(router, eventually):
    """An address that only the connection shows is looked for in the stacks behind it too."""
    guest, host, outside, ping = router
    host.ip("addr add 198.51.100.77/24 dev eno1")
    host.run("iptables-nft -t nat -A POSTROUTING -o eno1 -j SNAT --to 198.51.100.77")
    # The outside tracks as well, and sees the translated address alone.
    outside.run("iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP")
    eventually(ping, "no ping came through")
    taken = collect(Scope(host=host.path, libvirt=False))
    assert all(stack.flows is None for stack in taken.stacks)
    assert taken.flows_between == ()
    asked = with_path_flows(taken, [GUEST, OUTSIDE], ["host"])
    assert asked.flows_between == (GUEST, "198.51.100.77", OUTSIDE)
    behind = {flow.original.source for flow in asked.stack(outside.name).flows}
    assert behind == {"198.51.100.77"}
    assert {flow.original.source for flow in asked.stack("host").flows} == {GUEST}
    # Nothing there makes connections be tracked: that was read, and there are none.
    assert asked.stack(guest.name).flows == ()
    saved = load(save(asked))
    assert [stack.flows for stack in saved.stacks] == [stack.flows for stack in asked.stacks]


def test_forgetting_connections_takes_those_of_the_source_away(router, eventually):
    """As conntrack -D does."""
    _, host, _, ping = router
    eventually(ping, "no ping came through")
    taken = collect(Scope(host=host.path, libvirt=False))
    asked = with_path_flows(taken, [GUEST, OUTSIDE], ["host"])
    assert asked.stack("host").flows
    forget = FlushConnections(stack="host", source="192.0.2.0/24")
    assert forget.apply(asked).stack("host").flows == ()
    other = FlushConnections(stack="host", source="192.0.2.7")
    assert other.apply(asked) is asked
    host.run(forget.command(asked))
    with entered(host.path):
        assert flows_among([GUEST, OUTSIDE]) == ()


def test_what_cannot_be_read_is_a_gap_where_the_path_goes(router, monkeypatch, eventually):
    """A module that is not loaded is not loaded by asking; elsewhere nobody misses them."""
    _, host, outside, ping = router
    eventually(ping, "no ping came through")
    taken = collect(Scope(host=host.path, libvirt=False))
    monkeypatch.setattr("kvmdiag.collect.flows.table.is_there", lambda _: False)
    monkeypatch.setattr("kvmdiag.collect.flows.table._FILE", "/nowhere")
    asked = with_path_flows(taken, [GUEST, OUTSIDE], ["host", outside.name])
    assert asked.stack("host").flows is None
    (gap,) = (gap for gap in asked.gaps if gap.fact == "flows")
    assert (gap.stack, gap.help) == ("host", "modprobe nf_conntrack_netlink")
    assert with_path_flows(taken, [GUEST, OUTSIDE], [outside.name]).gaps == taken.gaps


def test_connections_inside_a_guest_are_a_gap_where_it_tracks_some():
    """Where its agent cannot be asked; a guest that tracks none has none."""
    tracking = Stack(
        name="master", kind="guest", netns=None, conntrack=Conntrack(count=3, maximum=9)
    )
    idle = Stack(name="node1", kind="guest", netns=None, conntrack=Conntrack(count=0, maximum=9))
    host = Stack(name="host", kind="host", netns=OWN_NETNS, conntrack=Conntrack(count=0, maximum=9))
    taken = Snapshot(tool="", taken_at="", kernel="", stacks=(host, tracking, idle))
    asked = with_path_flows(taken, [GUEST, OUTSIDE], ["host", "master", "node1"])
    assert [(gap.stack, gap.fact) for gap in asked.gaps] == [("master", "flows")]
    assert [stack.flows for stack in asked.stacks] == [(), None, ()]


def _without_what_only_netlink_tells(flows_):
    """Whether nat rules were asked, and how long an entry still has when it is read."""
    done = {"src-nat-done", "dst-nat-done"}
    return [replace(one, status=one.status - done, timeout=None) for one in flows_]


def test_the_file_tells_what_netlink_tells(router, monkeypatch, eventually):
    """Addresses, ports, states, marks, translations; of both IP versions."""
    guest, host, outside, ping = router
    _masquerade(host)
    host.run("iptables-nft -t mangle -A PREROUTING -j CONNMARK --set-mark 7")
    host.run("ip6tables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP")
    host.ip("addr add 2001:db8::1/64 dev vnet0 nodad")
    guest.ip("addr add 2001:db8::2/64 dev eth0 nodad")
    eventually(ping, "no ping came through")
    eventually(
        lambda: guest.run("ping -c1 -W1 2001:db8::1", check=False).returncode == 0, "no ping"
    )
    with entered(outside.path):
        server = socket.create_server((OUTSIDE, 8080))
    with entered(guest.path):
        client = socket.create_connection((OUTSIDE, 8080), timeout=5)
    asked = [GUEST, OUTSIDE, "2001:db8::1", "2001:db8::2"]

    def both():
        with entered(host.path):
            by_netlink = flows_among(asked)
            with monkeypatch.context() as patched:
                patched.setattr("kvmdiag.collect.flows.table.is_there", lambda _: None)
                return by_netlink, flows_among(asked)

    with server, client:
        by_netlink, by_file = map(_without_what_only_netlink_tells, both())
    assert by_file == by_netlink
    assert {(one.protocol, one.tcp_state, one.mark) for one in by_file} >= {
        ("tcp", "established", 7),
        ("icmp", None, 7),
        ("icmpv6", None, 0),
    }


def test_a_connection_without_an_answer_is_told_by_netlink_only():
    """Else it would be said of it that nat rules are asked again, or that they are not."""
    line = (
        "ipv4     2 udp      17 29 src=192.0.2.2 dst=198.51.100.9 sport=9 dport=53 [UNREPLIED]"
        " src=198.51.100.9 dst=192.0.2.2 sport=53 dport=9 mark=0 zone=0 use=2"
    )
    with pytest.raises(NotReadableError, match="modprobe nf_conntrack_netlink"):
        list(find_lines([line], [GUEST, OUTSIDE]))
    translated = line.replace(
        "dst=192.0.2.2 sport=53 dport=9 ", "dst=198.51.100.1 sport=53 dport=9 "
    )
    (flow,) = find_lines([translated], [GUEST, OUTSIDE])
    assert flow.status == {"confirmed", "src-nat", "src-nat-done", "dst-nat-done"}


@pytest.mark.parametrize(
    "line", ["", "x", "src=192.0.2.2 ", "a b c d src=192.0.2.2 src=192.0.2.2 "]
)
def test_lines_without_sense_are_left_out(line):
    """A guest may print what it likes."""
    assert list(find_lines([line, line * 1000], [GUEST, OUTSIDE])) == []


def test_connections_inside_a_guest(router, agent_of, eventually):
    """By its agent: what its /proc lists, as the host's netlink would tell it."""
    _, host, _, ping = router
    _masquerade(host)
    eventually(ping, "no ping came through")
    taken = collect(Scope(host=host.path, libvirt=False))
    guest = replace(taken.stack("host"), name="master", kind="guest", netns=None)
    other = replace(taken, stacks=(*taken.stacks, guest))
    asked = with_path_flows(other, [GUEST, OUTSIDE], ["host", "master"], lambda _: agent_of(host))
    assert asked.stack("master").flows
    assert _without_what_only_netlink_tells(
        asked.stack("master").flows
    ) == _without_what_only_netlink_tells(asked.stack("host").flows)
    silent = agent_of(host, programs={"grep": None})
    unread = with_path_flows(other, [GUEST, OUTSIDE], ["master"], lambda _: silent)
    (gap,) = (gap for gap in unread.gaps if gap.fact == "flows")
    assert (gap.stack, gap.help) == ("master", "conntrack -L in it")


def test_a_table_that_takes_too_long_is_not_read_to_its_end(router, monkeypatch, eventually):
    """A router may have millions of connections."""
    _, host, _, ping = router
    eventually(ping, "no ping came through")
    monkeypatch.setattr("kvmdiag.collect.flows.table._SECONDS", 0.0)
    with entered(host.path), pytest.raises(NotReadableError, match="too long"):
        flows_among([GUEST, OUTSIDE])


def test_too_many_connections_of_one_path(router, monkeypatch, eventually):
    """Are not kept: a load test between two ends has tens of thousands."""
    _, host, _, ping = router
    eventually(ping, "no ping came through")
    monkeypatch.setattr("kvmdiag.collect.flows.table._MOST", 0)
    with entered(host.path), pytest.raises(NotReadableError, match="more than 0"):
        flows_among([GUEST, OUTSIDE])


def test_a_translated_connection():
    """Both directions, its state, and what marks it, as include/uapi/linux has them."""

    def nested(*pairs):
        return b"".join(attribute(kind, value) for kind, value in pairs)

    def ends(source, destination, *ports):
        addresses = nested((1, bytes(source)), (2, bytes(destination)))
        first, last = (struct.pack(">H", port) for port in ports)
        return nested((1, addresses), (2, nested((1, b"\6"), (2, first), (3, last))))

    guest, outside, host = (10, 0, 0, 2), (192, 0, 2, 9), (198, 51, 100, 1)
    message = struct.pack("=BBH", 2, 0, 0) + nested(
        (1, ends(guest, outside, 40000, 443)),
        (2, ends(outside, host, 443, 1024)),
        (3, struct.pack(">I", 0x1E)),
        (4, nested((1, nested((1, b"\3"))))),
        (7, struct.pack(">I", 431999)),
        (8, struct.pack(">I", 7)),
        (18, struct.pack(">H", 5)),
    )
    flow = Flow(
        protocol="tcp",
        original=FlowTuple(
            source="10.0.0.2", destination="192.0.2.9", source_port=40000, destination_port=443
        ),
        reply=FlowTuple(
            source="192.0.2.9", destination="198.51.100.1", source_port=443, destination_port=1024
        ),
        status=frozenset({"seen-reply", "assured", "confirmed", "src-nat"}),
        mark=7,
        zone=5,
        timeout=431999,
        tcp_state="established",
    )
    assert list(flows.find((message,), ("10.0.0.2", "192.0.2.9"))) == [flow]
    assert list(flows.find((message,), ("198.51.100.1", "192.0.2.9"))) == [flow]
    assert list(flows.find((message,), ("10.0.0.2", "192.0.2.8"))) == []
    # One side each of two connections is none between them.
    assert list(flows.find((message,), ("10.0.0.2", "198.51.100.1"))) == []
