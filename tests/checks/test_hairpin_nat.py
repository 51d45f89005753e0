"""A guest that asks for the host's address and means itself."""

import pytest

from .build import carry_out, judge, nat_host, pings


@pytest.mark.kernel
@pytest.mark.fires("hairpin-nat")
def test_a_guest_that_is_sent_to_itself(namespaces, eventually):
    """Nobody takes a packet from his own address; from the host's he does."""
    site = nat_host(namespaces, eventually)
    vm1 = site["vm1"]
    site["host"].sysctl("net.bridge.bridge-nf-call-iptables", 0)
    site["host"].run(
        "iptables -t nat -A PREROUTING -d 10.0.0.10 -p icmp -j DNAT --to-destination 192.168.122.11"
    )
    assert not pings(vm1, "10.0.0.10")
    report = judge(site.read(), "vm1", "10.0.0.10")
    (cause,) = (f for f in report.findings if f.role == "cause")
    assert cause.check == "hairpin-nat"
    assert "comes back to 192.168.122.11 itself" in cause.summary
    carry_out(report)
    eventually(lambda: pings(vm1, "10.0.0.10"), "the plan does not cure")
