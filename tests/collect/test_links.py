"""Links and taps: set with ip in a namespace, found in the snapshot."""

from __future__ import annotations

import ast
import sys
import threading

import msgspec
import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link import LinkRef, Tap, Vlan

from .reading import link, links, read


def test_loopback_is_known_as_such(host):
    """A new namespace has it, and it is down."""
    lo = link(host, "lo")
    assert (lo.is_loopback, lo.up, lo.kind, lo.mtu) == (True, False, None, 65536)


def test_state_mtu_and_address_of_a_link(host):
    """As ``ip link`` shows them."""
    host.ip("link add br0 address 02:00:00:00:00:99 mtu 1400 type bridge")
    down = link(host, "br0")
    assert (down.mac, down.mtu, down.up, down.operstate) == (
        "02:00:00:00:00:99",
        1400,
        False,
        "down",
    )
    host.ip("link set br0 up")
    assert link(host, "br0").up


def test_taps_and_tuns(host):
    """Told apart, with whether they outlive their reader."""
    host.ip("tuntap add tap0 mode tap", "tuntap add tun0 mode tun")
    tap, tun = link(host, "tap0"), link(host, "tun0")
    # Nobody reads them, or somebody whose open files are hidden even from root.
    for found in (tap, tun):
        assert found.tap.readers in ((), None)
    one, other = (msgspec.structs.replace(found.tap, readers=None) for found in (tap, tun))
    assert (tap.kind, one) == ("tun", Tap(mode="tap", persistent=True))
    assert (tun.type, other) == ("none", Tap(mode="tun", persistent=True))


def test_a_vlan_on_its_lower_link(host):
    """A dot in its name is only a name, and a slash in a sysctl's."""
    host.ip("link add br0 type bridge")
    done = host.run("ip link add link br0 name br0.100 type vlan id 100", check=False)
    if done.returncode:
        pytest.skip("this kernel has no VLAN devices")
    vlan = link(host, "br0.100")
    assert (vlan.lower, vlan.vlan) == ("br0", Vlan(vid=100))
    assert read(host).sysctls["net.ipv4.conf.br0/100.rp_filter"] == "0"


def test_cables_within_a_namespace(host):
    """Both ends know each other."""
    host.ip("link add v1 type veth peer name v2")
    assert link(host, "v1").peer == LinkRef("host", "v2")
    assert link(host, "v2").peer == LinkRef("host", "v1")


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


def test_reading_happens_in_a_thread_too(host):
    """Threads have their own namespace, and so has what is read in one."""
    host.ip("link add only0 type bridge")
    found = []
    thread = threading.Thread(target=lambda: found.append(read(host)))
    thread.start()
    thread.join()
    assert "only0" in {link.name for link in found[0].links}
