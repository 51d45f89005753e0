"""The nested cluster with real guests: the packet is followed through a router that is one."""

from __future__ import annotations

import pytest

OUTSIDE = "10.0.0.9"


def test_through_two_translations(cluster):
    """node1 is answered from outside, and each machine on the way is seen."""
    assert cluster.reaches("node1", OUTSIDE)
    report = cluster.check("node1", OUTSIDE)
    assert report.verdict == "healthy"
    assert [hop.stack for hop in report.walk.request.hops if hop.stage == "route"] == [
        "master",
        "host",
    ]
    assert str(report.walk.request.end.packet.src) == "10.0.0.10"


def test_the_routers_rules_are_read(cluster):
    """SNAT and the match on the type of an address, as iptables inside wrote them."""
    (nat,) = cluster.snapshot().stack("master").tables
    rules = [rule.text for chain in nat.chains for rule in chain.rules]
    assert any("192.168.122.236" in rule for rule in rules)
    assert len(rules) == 2


def test_what_dhcp_and_dns_of_the_router_gave_is_read(cluster):
    """Address, gateway and search domain of node1."""
    snapshot = cluster.snapshot()
    assert "192.168.48.20" in {a.address for a in snapshot.stack("node1").addresses}
    (node1,) = [inside for inside in snapshot.guests if inside.domain == "node1"]
    assert node1.resolver.search == ("test.cluster",)


@pytest.mark.parametrize(
    ("guest", "broken", "mended", "check"),
    [
        (
            "master",
            "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv4.ip_forward=1",
            "ip-forward-off",
        ),
        (
            "node1",
            "ip route del default",
            "ip route add default via 192.168.48.10",
            "guest-no-default-route",
        ),
        (
            "master",
            "ip route del default",
            "ip route add default via 192.168.122.1",
            "guest-no-default-route",
        ),
    ],
)
def test_faults_inside_are_found_through_the_agent(cluster, guest, broken, mended, check):
    """The path is really broken, the one cause is named, and after mending it works again."""
    tools = {"sysctl": "/bin/sysctl", "ip": "/usr/sbin/ip"}

    def carry_out(command):
        program, *arguments = command.split()
        assert cluster.inside(guest, tools[program], *arguments) == 0

    carry_out(broken)
    try:
        assert not cluster.reaches("node1", OUTSIDE)
        assert cluster.causes("node1", OUTSIDE) == [check]
    finally:
        carry_out(mended)
    assert cluster.reaches("node1", OUTSIDE)
    assert cluster.check("node1", OUTSIDE).verdict == "healthy"


def test_without_looking_inside_nothing_is_claimed(cluster):
    """Which gateway an unseen guest has is not known here: neither healthy nor a fault."""
    cluster.reaches("node1", "192.168.48.1")  # so that the host knows node1's address
    report = cluster.check("node1", OUTSIDE, guest_access="none")
    assert report.verdict == "unknown"
    assert [found for found in report.findings if found.role == "cause"] == []
    assert any("could not be looked into" in said for said in report.walk.request.assumptions)
