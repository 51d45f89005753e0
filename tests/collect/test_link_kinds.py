"""Links of every kind this kernel has, and what hangs on them: set with ip, tc and ethtool."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import socket
import stat
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmdiag.collect.processes import holders
from kvmdiag.model.link_kinds import Macvlan, Process, Qdisc, Vxlan
from kvmdiag.system.namespaces import entered

from .reading import links

_TUNSETIFF, _TUNSETQUEUE = 0x400454CA, 0x400454D9

_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100

_IFF_DETACH_QUEUE = 0x400


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


def test_dropped_frames_are_counted(host, eventually):
    """Those for which the ring of a tap had no room, because its guest does not read."""
    with entered(host.path):
        guest = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(guest, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
    try:
        host.ip("link set tap0 txqueuelen 2", "link set tap0 up", "addr add 192.0.2.1/24 dev tap0")
        host.ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev tap0")
        host.run("ping -c9 -i0.01 -W0.1 192.0.2.9", check=False)

        def alike():
            """Other frames may be dropped between the two readings: the kernel speaks IPv6."""
            shown = json.loads(host.run("ip -s -j link show tap0").stdout)[0]["stats64"]["tx"]
            return links(host)["tap0"].counters.tx_dropped == shown["dropped"] > 0

        eventually(alike, "what is counted is never what ip shows", seconds=20)
    finally:
        os.close(guest)


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
