"""Ports, translations and what is meant to be closed, on a NAT host as the kernel has it."""

import pytest

from .build import found, judge, nat_host

pytestmark = pytest.mark.kernel

_REPLIES = "iptables -A FORWARD -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_DNAT = "iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 8080 -j DNAT --to 192.168.122.11:80"


@pytest.mark.fires("dnat-blocked-by-libvirt-reject")
@pytest.mark.silent("dnat-blocked-by-libvirt-reject")
def test_a_port_forward_that_libvirt_rejects(namespaces, eventually):
    """Translated, then refused; a narrow rule in front cures. Without the reject: silent."""
    site = nat_host(namespaces, eventually)
    site["host"].run(_DNAT)
    site["vm1"].start("nc -lk -p 80")
    quiet = judge(site.read(), "10.0.0.9", "10.0.0.10", "tcp", 8080)
    assert found(quiet, "dnat-blocked-by-libvirt-reject") == []
    site["host"].run(
        "iptables -A FORWARD -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
    site["host"].run("iptables -A FORWARD -o virbr0 -j REJECT")
    report = judge(site.read(), "10.0.0.9", "10.0.0.10", "tcp", 8080)
    (cause,) = found(report, "dnat-blocked-by-libvirt-reject")
    assert (cause.role, cause.subject) == ("cause", "host/virbr0")
    assert (
        "-d 192.168.122.11/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT" in cause.fix[0].command
    )


@pytest.mark.fires("nat-inbound-by-design")
@pytest.mark.silent("nat-inbound-by-design")
def test_nobody_outside_gets_into_nat_by_design(namespaces, eventually):
    """Told as context, without a plan that would open the network."""
    site = nat_host(namespaces, eventually)
    site["host"].run(
        "iptables -A FORWARD -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    )
    site["host"].run("iptables -A FORWARD -o virbr0 -j REJECT")
    report = judge(site.read(), "10.0.0.9", "192.168.122.11")
    (told,) = found(report, "nat-inbound-by-design")
    assert (told.role, told.severity) == ("context", "info")
    assert report.plan is None
    assert found(judge(site.read(), "vm1", "10.0.0.9"), "nat-inbound-by-design") == []


@pytest.mark.fires("host-input-fw-blocks-dhcp-dns")
@pytest.mark.silent("host-input-fw-blocks-dhcp-dns")
@pytest.mark.parametrize("port", [53, 67])
def test_the_hosts_firewall_keeps_guests_from_dhcp_and_dns(port, namespaces, eventually):
    """A policy of DROP on INPUT, with and without an accept for the port."""
    site = nat_host(namespaces, eventually)
    site["host"].run("iptables -P INPUT DROP")
    report = judge(site.read(), "vm1", "192.168.122.1", "udp", port)
    (cause,) = found(report, "host-input-fw-blocks-dhcp-dns")
    assert cause.role == "cause"
    command = cause.fix[0].command
    assert f"-i virbr0 -p udp -m udp --dport {port} -j ACCEPT" in command
    site["host"].run(f"iptables -A INPUT -i virbr0 -p udp --dport {port} -j ACCEPT")
    again = judge(site.read(), "vm1", "192.168.122.1", "udp", port)
    assert found(again, "host-input-fw-blocks-dhcp-dns") == []


@pytest.mark.fires("nat-to-nat-blocked")
@pytest.mark.silent("nat-to-nat-blocked")
def test_two_nat_networks_do_not_meet_by_design(namespaces, eventually):
    """Libvirt's reject between two bridges with guests is context; the way out is not touched."""
    site = nat_host(namespaces, eventually)
    other = namespaces("other")
    site.machines["other"] = other
    site["host"].ip(
        "link add virbr1 type bridge", "addr add 192.168.123.1/24 dev virbr1", "link set virbr1 up"
    )
    site["host"].cable("vnet9", other, "eth0")
    site["host"].ip("link set vnet9 master virbr1 up")
    other.ip(
        "addr add 192.168.123.9/24 dev eth0",
        "link set eth0 up",
        "route add default via 192.168.123.1",
    )
    for command in (
        "-N LIBVIRT_FWI",
        "-A FORWARD -j LIBVIRT_FWI",
        "-A LIBVIRT_FWI -o virbr1 -j REJECT",
    ):
        site["host"].run(f"iptables {command}")
    eventually(lambda: "LOWERLAYERDOWN" not in other.run("ip link").stdout, "no carrier")
    report = judge(site.read(), "vm1", "192.168.123.9")
    (told,) = found(report, "nat-to-nat-blocked")
    assert (told.role, report.plan) == ("context", None)
    assert found(judge(site.read(), "vm1", "10.0.0.9"), "nat-to-nat-blocked") == []


@pytest.mark.fires("mtu-pmtu-blackhole")
@pytest.mark.silent("mtu-pmtu-blackhole")
def test_a_dropped_frag_needed_with_a_smaller_link(namespaces, eventually):
    """A smaller uplink alone is harmless; with its message dropped it is a black hole."""
    site = nat_host(namespaces, eventually)
    site["host"].ip("link set eth0 mtu 1300")
    assert found(judge(site.read(), "vm1", "10.0.0.9"), "mtu-pmtu-blackhole") == []
    site["host"].run("iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP")
    (told,) = found(judge(site.read(), "vm1", "10.0.0.9"), "mtu-pmtu-blackhole")
    assert told.severity == "warning"
    assert "clamp-mss-to-pmtu" in told.fix[0].command


@pytest.mark.fires("masquerade-too-wide")
@pytest.mark.silent("masquerade-too-wide")
def test_a_translation_that_is_too_wide(namespaces, eventually):
    """Harmless while br_netfilter is off; a warning when bridged frames are translated."""
    site = nat_host(namespaces, eventually)
    site["host"].run("iptables -t nat -F POSTROUTING")
    site["host"].run("iptables -t nat -A POSTROUTING -s 192.168.122.0/24 -j MASQUERADE")
    site["host"].sysctl("net.bridge.bridge-nf-call-iptables", 0)
    assert found(judge(site.read()), "masquerade-too-wide") == []
    site["host"].sysctl("net.bridge.bridge-nf-call-iptables", 1)
    (told,) = found(judge(site.read()), "masquerade-too-wide")
    assert "-s 192.168.122.0/24 -d 192.168.122.0/24 -j ACCEPT" in told.fix[0].command
