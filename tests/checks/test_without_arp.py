"""Links whose ARP is off: they neither answer nor ask, and the kernel agrees."""

import pytest

from .build import carry_out, judge, nat_host, pings

TARGET = "192.168.122.12"


@pytest.mark.kernel
@pytest.mark.parametrize("machine", ["vm1", "vm2"])
def test_the_link_without_arp_is_named_and_the_plan_cures(machine, namespaces, eventually):
    """The one that asks (vm1) as well as the one that is asked (vm2)."""
    site = nat_host(namespaces, eventually)
    site[machine].run("ip link set eth0 arp off")
    site["vm1"].run("ip neigh flush all")
    assert not pings(site["vm1"], TARGET)
    report = judge(site.read(), "vm1", TARGET)
    causes = [(f.check, f.subject, f.verified) for f in report.findings if f.role == "cause"]
    assert causes == [("arp-policy-blocks", f"{machine}/eth0", True)]
    carry_out(report)
    eventually(lambda: pings(site["vm1"], TARGET), "the plan does not cure")


@pytest.mark.kernel
def test_fixed_entries_on_both_sides_need_no_arp(namespaces, eventually):
    """Nobody asks, so nobody has to answer; to others vm1 is still cut off, which is latent."""
    site = nat_host(namespaces, eventually)
    own = {"vm1": "192.168.122.11", "vm2": TARGET}
    for machine, other in (("vm1", "vm2"), ("vm2", "vm1")):
        mac = site[other].run("cat /sys/class/net/eth0/address").stdout.strip()
        site[machine].run("ip link set eth0 arp off")
        site[machine].run(f"ip neigh replace {own[other]} lladdr {mac} dev eth0 nud permanent")
    eventually(lambda: pings(site["vm1"], TARGET), "fixed entries do not do")
    report = judge(site.read(), "vm1", TARGET)
    assert [finding for finding in report.findings if finding.role == "cause"] == []
