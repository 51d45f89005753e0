"""Carrying out a plan: in order, without a shell, and back again in reverse order."""

from __future__ import annotations

import pytest

from kvmdiag.commands.repair import Ran, Repair, StepFailed, refuse_unfit
from kvmdiag.errors import UsageError
from kvmdiag.model.report import Plan, Step
from kvmdiag.model.trace import Outcome


def plan(*commands: tuple[str, str], where: str = "host") -> Plan:
    """A plan of (command, undo) pairs."""
    return Plan(
        steps=tuple(
            Step(check="c", where=where, command=command, undo=undo, persist="")
            for command, undo in commands
        ),
        outcome_after=Outcome.LEFT,
        works=True,
    )


class Machine:
    """Notes what is run; what is in ``broken`` fails."""

    def __init__(self, *broken: str) -> None:
        self.ran: list[list[str]] = []
        self.broken = broken
        self.told: list[str] = []
        self.repair = Repair(runner=self.run, tell=self.told.append)

    def run(self, argv: list[str]) -> Ran:
        """Run, in a manner of speaking."""
        self.ran.append(argv)
        return Ran(1, "no\nway\x1b") if argv[0] in self.broken else Ran(0, "")


def test_steps_run_in_order_as_they_were_shown() -> None:
    """Split as a shell would, and never given to one."""
    machine = Machine()
    machine.repair.carry_out(plan(("one 'a b' ; $(x)", "u1"), ("two", "u2")))
    assert machine.ran == [["one", "a b", ";", "$(x)"], ["two"]]


def test_roll_back_is_in_reverse_order() -> None:
    """The last change goes first."""
    machine = Machine()
    machine.repair.carry_out(plan(("one", "u1"), ("two", "u2")))
    assert machine.repair.roll_back() == ()
    assert machine.ran[2:] == [["u2"], ["u1"]]


def test_failing_step_leaves_only_what_was_done_to_be_undone() -> None:
    """The step that failed did nothing; those before it are undone."""
    machine = Machine("two")
    with pytest.raises(StepFailed, match=r"two failed with exit code 1: no way\\x1b"):
        machine.repair.carry_out(plan(("one", "u1"), ("two", "u2"), ("three", "u3")))
    machine.repair.roll_back()
    assert machine.ran == [["one"], ["two"], ["u1"]]


def test_a_step_that_failed_says_how_to_undo_what_it_did_in_part() -> None:
    """Several settings in one command: the first may be written when the second is refused."""
    machine = Machine("two")
    with pytest.raises(StepFailed, match="if that was done in part, this undoes it: u2"):
        machine.repair.carry_out(plan(("two", "u2")))


def test_nobody_listening_does_not_stop_the_roll_back() -> None:
    """A terminal that is gone, as after a lost connection: all steps are still undone."""
    machine = Machine()
    machine.repair.carry_out(plan(("one", "u1"), ("two", "u2")))

    def gone(_: str) -> None:
        raise OSError(5, "Input/output error")

    machine.repair.tell = gone
    assert machine.repair.roll_back() == ()
    assert machine.ran[2:] == [["u2"], ["u1"]]


def test_what_cannot_be_undone_is_named_and_the_rest_goes_on() -> None:
    """One stubborn step does not keep the others."""
    machine = Machine("u2")
    steps = plan(("one", "u1"), ("two", "u2"))
    machine.repair.carry_out(steps)
    assert machine.repair.roll_back() == (steps.steps[1],)
    assert machine.ran[-1] == ["u1"]


def test_steps_inside_a_guest_are_refused_before_anything_is_done() -> None:
    """Its owner alone can enter it; the message says what to type there."""
    with pytest.raises(UsageError, match=r"inside web.*ip route add"):
        refuse_unfit(plan(("ip route add", "u"), where="inside web"), None)


@pytest.mark.parametrize(
    ("command", "undo", "fits"),
    [
        ("ip netns exec net-host iptables -F", "ip netns exec net-host true", True),
        ("ip netns exec other iptables -F", "ip netns exec net-host true", False),
        ("ip netns exec net-host iptables -F", "iptables -F", False),
        ("iptables -F", "true", False),
        ("ip netns exec net-host", "ip netns exec net-host true", False),
    ],
)
def test_practice_repairs_stay_in_the_practice_network(command: str, undo: str, fits: bool) -> None:
    """Neither a step nor its undo may touch the machine itself."""
    if fits:
        refuse_unfit(plan((command, undo)), {"net-host"})
    else:
        with pytest.raises(UsageError, match="practice net"):
            refuse_unfit(plan((command, undo)), {"net-host"})
