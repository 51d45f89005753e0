"""The nested cluster with real guests: the packet is followed through a router that is one."""

from __future__ import annotations

from kvmdiag.lab import manager

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


def test_a_second_nic_alone_does_no_harm(cluster):
    """Both NICs of node1 are up, and replies by either are taken."""
    manager.break_(cluster.label, "second-nic")
    assert cluster.reaches("node1", OUTSIDE)
    assert cluster.reaches("node1", OUTSIDE, "-I", "ens3")
    for source in ("node1", "node1:ens3"):
        assert cluster.check(source, OUTSIDE).verdict == "healthy"


def test_names_without_a_dot(cluster):
    """Without a search domain they are not found; the path to an address is as good as before."""
    assert cluster.inside("node1", "/bin/nslookup", "master.test.cluster") == 0
    manager.break_(cluster.label, "dns-single-label-resolved")
    assert cluster.inside("node1", "/bin/nslookup", "master") != 0
    report = cluster.check("node1", OUTSIDE)
    assert report.verdict == "healthy"
    assert "dns-single-label-resolved" in {found.check for found in report.findings}


def test_without_looking_inside_nothing_is_claimed(cluster):
    """Which gateway an unseen guest has is not known here: neither healthy nor a fault."""
    cluster.reaches("node1", "192.168.48.1")  # so that the host knows node1's address
    report = cluster.check("node1", OUTSIDE, guest_access="none")
    assert report.verdict == "unknown"
    assert [found for found in report.findings if found.role == "cause"] == []
    assert any("could not be looked into" in said for said in report.walk.request.assumptions)
