"""States of a snapshot: the same changes are simulated once."""

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.state import State

from ..checks.many import host_with  # noqa: TID252 - a helper of the neighbouring tests

OFF = SetSysctl(stack="host", values=(("net.ipv4.ip_forward", "0"),))
STRICT = SetSysctl(stack="host", values=(("net.ipv4.conf.all.rp_filter", "1"),))


def test_no_change_is_no_other_state():
    """Nothing is walked again for it."""
    state = State(host_with(1))
    assert state.after(()) is state


def test_the_same_changes_lead_to_the_same_state_one_by_one_or_at_once():
    """Whoever asks for it next has its walks already."""
    state = State(host_with(1))
    both = state.after((OFF, STRICT))
    assert state.after((OFF,)).after((STRICT,)) is both
    assert state.after((STRICT, OFF)) is not both
    assert both.snapshot.stack("host").sysctls["net.ipv4.ip_forward"] == "0"
    assert state.snapshot.stack("host").sysctls["net.ipv4.ip_forward"] == "1"


def test_states_that_were_not_asked_for_in_a_while_are_forgotten():
    """A search tries hundreds, and each keeps its indexes."""
    state = State(host_with(1))
    first = state.after((OFF,))
    for number in range(100):
        other = SetSysctl(stack="host", values=(("net.ipv4.tcp_fin_timeout", str(number)),))
        state.after((other,))
    assert state.after((OFF,)) is not first
