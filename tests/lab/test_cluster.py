"""The practice network ``cluster`` behaves as its article tells, healthy and broken."""

import json

import pytest

from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks

pytestmark = pytest.mark.kernel

OUTSIDE = "10.0.0.9"
BREAKS_THE_PATH = [
    fault.name
    for fault in networks()["cluster"].faults
    if not fault.harmless and fault.name != "guest-rp-filter-multihomed"
]
REVERSE_PATH_DROPS = "IPReversePathFilter"


def reverse_path_drops(lab, machine):
    """The kernel's count of packets that rp_filter dropped (/proc/net/netstat, TcpExt)."""
    lines = lab.run(machine, "cat", "/proc/net/netstat").stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index(REVERSE_PATH_DROPS)])


def test_node1_reaches_the_outside(cluster):
    """The way through the router guest and the host works."""
    assert cluster.reaches(OUTSIDE)


def test_the_way_is_that_of_the_article(cluster):
    """The record route option shows the addresses of both directions (RFC 791)."""
    done = cluster.run("node1", "ping", "-n", "-R", "-c1", "-W2", OUTSIDE)
    recorded = done.stdout.partition("RR:")[2].partition("\n\n")[0].split()
    assert recorded == [
        "192.168.48.20",
        "192.168.122.236",
        "10.0.0.10",
        "10.0.0.9",
        "10.0.0.9",
        "192.168.122.1",
        "192.168.48.10",
        "192.168.48.20",
    ]


def test_the_outside_cannot_reach_the_guests(cluster):
    """Without a route to them, as a real network outside would be."""
    assert not cluster.reaches("192.168.122.236", machine="outside")


def links_of_host(lab):
    """As ``ip`` lists them, by name."""
    return {link["ifname"]: link for link in json.loads(lab.run("host", "ip", "-j", "link").stdout)}


def test_links_are_as_on_a_real_host(cluster):
    """Names, ports and MAC addresses of taps and NICs."""
    links = links_of_host(cluster)
    # Some kernels put tunnel devices into every namespace.
    assert {"lo", "eno1", "virbr0", "mybr0", "vnet0", "vnet2", "vnet3"} <= set(links)
    assert {name: links[name].get("master") for name in ("vnet0", "vnet2", "vnet3", "eno1")} == {
        "vnet0": "virbr0",
        "vnet2": "mybr0",
        "vnet3": "mybr0",
        "eno1": None,
    }
    assert links["vnet3"]["address"] == "fe:54:00:eb:6c:6a"
    assert links["mybr0"]["address"].startswith("52:54:00:")


def test_no_cable_waits_for_its_carrier(healthy):
    """Its ends have different numbers, or the kernel would look at them only once a second."""
    manager.break_(healthy.label, "second-nic")
    cables = [link for link in links_of_host(healthy).values() if "link_index" in link]
    assert len(cables) == 5
    assert all(link["ifindex"] != link["link_index"] for link in cables)


@pytest.mark.parametrize("fault", BREAKS_THE_PATH)
def test_a_fault_stops_the_ping(healthy, fault):
    """What is injected really breaks the path, and mending really cures it."""
    manager.break_(healthy.label, fault)
    assert not healthy.reaches(OUTSIDE, wait="0.4")
    assert manager.mend(healthy.label, fault) == (fault,)
    assert healthy.reaches(OUTSIDE)


def test_the_cold_case(healthy):
    """By ens3 the reply arrives in node1 and is dropped by rp_filter; by ens6 all is well."""
    manager.break_(healthy.label, "guest-rp-filter-multihomed")
    before = reverse_path_drops(healthy, "node1")
    assert not healthy.reaches("-I", "ens3", OUTSIDE, wait="0.4")
    assert reverse_path_drops(healthy, "node1") == before + 1
    assert healthy.reaches(OUTSIDE)


def test_the_second_nic_alone_is_harmless(healthy):
    """With a loose rp_filter both ways work."""
    manager.break_(healthy.label, "second-nic")
    assert healthy.reaches("-I", "ens3", OUTSIDE)
    assert healthy.reaches(OUTSIDE)


def test_decoys_look_wrong_and_are_harmless(healthy):
    """Settings that are often blamed, none of which stops a packet here."""
    manager.break_(healthy.label, "decoys")
    assert healthy.reaches(OUTSIDE)
    assert healthy.reaches(OUTSIDE, machine="master")
    rules = healthy.run("host", "iptables-nft-save").stdout
    assert ":FORWARD DROP" in rules
    assert "-s 192.168.123.0/24 -i virbr1 -j ACCEPT" in rules
    assert healthy.run("host", "cat", "/proc/sys/net/ipv4/conf/all/rp_filter").stdout == "1\n"


def test_with_two_faults_curing_one_is_no_cure(healthy):
    """Faults add up, and each is taken out by itself."""
    manager.break_(healthy.label, "bridge-nf-forward-drop")
    manager.break_(healthy.label, "ip-forward-off")
    manager.mend(healthy.label, "bridge-nf-forward-drop")
    assert not healthy.reaches(OUTSIDE, wait="0.4")
    assert manager.mend(healthy.label) == ("ip-forward-off@master",)
    assert healthy.reaches(OUTSIDE)
