"""Links of every kind this kernel has: set with ip, bridge, tc and ethtool, and found."""

from __future__ import annotations

import ast
import ctypes
import fcntl
import json
import os
import platform
import socket
import stat
import struct
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmdiag.collect import holders
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link_kinds import Macvlan, Process, Qdisc, Vxlan
from kvmdiag.system.namespaces import entered

_TUNSETIFF, _TUNSETQUEUE = 0x400454CA, 0x400454D9
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
_IFF_DETACH_QUEUE = 0x400


@pytest.fixture
def host(namespaces):
    """A namespace that plays the host."""
    return namespaces("host")


def links(host):
    """The host's links by name."""
    stack = collect(Scope(host=host.path, libvirt=False)).stack("host")
    return {link.name: link for link in stack.links}


def test_more_settings_of_a_bridge(host):
    """Times, its place in the spanning tree, who asks for multicast groups."""
    host.ip(
        "link add br0 type bridge ageing_time 12000 priority 4096 mcast_querier 1 mcast_snooping 1"
    )
    bridge = links(host)["br0"].bridge
    assert (bridge.ageing_time, bridge.priority) == (12000, 4096)
    assert (bridge.multicast_querier, bridge.multicast_snooping) == (True, True)


def test_every_setting_of_a_bridge_port(host):
    """Each one, other than it is by itself."""
    host.ip(
        "link add br0 type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0",
        "link set v1 type bridge_slave mcast_flood off bcast_flood off neigh_suppress on"
        " proxy_arp on guard on root_block on fastleave on mcast_to_unicast on vlan_tunnel on"
        " locked on priority 8 cost 77 group_fwd_mask 16",
    )
    port = links(host)["v1"].port
    assert (port.multicast_flood, port.broadcast_flood) == (False, False)
    assert (port.priority, port.cost, port.group_fwd_mask) == (8, 77, 16)
    assert port.neigh_suppress
    assert port.proxy_arp
    assert port.guard
    assert port.root_block
    assert port.fast_leave
    assert port.multicast_to_unicast
    assert port.vlan_tunnel
    assert port.locked


@pytest.mark.parametrize("mode", ["private", "vepa", "bridge", "passthru"])
@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_macvlans_and_macvtaps(host, kind, mode):
    """On which link, and in which mode."""
    host.ip("link add low0 type ifb", f"link add link low0 name m0 type {kind} mode {mode}")
    found = links(host)["m0"]
    assert (found.kind, found.lower, found.macvlan.mode) == (kind, "low0", mode)
    # Nobody, or somebody whose open files this kernel hides even from root.
    assert found.macvlan.readers in ((), None)
    assert kind == "macvtap" or found.macvlan == Macvlan(mode=mode)


def test_macvtaps_with_readers(host, tmp_path, monkeypatch, eventually):
    """The process that holds its file, as QEMU does."""
    host.ip("link add low0 type ifb", "link add link low0 name m0 type macvtap mode bridge")
    number = host.run("sh -c 'cat /sys/class/net/m0/tap*/dev'").stdout
    file = tmp_path / "tap7"
    os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(*map(int, number.split(":"))))
    monkeypatch.setattr(holders, "_MACVTAP", str(file)[:-1])
    guest = host.start(["tail", "-f", str(file)])

    def held():
        readers = links(host)["m0"].macvlan.readers
        return readers == (Process(pid=guest.pid, name="tail"),)

    eventually(held, "nobody holds it")


def test_a_vxlan(host):
    """Its number, its peers, and the link it is bound to."""
    host.ip(
        "link add low0 type ifb",
        "link add vx0 type vxlan id 42 local 192.0.2.1 remote 192.0.2.9 dstport 4789 dev low0",
        "link add vx1 type vxlan id 43 dstport 4789 nolearning local 2001:db8::1",
        "link add vx2 type vxlan external dstport 4790",
    )
    found = links(host)
    assert found["vx0"].vxlan == Vxlan(vni=42, port=4789, local="192.0.2.1", remote="192.0.2.9")
    assert found["vx0"].lower == "low0"
    assert found["vx1"].vxlan == Vxlan(vni=43, port=4789, local="2001:db8::1", learning=False)
    assert found["vx2"].vxlan.external


def test_names_addresses_and_lengths(host):
    """Aliases, alternative names, groups, queues, flags."""
    host.ip(
        "link add v1 numtxqueues 3 numrxqueues 2 txqueuelen 77 type veth peer name v2",
        "link set v1 alias uplink",
        "link property add dev v1 altname enp0s1 altname other0",
        "link set v1 group 7 arp off promisc on allmulticast on",
    )
    found = links(host)["v1"]
    assert (found.alias, found.alternative_names) == ("uplink", ("enp0s1", "other0"))
    assert (found.tx_queue_length, found.tx_queues, found.rx_queues) == (77, 3, 2)
    assert (found.group, found.arp, found.promiscuous, found.all_multicast) == (7, False, 1, 1)
    other = links(host)["v2"]
    assert (other.group, other.arp, other.promiscuous, other.all_multicast) == (0, True, 0, 0)


def test_protocol_down_and_carrier_changes(host):
    """A link somebody keeps down; one whose other end went."""
    host.ip("link add v1 type veth peer name v2", "link set v1 up", "link set v2 up")
    before = links(host)["v1"].carrier_changes
    host.ip("link set v2 down")
    assert links(host)["v1"].carrier_changes == before + 1
    host.ip("link add link v1 name m0 type macvlan", "link set m0 protodown on")
    assert links(host)["m0"].protocol_down


def test_what_was_counted(host):
    """Packets of a ping, and one that a link without a carrier had to drop."""
    host.ip("link set lo up")
    assert links(host)["lo"].counters.rx_packets == 0
    host.run("ping -c2 -i0.01 127.0.0.1")
    counters = links(host)["lo"].counters
    assert (counters.rx_packets, counters.tx_packets) == (4, 4)
    assert counters.rx_bytes == 4 * 84
    assert (counters.rx_dropped, counters.tx_errors) == (0, 0)


def test_dropped_frames_are_counted(host):
    """Those for which the ring of a tap had no room, because its guest does not read."""
    with entered(host.path):
        guest = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
    try:
        host.ip("link set tap0 txqueuelen 2", "link set tap0 up", "addr add 192.0.2.1/24 dev tap0")
        host.ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev tap0")
        host.run("ping -c9 -i0.01 -W0.1 192.0.2.9", check=False)
        shown = json.loads(host.run("ip -s -j link show tap0").stdout)[0]["stats64"]["tx"]
        assert links(host)["tap0"].counters.tx_dropped == shown["dropped"] > 0
    finally:
        os.close(guest)


def test_taps_with_readers(host):
    """The process, its queues, and what it asked for; another tap of that name is another."""
    with entered(host.path):
        first, second = os.open("/dev/net/tun", os.O_RDWR), os.open("/dev/net/tun", os.O_RDWR)
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_MULTI_QUEUE
        for descriptor in (first, second):
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"tap0", flags))
        fcntl.ioctl(second, _TUNSETQUEUE, struct.pack("16sH22x", b"", _IFF_DETACH_QUEUE))
    try:
        host.ip("tuntap add tap1 mode tap user 1234 group 5678")
        found = links(host)
        me = Process(pid=os.getpid(), name=Path("/proc/self/comm").read_text().strip())
        tap = found["tap0"].tap
        assert (tap.readers, tap.persistent, tap.vnet_header) == ((me,), False, True)
        assert (tap.multi_queue, tap.queues, tap.disabled_queues) == (True, 1, 1)
        other = found["tap1"].tap
        assert (other.owner, other.group, other.persistent) == (1234, 5678, True)
        # Nobody, or somebody whose open files this kernel hides even from root.
        assert other.readers in ((), None)
    finally:
        os.close(first)
        os.close(second)
    host.ip("tuntap add tap0 mode tap")
    assert links(host)["tap0"].tap.readers in ((), None)


def test_where_an_address_is_from(host):
    """Made up, or set; of the own namespace only, for sysfs shows no other, and that is said."""
    host.ip(
        "link add v1 type veth peer name v2",
        "link add v3 address 02:00:00:00:00:03 type veth peer name v4",
    )
    program = (
        "from kvmdiag.collect.stack import read_stack;"
        "stack = read_stack('host', 'host', '/proc/self/ns/net').stack;"
        "print({link.name: link.address_assigned for link in stack.links})"
    )
    inside = ast.literal_eval(host.run([sys.executable, "-c", program]).stdout)
    assert inside == {"lo": "permanent", "v1": "random", "v2": "random"} | {
        "v3": "set",
        "v4": "random",
    }
    snapshot = collect(Scope(host=host.path, libvirt=False))
    assert {link.address_assigned for link in snapshot.stack("host").links} == {None}
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == "address_assigned")
    assert (gap.expected, "of host" in gap.why) == (True, True)


def test_queueing_disciplines(host):
    """Their kinds, in a tree."""
    host.ip("link add v1 up type veth peer name v2")
    host.run("tc qdisc add dev v1 root handle 1: htb")
    host.run("tc class add dev v1 parent 1: classid 1:2 htb rate 1mbit")
    host.run("tc qdisc add dev v1 parent 1:2 handle 20: tbf rate 1mbit burst 10k latency 50ms")
    host.run("tc qdisc add dev v1 clsact")
    assert links(host)["v1"].qdiscs == (
        Qdisc(kind="htb", handle="1:", parent="root"),
        Qdisc(kind="tbf", handle="20:", parent="1:2"),
        Qdisc(kind="clsact", handle="ffff:", parent="ingress"),
    )


def test_filters_and_where_they_send_frames(host):
    """On the way in, on the way out and in a discipline; programs by name."""
    host.ip("link add v1 up type veth peer name v2", "link add i0 type ifb")
    host.run("tc qdisc add dev v1 clsact")
    host.run("tc qdisc add dev v1 root handle 1: htb")
    host.run(
        "tc filter add dev v1 ingress protocol ip pref 7 u32 match u32 0 0"
        " action mirred egress redirect dev i0"
    )
    host.run('tc filter add dev v1 egress pref 9 protocol all bpf bytecode "1,6 0 0 4294967295"')
    host.run("tc filter add dev v1 parent 1: protocol ip pref 3 u32 match ip dport 53 0xffff")
    found = {one.where: one for one in links(host)["v1"].filters if one.handle & 0xFFF}
    assert set(found) == {"ingress", "egress", "1:"}
    redirect = found["ingress"]
    assert (redirect.kind, redirect.priority, redirect.protocol) == ("u32", 7, 0x0800)
    assert (redirect.actions, redirect.redirects) == (("mirred",), ("i0",))
    assert (found["egress"].kind, found["egress"].protocol) == ("bpf", 0x0003)
    assert found["1:"].priority == 3
    assert links(host)["v2"].filters == ()


def test_offloads(host):
    """Those that are on."""
    host.ip("link add v1 type veth peer name v2")
    assert "tx-tcp-segmentation" in links(host)["v1"].offloads
    host.run("ethtool -K v1 tso off rx off")
    offloads = links(host)["v1"].offloads
    shown = host.run("ethtool -k v1").stdout
    assert "tx-tcp-segmentation" not in offloads
    assert "\ttx-tcp-segmentation: off" in shown
    on = {line.split(":")[0].strip() for line in shown.splitlines() if ": on" in line}
    # ethtool has names of its own for some, and sums up others.
    assert {name for name in on if name.startswith("tx-")} >= {
        name for name in offloads if name.startswith("tx-")
    } - {"tx-checksum-ip-generic", "tx-scatter-gather", "tx-generic-segmentation"} - {
        name for name in offloads if "vlan" in name or "gso" in name
    }


def test_a_program_at_the_front_door(host):
    """XDP, by its mode and the kernel's id of it; gone with whoever attached it."""
    host.ip("link add v1 type veth peer name v2", "link set v1 up")
    with entered(host.path), attached(socket.if_nametoindex("v1")):
        (found,) = links(host)["v1"].xdp
        shown = json.loads(host.run("ip -j -d link show v1").stdout)[0]["xdp"]
    assert (found.mode, found.program) == ("generic", shown["prog"]["id"])
    assert links(host)["v1"].xdp == ()


@contextmanager
def attached(index):
    """An XDP program that lets everything pass, on a link of the thread's namespace."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    held = [ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")]
    where = [ctypes.addressof(one) for one in held]
    program = bpf(5, struct.pack("=IIQQ", 6, len(code) // 8, *where).ljust(120, b"\0"))
    try:
        link = bpf(28, struct.pack("=IIII", program, index, 37, 2).ljust(120, b"\0"))
        try:
            yield
        finally:
            os.close(link)
    finally:
        os.close(program)


def bpf(command, attributes):
    """The system call; a descriptor."""
    number = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
    if number is None:
        pytest.skip("the number of the bpf system call is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    data = ctypes.create_string_buffer(attributes, len(attributes))
    descriptor = libc.syscall(number, command, data, len(attributes))
    if descriptor < 0:
        pytest.skip(f"this kernel does not take programs: {os.strerror(ctypes.get_errno())}")
    return descriptor


_AS_IP_SAYS = {
    "mtu": "mtu",
    "operstate": "operstate",
    "txqlen": "tx_queue_length",
    "num_tx_queues": "tx_queues",
    "num_rx_queues": "rx_queues",
    "address": "mac",
    "master": "master",
}
_BRIDGE_AS_IP_SAYS = {
    "forward_delay": "forward_delay",
    "ageing_time": "ageing_time",
    "stp_state": "stp",
    "priority": "priority",
    "vlan_filtering": "vlan_filtering",
    "vlan_protocol": "vlan_protocol",
    "root_port": "root_port",
    "mcast_snooping": "multicast_snooping",
    "mcast_querier": "multicast_querier",
    "nf_call_iptables": "nf_call_iptables",
    "nf_call_ip6tables": "nf_call_ip6tables",
    "nf_call_arptables": "nf_call_arptables",
}
_PORT_AS_IP_SAYS = {
    "state": "state",
    "priority": "priority",
    "cost": "cost",
    "hairpin": "hairpin",
    "guard": "guard",
    "root_block": "root_block",
    "fastleave": "fast_leave",
    "learning": "learning",
    "flood": "flood",
    "mcast_flood": "multicast_flood",
    "bcast_flood": "broadcast_flood",
    "mcast_to_unicast": "multicast_to_unicast",
    "neigh_suppress": "neigh_suppress",
    "isolated": "isolated",
    "locked": "locked",
}


def test_links_are_as_ip_shows_them(host, eventually):
    """Attribute by attribute, on a host with something of everything."""
    host.ip(
        "link set lo up",
        "link add br0 up mtu 1400 type bridge stp_state 1 forward_delay 300 nf_call_iptables 1",
        "link add br1 type bridge mcast_snooping 0",
        "link add v1 up type veth peer name v2",
        "link set v1 master br0",
        "link set v2 up",
        "link set v1 type bridge_slave hairpin on isolated on learning off priority 3",
        "link add m0 link v2 up type macvtap mode bridge",
        "tuntap add tap0 mode tap",
        "link set tap0 master br0",
        "link add i0 type ifb",
    )

    def shown():
        return json.loads(host.run("ip -j -d link").stdout)

    def settled():
        return all(one["operstate"] != "LOWERLAYERDOWN" for one in shown())

    eventually(settled, "the links never settled")
    before, found = shown(), links(host)
    if before != shown():  # a bridge port went on to its next state
        before, found = shown(), links(host)
    assert [one["ifname"] for one in before] == list(found)
    for one in before:
        link, info = found[one["ifname"]], one.get("linkinfo", {})
        assert link.kind == info.get("info_kind")
        for theirs, ours in _AS_IP_SAYS.items():
            if theirs in one:
                value = getattr(link, ours)
                assert str(value).lower() == str(one[theirs]).lower(), (link.name, ours)
        if link.bridge is not None:
            same(link.bridge, info["info_data"], _BRIDGE_AS_IP_SAYS)
        if link.port is not None:
            same(link.port, info["info_slave_data"], _PORT_AS_IP_SAYS)


def same(ours, theirs, names):
    """What both have is the same."""
    shown = {own: theirs[name] for name, own in names.items() if name in theirs}
    assert {own: getattr(ours, own) for own in shown} == shown
    assert len(shown) > 8
