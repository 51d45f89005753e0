"""Policy rules and routes that refuse a packet: named as such, and taken out exactly."""

import shlex
import subprocess

import pytest

from .build import carry_out, judge, nat_host, pings

CHECK = "policy-or-blackhole-route"
RULES = (
    "from 192.168.122.0/24 blackhole",
    "not from 10.0.0.0/24 iif virbr0 ipproto icmp prohibit",
    "to 10.0.0.9 fwmark 0x0/0xf0 dsfield 0 unreachable",
)


@pytest.mark.kernel
@pytest.mark.parametrize("rule", RULES)
def test_the_rule_is_deleted_and_its_neighbours_stay(rule, namespaces, eventually):
    """Another rule of the same priority is let alone, and undo puts this one back."""
    site = nat_host(namespaces, eventually)
    host = site["host"]
    host.run("ip rule add priority 900 from 203.0.113.7 blackhole")
    before = host.run("ip rule").stdout
    inverted = rule.startswith("not ")
    host.run(f"ip rule add {'not ' if inverted else ''}priority 900 {rule.removeprefix('not ')}")
    broken = host.run("ip rule").stdout
    assert not pings(site["vm1"], "10.0.0.9")
    report = judge(site.read(), "vm1", "10.0.0.9")
    (cause,) = [finding for finding in report.findings if finding.role == "cause"]
    assert (cause.check, cause.verified) == (CHECK, True)
    assert cause.summary.startswith("host has a rule that refuses 10.0.0.9")
    (step,) = report.plan.steps
    carry_out(report)
    assert host.run("ip rule").stdout == before
    eventually(lambda: pings(site["vm1"], "10.0.0.9"), "the plan does not cure")
    subprocess.run(shlex.split(step.undo), check=True, timeout=20)
    assert sorted(host.run("ip rule").stdout.split("\n")) == sorted(broken.split("\n"))


ROUTES_BY_OBJECT = {
    "blackhole": ("nexthop add id 3 blackhole", "route add 10.0.0.9/32 nhid 3"),
    "blackhole with a metric": (
        "nexthop add id 3 blackhole",
        "route add 10.0.0.9/32 nhid 3 metric 7",
    ),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", ROUTES_BY_OBJECT)
def test_a_route_by_a_nexthop_object_is_deleted_and_put_back(name, namespaces, eventually):
    """The kernel finds such a route by the object's number, not by what the object says."""
    site = nat_host(namespaces, eventually)
    site["host"].ip(*ROUTES_BY_OBJECT[name])
    broken = site["host"].run("ip route").stdout
    report = judge(site.read(), "vm1", "10.0.0.9")
    (step,) = report.plan.steps
    carry_out(report)
    eventually(lambda: pings(site["vm1"], "10.0.0.9"), "the plan does not cure")
    subprocess.run(shlex.split(step.undo), check=True, timeout=20)
    assert site["host"].run("ip route").stdout == broken
