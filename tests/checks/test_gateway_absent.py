"""A gateway that nobody is: named where all can be seen, and nothing said where it may be."""

import pytest

from .build import carry_out, found, judge, nat_host, pings

CHECK = "gateway-absent"


@pytest.fixture
def site(namespaces, eventually):
    """A NAT host whose guest vm1 routes by an address that no machine has."""
    site = nat_host(namespaces, eventually)
    site["vm1"].run("ip route replace default via 192.168.122.99")
    return site


@pytest.mark.kernel
@pytest.mark.fires(CHECK)
def test_the_wrong_gateway_is_replaced_by_the_machine_that_routes(site, eventually):
    """Both steps are in the plan: a second route of the same metric is refused by the kernel."""
    assert not pings(site["vm1"], "10.0.0.9")
    report = judge(site.read(), "vm1", "10.0.0.9")
    assert [f.check for f in report.findings if f.role == "cause"] == [CHECK]
    assert report.plan.works is True
    assert [step.command[step.command.index("ip route") :] for step in report.plan.steps] == [
        "ip route del default via 192.168.122.99 dev eth0",
        "ip route add default via 192.168.122.1 dev eth0",
    ]
    carry_out(report)
    eventually(lambda: pings(site["vm1"], "10.0.0.9"), "the plan does not cure")


@pytest.mark.kernel
@pytest.mark.silent(CHECK)
def test_nothing_is_said_where_the_gateway_may_be_beyond_a_port(site):
    """A port that leads out of what can be seen may lead to the gateway."""
    site["host"].run("ip link set eth0 master virbr0")
    assert found(judge(site.read(), "vm1", "10.0.0.9"), CHECK) == []


@pytest.mark.kernel
def test_a_router_that_lost_that_address_is_not_a_wrong_gateway(namespaces, eventually):
    """The route was right: the router's address is what is missing."""
    site = nat_host(namespaces, eventually)
    site["host"].run("ip addr del 192.168.122.1/24 dev virbr0")
    assert found(judge(site.read(), "vm1", "10.0.0.9"), CHECK) == []


@pytest.mark.kernel
def test_a_gateway_that_was_there_is_to_come_back(namespaces, eventually):
    """Its MAC address is remembered: the route was right, and no other gateway is proposed."""
    site = nat_host(namespaces, eventually)
    vm1, vm2 = site["vm1"], site["vm2"]
    vm2.run("ip addr add 192.168.122.99/24 dev eth0")
    vm1.run("ip route replace default via 192.168.122.99")
    assert pings(vm1, "192.168.122.99")
    vm2.run("ip addr del 192.168.122.99/24 dev eth0")
    report = judge(site.read(), "vm1", "10.0.0.9")
    (cause,) = (f for f in report.findings if f.role == "cause")
    assert (cause.check, cause.fix) == (CHECK, ())
    assert any("192.168.122.99 was at " in said.fact for said in cause.evidence)
