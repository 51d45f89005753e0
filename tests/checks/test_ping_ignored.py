"""A machine that ignores pings is named; what does not ask by ping is not concerned."""

import pytest

from .build import carry_out, found, judge, nat_host, pings

CHECK = "ping-ignored"
TARGET = "192.168.122.12"


@pytest.mark.kernel
@pytest.mark.fires(CHECK)
@pytest.mark.silent(CHECK)
def test_the_machine_is_named_and_answers_again(namespaces, eventually):
    """For ping alone: TCP to the same machine is not kept from anything by it."""
    site = nat_host(namespaces, eventually)
    site["vm2"].run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    assert not pings(site["vm1"], TARGET)
    snapshot = site.read()
    by_tcp = found(judge(snapshot, "vm1", TARGET, "tcp", 80), CHECK)
    assert [finding.role for finding in by_tcp if finding.role == "cause"] == []
    report = judge(snapshot, "vm1", TARGET)
    causes = [(f.check, f.subject, f.verified) for f in report.findings if f.role == "cause"]
    assert causes == [(CHECK, "vm2", True)]
    assert len(report.plan.steps) == 1
    carry_out(report)
    eventually(lambda: pings(site["vm1"], TARGET), "the plan does not cure")
