"""What goes on in a namespace: settings, groups, tunnels, listeners, flows, counters."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from kvmdiag.collect.kernel.counters import read_conntrack, read_counters
from kvmdiag.collect.kernel.sockets import read_sockets
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.link_kinds import Process
from kvmdiag.model.stack import MdbEntry, TunnelEntry
from kvmdiag.system.modules import is_there
from kvmdiag.system.namespaces import entered

from .reading import read


def test_all_sysctls_are_those_that_sysctl_shows(host):
    """Of links (which come with the links) and of the namespace, each with its own value."""
    host.ip("link add br0 up type bridge", "link add x.1 type veth peer name v2")
    settings = "forwarding rp_filter accept_local arp_ignore arp_announce arp_filter proxy_arp"
    for number, name in enumerate(settings.split()):
        host.sysctl(f"net.ipv4.conf.br0.{name}", number % 2 + 1)
    for number, name in enumerate(("accept_ra", "forwarding", "hop_limit", "mtu", "autoconf")):
        host.sysctl(f"net.ipv6.conf.x/1.{name}", (2, 1, 33, 1300, 0)[number])
    shown = host.run("sysctl -a --pattern ^net").stdout
    expected = dict(line.split(" = ", 1) for line in shown.splitlines() if " = " in line)
    found = read(host).sysctls
    assert {"net.ipv4.conf.br0.rp_filter", "net.ipv6.conf.x/1.accept_ra"} <= set(found)
    assert found == {name: expected[name] for name in found}
    assert len(found) > 300


def test_multicast_groups_of_a_bridge(host):
    """By port, both versions, and what is no IP at all."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 up type veth peer name v2",
        "link set v1 master br0",
        "link set v2 up",
    )
    for group in ("239.1.1.1", "ff05::7", "01:00:5e:00:00:42"):
        host.run(f"bridge mdb add dev br0 port v1 grp {group} permanent")
    groups = {entry for entry in read(host).mdb if entry.port == "v1" and entry.permanent}
    assert groups == {
        MdbEntry(bridge="br0", port="v1", group=group, permanent=True)
        for group in ("239.1.1.1", "ff05::7", "01:00:5e:00:00:42")
    }


def test_peers_of_a_vxlan(host):
    """One by its address, and the one for all that are not known."""
    host.ip("link add vx0 type vxlan id 42 dstport 4789 local 192.0.2.1", "link set vx0 up")
    host.run("bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.8")
    host.run("bridge fdb append 02:00:00:00:00:09 dev vx0 dst 192.0.2.9 port 4790 vni 43")
    assert read(host).tunnels == (
        TunnelEntry(link="vx0", mac="00:00:00:00:00:00", remote="192.0.2.8"),
        TunnelEntry(link="vx0", mac="02:00:00:00:00:09", remote="192.0.2.9", port=4790, vni=43),
    )


def test_entries_that_programs_learned(host):
    """They do not age, or do not move."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 up type veth peer name v2",
        "link set v1 master br0",
    )
    host.run("bridge fdb add 02:00:00:00:00:05 dev v1 master extern_learn")
    host.run("bridge fdb add 02:00:00:00:00:06 dev v1 master static sticky")
    host.run("ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev br0 extern_learn")
    host.run("ip neigh add 2001:db8::7 lladdr 02:00:00:00:00:07 dev br0 router nud permanent")
    stack = read(host)
    entries = {entry.mac: entry for entry in stack.fdb}
    assert entries["02:00:00:00:00:05"].learned_elsewhere
    assert entries["02:00:00:00:00:06"].sticky
    neighbours = {entry.address: entry for entry in stack.neighbours}
    assert neighbours["192.0.2.7"].learned_elsewhere
    assert neighbours["2001:db8::7"].router


def test_neighbours_have_an_order_of_their_own(host):
    """By link and address, not by the kernel's random number."""
    host.ip("link add br0 up type bridge", "link add br1 up type bridge")
    for number in (30, 4, 200):
        host.ip(f"neigh add 192.0.2.{number} lladdr 02:00:00:00:00:01 dev br1")
        host.ip(f"neigh add 192.0.2.{number} lladdr 02:00:00:00:00:01 dev br0")
    found = [(n.link, n.address) for n in read(host).neighbours if "." in n.address]
    order = ["192.0.2.4", "192.0.2.30", "192.0.2.200"]
    assert found == [(link, address) for link in ("br0", "br1") for address in order]


def test_states_of_addresses(host):
    """Without an end, of a lease, of a link that does not answer to its prefix."""
    host.ip(
        "link add br0 type bridge",
        "addr add 192.0.2.1/24 dev br0 valid_lft 3600 preferred_lft 1800 noprefixroute",
        "addr add 2001:db8::1/64 dev br0 valid_lft 3600 preferred_lft 0",
    )
    found = {one.address: one.flags for one in read(host).addresses}
    assert found["192.0.2.1"] == {"dynamic", "noprefixroute"}
    assert {"dynamic", "deprecated", "tentative"} <= found["2001:db8::1"]


def test_who_listens(host):
    """On which address and port, both versions; connections are no listeners."""
    with entered(host.path):
        host.ip("link set lo up")
        tcp = socket.create_server(("127.0.0.1", 53))
        both = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("0.0.0.0", 67))
        connected = socket.create_connection(("127.0.0.1", 53))
        talking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        talking.connect(("127.0.0.1", 67))
    try:
        sockets = read(host).sockets
        assert [(one.protocol, one.address, one.port, one.version) for one in sockets] == [
            ("tcp", "127.0.0.1", 53, 4),
            ("tcp", "::", 8080, 6),
            ("udp", "0.0.0.0", 67, 4),
        ]
        me = Process(pid=os.getpid(), name=Path("/proc/self/comm").read_text().strip())
        assert [one.processes for one in sockets] == [(me,)] * 3
        assert sockets[0].uid == os.getuid()
    finally:
        for one in (tcp, both, udp, connected, talking):
            one.close()
    assert read(host).sockets == ()


def test_sockets_that_serve_one_link(host):
    """As dnsmasq's for DHCP do (SO_BINDTODEVICE), and those that take IPv6 only."""
    host.ip("link set lo up", "link add br0 up type bridge")
    with entered(host.path):
        dhcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br0\0")
        dhcp.bind(("0.0.0.0", 67))
        v6 = socket.create_server(("::", 53), family=socket.AF_INET6)
        both = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    with dhcp, v6, both:
        found = {one.port: one for one in read(host).sockets}
    assert [(found[port].links, found[port].only_v6) for port in (67, 53, 80)] == [
        (("br0",), False),
        ((), True),
        ((), False),
    ]
    assert found[67].serves("br0") is True
    assert found[67].serves("vnet0", "br0") is True
    assert found[67].hears("192.0.2.1", "vnet0") is False
    assert found[53].hears("192.0.2.1", "br0") is False
    assert found[53].hears("2001:db8::1", "br0") is True
    assert found[80].hears("192.0.2.1", "br0") is True


def test_what_a_socket_hears_that_nobody_told_of():
    """Unknown where the link or the version may keep it from hearing, and never guessed."""

    def heard(address, bound, to):
        one = ListeningSocket(protocol="udp", address=address, port=53, uid=0, inode=1, **bound)
        return one.hears(to, "br0")

    assert heard("0.0.0.0", {}, "192.0.2.1") is None
    assert heard("::", {"links": ()}, "192.0.2.1") is None
    assert heard("::", {"links": ("br1",)}, "192.0.2.1") is False
    assert heard("192.0.2.2", {}, "192.0.2.1") is False
    assert heard("192.0.2.1", {"links": ()}, "192.0.2.1") is True


def test_where_nobody_tells_what_sockets_serve(host, monkeypatch):
    """No module is loaded by asking; it is said once, and nothing is missing."""
    monkeypatch.setattr("kvmdiag.collect.kernel.socket_links.is_there", lambda _: None)
    with entered(host.path):
        server = socket.create_server(("127.0.0.1", 53))
    with server:
        snapshot = collect(Scope(host=host.path, libvirt=False))
    assert [one.links for one in snapshot.stack("host").sockets] == [None]
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == "links of sockets")
    assert (gap.stack, gap.expected) == (None, True)


def test_more_sockets_than_are_looked_at(tmp_path, monkeypatch):
    """None of them, rather than some: who is not among them would not listen."""
    monkeypatch.setattr("kvmdiag.collect.kernel.sockets._MOST", 1)
    line = "  0: 0100007F:0035 00000000:0000 07 0:0 00:0 0 0 0 7 2 0 0\n"
    for name in ("tcp", "udp"):
        (tmp_path / name).write_text("head\n" + (line * 2 if name == "udp" else ""))
    with pytest.raises(ValueError, match="more than 1 sockets of udp"):
        read_sockets({}, complete=True, net=tmp_path)


def test_a_listener_whose_process_cannot_be_seen(host):
    """Has unknown holders when some are hidden, and none when all were seen."""
    with entered(host.path):
        server = socket.create_server(("127.0.0.1", 53))
        assert [one.processes for one in read_sockets({}, complete=False)] == [None]
        assert [one.processes for one in read_sockets({}, complete=True)] == [()]
    server.close()


def test_counters_of_protocols(host):
    """By the kernel's names; what one packet changes."""
    host.ip("link set lo up")
    before = read(host).counters
    host.run("ping -c1 127.0.0.1")
    after = read(host).counters
    assert after["Icmp.InEchos"] == before["Icmp.InEchos"] + 1
    assert {"Ip.InAddrErrors", "TcpExt.IPReversePathFilter", "Udp.NoPorts"} <= set(after)
    assert {"Ip6.InNoRoutes", "Softnet.Dropped", "IpExt.InNoRoutes"} <= set(after)


def test_packets_without_a_forwarding_host(host, namespaces, eventually):
    """As the kernel's own counter tells: what kvmdiag ip-forward-off looks like from inside."""
    guest = namespaces("guest")
    guest.cable("eth0", host, "vnet0")
    guest.ip(
        "link set eth0 up", "addr add 192.0.2.2/24 dev eth0", "route add default via 192.0.2.1"
    )
    host.ip("link set vnet0 up", "addr add 192.0.2.1/24 dev vnet0")
    eventually(lambda: guest.run("ping -c1 -W1 192.0.2.1", check=False).returncode == 0, "no link")
    assert read(host).counters["Ip.InAddrErrors"] == 0
    guest.run("ping -c1 -W0.1 198.51.100.9", check=False)
    assert read(host).counters["Ip.InAddrErrors"] == 1


def test_a_kernel_that_tracks_nothing(tmp_path):
    """Has nothing to tell, and nothing is missing."""
    (tmp_path / "snmp").write_text("Ip: Forwarding InReceives\nIp: 1 7\n")
    tracked = read_conntrack(tmp_path, tmp_path / "netfilter")
    assert (tracked.count, tracked.maximum, tracked.stats) == (0, 0, {})
    assert read_counters(tmp_path) == {"Ip.Forwarding": 1, "Ip.InReceives": 7}


def test_counters_of_several_cpus(tmp_path):
    """Are summed; columns that later kernels added are taken or left."""
    (tmp_path / "stat").mkdir()
    (tmp_path / "snmp").write_text("")
    (tmp_path / "softnet_stat").write_text("0000000a 00000001 00000002\n00000005 00000000 1\n")
    (tmp_path / "stat/arp_cache").write_text(
        "entries  table_fulls\n00000007 00000001\n00000007 2\n"
    )
    assert read_counters(tmp_path) == {
        "ArpCache.table_fulls": 3,
        "Softnet.Dropped": 1,
        "Softnet.FlowLimit": 0,
        "Softnet.Processed": 15,
        "Softnet.ReceivedRps": 0,
        "Softnet.TimeSqueeze": 3,
    }


def test_modules_that_are_there(tmp_path):
    """Loaded, built in, neither; or the kernel has none at all."""
    loaded, built_in = tmp_path / "modules", tmp_path / "lib"
    assert is_there("veth", loaded, built_in) is True
    loaded.write_text("veth 12345 0 - Live 0x0\nnf_conntrack_netlink 1 0 - Live 0x0\n")
    assert is_there("veth", loaded, built_in) is True
    assert is_there("bridge", loaded, built_in) is None
    folder = built_in / os.uname().release
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/net/bridge/bridge.ko\nkernel/x/cls-u32.ko\n")
    assert is_there("bridge", loaded, built_in) is True
    assert is_there("cls_u32", loaded, built_in) is True
    assert is_there("vxlan", loaded, built_in) is False


def test_programs_say_the_same(host):
    """Every address, route and neighbour that ip shows, in the number ip shows."""
    host.ip(
        "link set lo up",
        "link add br0 up type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 2001:db8::1/64 dev br0 nodad",
        "route add 203.0.113.0/24 via 192.0.2.9",
        "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev br0",
    )
    stack = read(host)
    shown = host.run("ip -o -4 route show table all").stdout.splitlines()
    shown += host.run("ip -o -6 route show table all").stdout.splitlines()
    assert len(stack.routes) == len(shown)
    assert len(stack.addresses) == len(host.run("ip -o addr").stdout.splitlines())
    text = host.run("ip -o neigh").stdout
    assert len(stack.neighbours) == len(re.findall("lladdr", text))
