"""What an agent tells of a stack is what the kernel tells of it: the same facts, either way."""

from __future__ import annotations

import shutil
import socket

import pytest

from kvmdiag.collect.guest.facts import read_guest
from kvmdiag.collect.stack import read_stack
from kvmdiag.model.link import LinkRef
from kvmdiag.system.namespaces import entered

_BUSYBOX = shutil.which("busybox")


@pytest.fixture
def guest(namespaces):
    """A namespace with something of everything in it."""
    made, other = namespaces("guest"), namespaces("other")
    # The far end of a cable is known by its number: it shall not have that of the near one.
    other.ip("link add spare type bridge")
    made.cable("ens3", other, "tap0")
    other.ip("link set tap0 up")
    made.ip(
        "link set lo up",
        "link add br0 type bridge",
        # No addresses that come when they like.
        "link set ens3 addrgenmode none",
        "link set br0 addrgenmode none",
        "link add veth0 type veth peer name veth1",
        "link set veth0 addrgenmode none",
        "link set veth1 master br0 addrgenmode none",
        "link add br0.5 type bridge",
        "addr add 192.0.2.2/24 broadcast + dev ens3",
        "addr add 192.0.2.3/24 dev ens3",
        "addr add 2001:db8::2/64 dev ens3 nodad",
        "link set br0 up",
        "link set veth0 up",
        "link set veth1 up",
        "link set ens3 up",
        "route add default via 192.0.2.1 metric 100",
        "route add 198.51.100.0/24 nexthop via 192.0.2.8 weight 2 nexthop via 192.0.2.9",
        "route add blackhole 203.0.113.0/24",
        "route add default via 192.0.2.7 mtu 1400 table 100",
        "route add default via 2001:db8::1",
        "nexthop add id 1 via 192.0.2.8 dev ens3",
        "nexthop add id 2 via 192.0.2.9 dev ens3",
        "nexthop add id 3 blackhole",
        "nexthop add id 7 group 1,3/2",
        "route add 198.18.0.0/24 nhid 7",
        "route add 198.18.1.0/24 nhid 3",
        "route add 198.18.2.0/24 nhid 1",
        "rule add from 192.0.2.3 lookup 100",
        "rule add not fwmark 5/0xff iif ens3 ipproto tcp dport 80-90 prohibit",
        "neigh add 192.0.2.1 lladdr 52:54:00:00:00:01 dev ens3",
        "neigh add proxy 192.0.2.77 dev ens3",
        "link add vx0 type vxlan id 7 remote 192.0.2.7 dstport 4789",
    )
    made.run("bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.8 port 44 vni 9")
    made.run("bridge mdb add dev br0 port veth1 grp 239.1.1.1 permanent")
    made.run("bridge mdb add dev br0 port veth1 grp ff05::1:3 permanent")
    made.sysctl("net.ipv4.conf.br0/5.rp_filter", 2)
    made.run("iptables-nft -t nat -A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT")
    made.run("nft add table inet mine")
    with entered(made.path):
        udp = socket.socket(type=socket.SOCK_DGRAM)
    with udp:
        udp.bind(("", 4444))
        yield made


def compared(stack):
    """The facts in which the two ways of reading must agree, each in a form without order."""
    return {
        "links": {
            (li.name, li.index, li.kind, li.mac, li.mtu, li.up, li.carrier, li.master, li.vlan)
            for li in stack.links
        },
        "addresses": {(a.link, a.network, a.scope, a.secondary, a.peer) for a in stack.addresses},
        "routes": {
            (r.table, r.type, r.text, r.scope, r.protocol, r.mtu, r.next_hops) for r in stack.routes
        },
        "policy_rules": set(stack.policy_rules),
        "neighbours": {(n.link, n.address, n.mac, n.state, n.proxy) for n in stack.neighbours},
        "fdb": {(e.bridge, e.port, e.mac, e.local) for e in stack.fdb},
        "tables": {(t.family, t.name, t.backend, t.chains) for t in stack.tables},
        "nexthops": set(stack.nexthops),
        "route objects": {(r.destination, r.nexthop) for r in stack.routes},
        "tunnels": set(stack.tunnels),
        "bridge_vlans": set(stack.bridge_vlans),
        "mdb": {entry for entry in stack.mdb if entry.permanent},
    }


@pytest.mark.kernel
@pytest.mark.parametrize("compat", [0, 1])
def test_with_ip_and_nft_all_is_as_the_kernel_tells(guest, agent_of, compat):
    """Links, addresses, routes of all tables, rules, neighbours, FDB, tables and settings.

    The kernel tells no more of routes by objects than their numbers if it is told so.
    """
    guest.sysctl("net.ipv4.nexthop_compat_mode", compat)
    reading = read_guest("web", "web", agent_of(guest))
    with entered(guest.path):
        direct = read_stack("web", "namespace", guest.path).stack
    assert reading.gaps == ()
    assert reading.inside.access == "full"
    told, expected = compared(reading.stack), compared(direct)
    for fact, value in expected.items():
        assert told[fact] == value, fact
    assert reading.stack.counters.keys() == direct.counters.keys()
    assert reading.stack.conntrack.maximum == direct.conntrack.maximum
    listening = {(s.protocol, s.address, s.port) for s in direct.sockets}
    assert ("udp", "0.0.0.0", 4444) in listening
    assert {(s.protocol, s.address, s.port) for s in reading.stack.sockets} == listening
    shared = reading.stack.sysctls.keys() & direct.sysctls.keys()
    assert {"net.ipv4.ip_forward", "net.ipv4.conf.br0/5.rp_filter"} <= shared
    assert {k: reading.stack.sysctls[k] for k in shared} == {k: direct.sysctls[k] for k in shared}


@pytest.mark.kernel
@pytest.mark.skipif(_BUSYBOX is None, reason="needs busybox")
def test_with_busybox_the_paths_are_as_the_kernel_tells(namespaces, agent_of):
    """What /proc shows, for a guest without iproute2: enough to walk through it."""
    made, other = namespaces("guest"), namespaces("other")
    made.cable("ens3", other, "tap0")
    other.ip("link set tap0 up")
    made.ip(
        "link set lo up",
        "addr add 192.0.2.2/24 broadcast + dev ens3",
        "link set ens3 addrgenmode none up",
        "route add default via 192.0.2.1 metric 100",
        "route add unreachable 203.0.113.0/24",
        "neigh add 192.0.2.1 lladdr 52:54:00:00:00:01 dev ens3",
    )
    tools = {"ip": f"{_BUSYBOX} ip", "grep": f"{_BUSYBOX} grep", "bridge": None}
    reading = read_guest("web", "web", agent_of(made, programs=tools))
    with entered(made.path):
        direct = read_stack("web", "namespace", made.path).stack
    assert reading.inside.access == "basic"

    def four(stack):
        return {
            (r.table, r.type, r.destination, r.metric, r.next_hops)
            for r in stack.routes
            if r.version == 4
        }

    assert four(direct) == four(reading.stack)
    assert {(a.link, a.network) for a in reading.stack.addresses} == {
        (a.link, a.network) for a in direct.addresses
    }
    assert [r.table for r in reading.stack.policy_rules if r.version == 4] == [255, 254, 253]
    assert [n.mac for n in reading.stack.neighbours] == ["52:54:00:00:00:01"]
    assert reading.stack.sysctls["net.ipv4.conf.ens3.rp_filter"] in "012"


@pytest.mark.kernel
@pytest.mark.skipif(_BUSYBOX is None, reason="needs busybox")
@pytest.mark.parametrize("runs", [True, False])
def test_without_ip_the_kinds_of_links_are_known_by_their_files(guest, agent_of, runs):
    """Bridges with their settings and ports, cables, taps: /sys tells, and no bridge is a NIC."""
    guest.ip(
        "tuntap add vnet9 mode tap",
        "link set br0 type bridge stp_state 1 forward_delay 400 mcast_snooping 0",
        "link set veth1 type bridge_slave isolated on learning off",
    )
    tools = {"ip": f"{_BUSYBOX} ip", "grep": f"{_BUSYBOX} grep", "bridge": None}
    files = ("guest-file-open", "guest-file-read", "guest-file-close")
    allowed = {} if runs else {"commands": (*files, "guest-network-get-interfaces")}
    reading = read_guest("web", "web", agent_of(guest, programs=tools, **allowed))
    assert reading.inside.access == "basic"
    with entered(guest.path):
        direct = read_stack("web", "namespace", guest.path).stack
    told, known = ({link.name: link for link in stack.links} for stack in (reading.stack, direct))
    assert {n: li.kind for n, li in told.items()} == {n: li.kind for n, li in known.items()}
    assert {n: li.master for n, li in told.items()} == {n: li.master for n, li in known.items()}
    for setting in ("stp", "forward_delay", "multicast_snooping", "nf_call_iptables"):
        assert getattr(told["br0"].bridge, setting) == getattr(known["br0"].bridge, setting)
    for setting in ("state", "isolated", "learning", "flood", "hairpin"):
        assert getattr(told["veth1"].port, setting) == getattr(known["veth1"].port, setting)
    assert told["vnet9"].tap.mode == "tap"
    assert told["veth0"].peer == LinkRef("web", "veth1")
    assert told["ens3"].guest == "a namespace in web"
    # What bridges have learnt is in no file that can be read as text.
    assert reading.stack.fdb is None
    assert {"fdb", "mdb", "nexthops"} <= {gap.fact for gap in reading.gaps}


@pytest.mark.kernel
def test_where_only_addresses_are_told_the_rest_is_a_gap(guest, agent_of):
    """Not read is not empty."""
    only = agent_of(guest, commands=("guest-network-get-interfaces",))
    reading = read_guest("web", "web", only)
    assert reading.inside.access == "addresses"
    assert "192.0.2.2/24" in {address.network for address in reading.stack.addresses}
    unread = {"routes", "policy_rules", "neighbours", "sysctls", "tables"}
    assert {getattr(reading.stack, fact) for fact in unread} == {None}
    assert {gap.fact for gap in reading.gaps} >= unread


@pytest.mark.kernel
@pytest.mark.parametrize(
    "commands",
    [
        ("guest-network-get-interfaces",),
        ("guest-file-open", "guest-file-read", "guest-file-close", "guest-network-get-interfaces"),
        ("guest-exec", "guest-exec-status", "guest-network-get-interfaces"),
    ],
)
@pytest.mark.parametrize("installed", [("ip", "bridge", "nft", "grep"), ("grep",), ()])
def test_every_fact_that_a_guest_does_not_tell_has_its_gap(guest, agent_of, commands, installed):
    """At each level, with whatever is installed: nothing is left out without a word."""
    missing = dict.fromkeys({"ip", "bridge", "nft", "grep", "iptables-nft-save"} - {*installed})
    reading = read_guest("web", "web", agent_of(guest, programs=missing, commands=commands))
    stack = reading.stack
    # A guest is no namespace of the host, and nobody asked for a path.
    unread = {f for f in stack.__struct_fields__ if getattr(stack, f) is None} - {"netns", "flows"}
    assert unread <= {gap.fact for gap in reading.gaps}


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("file", "unread"), [("/proc/net/tcp6", "sockets"), ("/proc/net/ip_tables_names", "tables")]
)
def test_a_list_that_does_not_come_is_not_an_empty_one(
    namespaces, agent_of, tmp_path, file, unread
):
    """A slow guest's grep may not end in time: then nobody says that nothing listens there."""
    made = namespaces("guest")
    made.ip("link set lo up")
    dying = tmp_path / "grep"
    dying.write_text(f'#!/bin/sh\nfor w; do [ $w = {file} ] && kill -KILL $$; done\ngrep "$@"\n')
    dying.chmod(0o755)
    reading = read_guest("web", "web", agent_of(made, programs={"grep": str(dying)}))
    assert getattr(reading.stack, unread) is None
    assert unread in {gap.fact for gap in reading.gaps}


@pytest.mark.kernel
def test_an_old_ip_knows_no_nexthop_objects(namespaces, agent_of, tmp_path):
    """Nothing is missing where no route uses one; said it is all the same."""
    made = namespaces("guest")
    made.ip("link set lo up")
    old = tmp_path / "ip"
    old.write_text('#!/bin/sh\nfor w; do [ $w = nexthop ] && exit 1; done\nexec ip "$@"\n')
    old.chmod(0o755)
    reading = read_guest("web", "web", agent_of(made, programs={"ip": str(old)}))
    assert reading.stack.nexthops is None
    assert [(gap.fact, gap.expected) for gap in reading.gaps] == [("nexthops", True)]


@pytest.mark.kernel
def test_where_files_may_be_read_but_nothing_run(guest, agent_of):
    """Routes in tables that no file shows are not taken for absent; nor are rules."""
    files = ("guest-file-open", "guest-file-read", "guest-file-close")
    reading = read_guest(
        "web", "web", agent_of(guest, commands=(*files, "guest-network-get-interfaces"))
    )
    assert reading.inside.access == "basic"
    assert reading.stack.policy_rules is None
    assert reading.stack.routes is None
    assert any("tables of their own" in gap.why for gap in reading.gaps)
    assert reading.stack.sysctls["net.ipv4.conf.ens3.rp_filter"] in "012"


@pytest.mark.kernel
def test_rules_that_cannot_be_read_are_not_taken_for_none(guest, agent_of):
    """A guest without nft whose kernel may have nf_tables."""
    reading = read_guest("web", "web", agent_of(guest, programs={"nft": None}))
    assert reading.stack.tables is None
    assert [gap.fact for gap in reading.gaps] == ["tables"]
