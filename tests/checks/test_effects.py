"""What a plan does besides is told before it is offered."""

import pytest

from kvmdiag.actions.rule import InsertRule
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.effects import side_effects
from kvmdiag.diagnose.intent import intended_paths
from kvmdiag.diagnose.state import State

from .build import judge, nat_host

pytestmark = pytest.mark.kernel


def test_a_wide_change_opens_more_than_was_asked(namespaces, eventually):
    """A policy of accept lets the outside in as well; a narrow rule does not."""
    site = nat_host(namespaces, eventually)
    site["host"].run("iptables -P FORWARD DROP")
    before = State(site.read())
    wide = InsertRule(stack="host", chain="FORWARD", rule="-j ACCEPT")
    intended = intended_paths(before.snapshot)
    told = side_effects(before, before.after((wide,)), (), intended)
    assert told == ("also lets the outside reach 192.168.122.0/24 (virbr0)",)
    plan = judge(before.snapshot, "vm1", "10.0.0.9").plan
    assert plan is not None
    assert plan.side_effects == ()


def test_a_change_that_breaks_a_path_says_so(namespaces, eventually):
    """Forwarding off cuts both guests from the outside."""
    site = nat_host(namespaces, eventually)
    before = State(site.read())
    off = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "0"),))
    told = side_effects(before, before.after((off,)), (), intended_paths(before.snapshot))
    assert told == ("breaks vm1 to 10.0.0.1", "breaks vm2 to 10.0.0.1")
