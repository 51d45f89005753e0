"""The repair plan: every step is needed, and what cannot be cured is not called cured."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmdiag.actions.rule import InsertRule
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk

from .conftest import CHECKS

pytestmark = pytest.mark.kernel


def _sysctl(stack, name):
    return lambda snapshot: SetSysctl(stack=stack, values=((name, "0"),)).apply(snapshot)


def _no_default_route(stack):
    def apply(snapshot):
        old = snapshot.stack(stack)
        routes = tuple(r for r in old.routes if r.destination != "0.0.0.0/0")
        return snapshot.with_stack(msgspec.structs.replace(old, routes=routes))

    return apply


def _no_translation(stack):
    def apply(snapshot):
        old = snapshot.stack(stack)
        tables = tuple(
            msgspec.structs.replace(
                table,
                chains=tuple(
                    msgspec.structs.replace(
                        chain,
                        rules=tuple(
                            rule
                            for rule in chain.rules
                            if "MASQUERADE" not in rule.text and "SNAT" not in rule.text
                        ),
                    )
                    for chain in table.chains
                ),
            )
            for table in old.tables
        )
        return snapshot.with_stack(msgspec.structs.replace(old, tables=tables))

    return apply


def _orphan(link):
    def apply(snapshot):
        old = snapshot.stack("host")
        links = tuple(
            msgspec.structs.replace(each, master=None, port=None) if each.name == link else each
            for each in old.links
        )
        return snapshot.with_stack(msgspec.structs.replace(old, links=links))

    return apply


FAULTS = {
    "master does not forward": _sysctl("master", "net.ipv4.ip_forward"),
    "host does not forward": _sysctl("host", "net.ipv4.ip_forward"),
    "virbr0 does not forward": _sysctl("host", "net.ipv4.conf.virbr0.forwarding"),
    "node1 has no default route": _no_default_route("node1"),
    "master has no default route": _no_default_route("master"),
    "host does not translate": _no_translation("host"),
    "master does not translate": _no_translation("master"),
    "vnet0 is loose": _orphan("vnet0"),
    "vnet2 is loose": _orphan("vnet2"),
    "vnet3 is loose": _orphan("vnet3"),
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.sets(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3))
def test_any_faults_at_once_are_cured_and_no_step_is_superfluous(names, broken):
    """Up to three at random: the plan works, and fails without any one of its causes."""
    snapshot = broken()
    for name in sorted(names):
        snapshot = FAULTS[name](snapshot)
    report = diagnose(snapshot, CHECKS, resolve(snapshot, "node1", "10.0.0.9"))
    causes = [finding for finding in report.findings if finding.role == "cause"]
    if report.walk is not None and report.walk.works:
        assert causes == []
        return
    assert report.plan is not None
    assert report.plan.works is True
    assert all(finding.verified is True for finding in causes)
    assert len(report.plan.steps) <= len(names)


MAPPED = InsertRule(
    stack="master", table="nat", chain="POSTROUTING", rule="-o ens3 -j NETMAP --to 172.30.9.0/24"
)
"""What no check knows of: a whole network translated to one that nobody routes back."""


def test_what_no_check_knows_is_faulty_without_a_plan(broken, ask):
    """The walk still names what stopped the packet; nothing is made up to cure it."""
    report = ask(MAPPED.apply(broken()))
    assert (report.verdict, report.plan) == ("faulty", None)
    assert [f for f in report.findings if f.role == "cause"] == []


def test_a_plan_that_does_not_suffice_says_so(broken, ask):
    """A cause gets the packet further, something unknown stops it then: not verified."""
    report = ask(MAPPED.apply(broken("bridge-nf-forward-drop")))
    (cause,) = [f for f in report.findings if f.role == "cause"]
    assert (cause.check, cause.verified) == ("bridge-nf-forward-drop", False)
    assert report.plan is not None
    assert report.plan.works is False


def test_a_case_hides_stacks_whose_facts_are_missing(broken):
    """A check never sees half a stack."""
    snapshot = FAULTS["master does not forward"](broken())
    lost = walk(snapshot, resolve(snapshot, "node1", "10.0.0.9"))
    assert Case(snapshot, lost).here is snapshot.stack("master")
    hidden = Case(snapshot, lost, frozenset({"master"}))
    assert hidden.here is None
    assert "master" not in {stack.name for stack in hidden.stacks}


def test_a_step_that_breaks_another_path_is_not_taken_while_there_is_a_better_one(broken):
    """The first remedy would cut node1 off from master; the second harms nobody."""
    from kvmdiag.diagnose.check import Suspicion

    snapshot = FAULTS["master does not forward"](broken())
    on = SetSysctl(stack="master", values=(("net.ipv4.ip_forward", "1"),))
    cut = InsertRule(stack="master", chain="INPUT", rule="-s 192.168.48.20 -j DROP")
    (real,) = [check for check in CHECKS if check.id == "ip-forward-off"]

    def run(case):
        for said in real.run(case):
            yield Suspicion(
                subject=said.subject,
                summary=said.summary,
                evidence=said.evidence,
                remedies=((_Both(first=on, second=cut),), (on,)),
            )

    check = msgspec.structs.replace(real, run=run)
    report = diagnose(snapshot, (check,), resolve(snapshot, "node1", "10.0.0.9"))
    assert report.plan is not None
    assert [s.command.split()[-1] for s in report.plan.steps] == ["net.ipv4.ip_forward=1"]
    assert report.plan.works is True


class _Both:
    """An action that cures and harms at once."""

    disruptive = True
    stack = "master"

    def __init__(self, first, second):
        self.first, self.second = first, second

    def apply(self, snapshot):
        return self.second.apply(self.first.apply(snapshot))

    def command(self, snapshot):
        del snapshot
        return ("harm",)

    undo = command

    def persist(self, snapshot):
        del snapshot
        return ""
