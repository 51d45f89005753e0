"""Reading changes nothing, tells what it could not read, and needs no rights for its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.codec import load, save
from kvmdiag.system.namespaces import THREAD_NETNS, identity
from kvmdiag.system.netlink import Netlink

_STATE = (
    "ip -d link",
    "ip addr",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip neigh",
    "bridge fdb",
    "ip netns list-id",
    "nft list ruleset",
    "sysctl -a --pattern ^net",
    "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names",
    "ip nexthop",
    "bridge vlan",
    "tc qdisc",
    "ethtool -k vnet0",
    "cat /proc/modules",
    "cat /proc/sys/net/netfilter/nf_conntrack_count",
)

_TIMER = re.compile(r"\w+_timer +\S+")


def _state(namespace):
    # A bridge's timers run by themselves.
    return {c: _TIMER.sub("", namespace.run(c, check=False).stdout) for c in _STATE}


def test_nothing_is_different_afterwards(namespaces, eventually):
    """Links, addresses, rules of every kind, sysctls, and which legacy tables exist."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    host.ip("link add br0 up type bridge", "link set vnet0 master br0 up")
    host.run("nft add table ip filter")
    # IPv6 does things by itself, and the state of a link follows a little later.
    for namespace in (host, guest):
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    guest.ip("addr add 192.0.2.1/24 dev eth0", "link set eth0 up")
    eventually(
        lambda: (
            host.run("ip -br link show br0").stdout.split()[1] == "UP"
            and host.run("ip -br link show vnet0").stdout.split()[1] == "UP"
            and guest.run("ip -br link show eth0").stdout.split()[1] == "UP"
        ),
        "the links never came up",
    )
    before = _state(host), _state(guest)
    here = identity(THREAD_NETNS)
    collect(Scope(host=host.path, libvirt=False))
    after = _state(host), _state(guest)
    for one, other in zip(before, after, strict=True):
        assert other == one
    assert identity(THREAD_NETNS) == here


def test_reading_twice_gives_the_same(namespaces):
    """Apart from the time and from what is counted."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    host.ip("link set vnet0 up", "neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev vnet0")
    scope = Scope(host=host.path, libvirt=False)
    one, two = collect(scope), collect(scope)
    assert [_settled(stack) for stack in one.stacks] == [_settled(stack) for stack in two.stacks]
    assert load(save(one)) == one


def test_a_live_report_is_that_of_the_saved_file(namespaces, eventually, tmp_path):
    """Findings, gaps and all; what goes on meanwhile is not judged."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    host.ip("link add br0 up type bridge", "link set vnet0 master br0 up")
    host.ip("addr add 192.0.2.1/24 dev br0", "link add orphan type veth peer name gone")
    host.run("iptables-nft -P FORWARD DROP")
    guest.ip(
        "link set eth0 up", "addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1"
    )
    eventually(lambda: guest.run("ping -c1 -W1 192.0.2.1", check=False).returncode == 0, "no link")
    file = tmp_path / "host.kvm"
    kvmdiag = f"{sys.executable} -m kvmdiag"
    host.run(f"{kvmdiag} snapshot -q -o {file}")
    live = host.run(f"{kvmdiag} check --format json", check=False)
    saved = host.run(f"{kvmdiag} check --format json --snapshot {file}", check=False)
    assert live.returncode == saved.returncode
    assert json.loads(live.stdout) == json.loads(saved.stdout)


def test_a_source_that_fails_takes_no_other_with_it(namespaces, monkeypatch):
    """What it would have told is a gap; everything else is there."""
    host = namespaces("host")
    host.ip("link add br0 up type bridge", "addr add 192.0.2.1/24 dev br0")
    getqdisc, getroute, getstats, getnexthop = 38, 26, 94, 106
    refused = {
        getqdisc: PermissionError(1, "Operation not permitted"),
        getroute: TimeoutError("timed out"),
        getstats: OSError(95, "Operation not supported"),
        getnexthop: OSError(12, "Cannot allocate memory"),
    }
    answer = Netlink.dump

    def dump(self, kind, body):
        if kind in refused:
            raise refused[kind]
        return answer(self, kind, body)

    monkeypatch.setattr(Netlink, "dump", dump)
    monkeypatch.setattr("kvmdiag.collect.stack.read_counters", _raising(PermissionError(13, "no")))
    snapshot = collect(Scope(host=host.path, libvirt=False))
    stack = snapshot.stack("host")
    why = {gap.fact: gap.why for gap in snapshot.gaps if gap.stack == "host"}
    assert set(why) >= {"routes", "qdiscs", "filters", "counters of links", "nexthops", "counters"}
    assert "timed out" in why["routes"]
    assert "not permitted" in why["qdiscs"]
    assert (stack.routes, stack.nexthops, stack.counters) == (None, None, None)
    assert [(link.qdiscs, link.filters, link.counters) for link in stack.links] == [(None,) * 3] * 2
    assert [one.address for one in stack.addresses if "." in one.address] == ["192.0.2.1"]
    assert stack.sysctls["net.ipv4.conf.br0.rp_filter"] == "0"
    assert all(link.offloads for link in stack.links)
    assert load(save(snapshot)) == snapshot


def _raising(error):
    def fail():
        raise error

    return fail


def _settled(stack):
    """Without what is counted."""
    links = tuple(msgspec.structs.replace(link, counters=None) for link in stack.links)
    return msgspec.structs.replace(stack, links=links, counters=None)


_READ_AS_NOBODY = """
import os, sys
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.codec import save
collect(Scope(libvirt=False))  # everything is imported while it may be
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.stdout.buffer.write(save(collect(Scope(libvirt=False, include=(sys.argv[1],)))))
"""


def _as_nobody(inside, asked):
    """A snapshot taken in the namespace ``inside`` by a user without rights."""
    done = subprocess.run(
        ["ip", "netns", "exec", inside.name, sys.executable, "-c", _READ_AS_NOBODY, asked.name],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
    )
    return load(done.stdout)


def test_without_rights_the_own_namespace_is_read(namespaces):
    """Links, addresses, routes and the like are open to everybody."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    stack = _as_nobody(host, guest).stack("host")
    assert {link.name for link in stack.links} == {"lo", "vnet0"}
    for fact in ("addresses", "routes", "policy_rules", "neighbours", "fdb", "sysctls"):
        assert getattr(stack, fact) is not None, fact


def test_without_rights_another_namespace_is_a_gap(namespaces):
    """It is known to be there, at the end of the cable, and what would help is said."""
    host, guest = namespaces("host"), namespaces("guest")
    host.cable("vnet0", guest, "eth0")
    snapshot = _as_nobody(host, guest)
    stack = snapshot.stack(guest.name)
    assert (stack.links, stack.addresses, stack.sysctls, stack.tables) == (None,) * 4
    (gap,) = (gap for gap in snapshot.gaps if gap.stack == guest.name)
    assert gap.fact == "all"
    assert "not allowed to enter" in gap.why
    assert "root" in gap.help
    (tap,) = (link for link in snapshot.stack("host").links if link.name == "vnet0")
    assert (tap.guest, tap.is_uplink) == (guest.name, False)


def test_without_rights_a_cable_to_an_unseen_process_is_a_gap(namespaces, eventually):
    """A container's namespace cannot be told from others; the cable to it can be seen."""
    host = namespaces("host")
    program = host.start("unshare --net sleep 60")
    comm = Path(f"/proc/{program.pid}/comm")
    eventually(lambda: comm.read_text() == "sleep\n", "sleep did not start")
    host.ip(f"link add vnet0 type veth peer name eth0 netns {program.pid}")
    snapshot = _as_nobody(host, host)
    assert [stack.name for stack in snapshot.stacks] == ["host"]
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == "peers")
    assert (gap.stack, "vnet0" in gap.why, "root" in gap.help) == ("host", True, True)


def test_every_missing_fact_has_its_gap(namespaces):
    """Nothing is left out without a word; connections nobody asked for are not missing."""
    snapshot = _as_nobody(namespaces("host"), namespaces("guest"))
    for stack in snapshot.stacks:
        told = {gap.fact for gap in snapshot.gaps if gap.stack == stack.name}
        missing = {f for f in stack.__struct_fields__ if getattr(stack, f) is None} - {"flows"}
        assert missing <= told or "all" in told
    assert {"domains", "networks"} <= {gap.fact for gap in snapshot.gaps}
