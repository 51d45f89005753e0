"""What is not understood is no fault, and what leads the packet around it proves none."""

import msgspec
import pytest

from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.check import Suspicion, load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.model.report import Evidence
from kvmdiag.simulate.endpoints import resolve

from ..checks.many import host_with  # noqa: TID252 - a helper of the neighbouring tests


def forward_rule(text):
    """A rule put first into FORWARD of the host."""
    return InsertRule(stack="host", table="filter", chain="FORWARD", rule=text)


def guess(_case):
    """What suspects the rules whenever a path does not work."""
    yield Suspicion(
        subject="host",
        summary="a rule drops it",
        evidence=(Evidence("a guess", "nowhere"),),
        remedies=((forward_rule("-j ACCEPT"),),),
    )


GUESS = msgspec.structs.replace(load_checks()[0], id="guess", run=guess, survey=None)


@pytest.mark.parametrize(
    ("rule", "verdict", "causes"),
    [
        ("-j ACCEPT", "healthy", []),
        ("-j DROP", "faulty", ["guess"]),
        ("-m mystery --deep 1 -j DROP", "unknown", []),
    ],
)
def test_a_remedy_proves_a_fault_only_where_the_packet_is_known_to_end(rule, verdict, causes):
    """Before a rule that nobody understands the same remedy lets it through, and says nothing."""
    snapshot = forward_rule(rule).apply(host_with(1))
    report = diagnose(snapshot, (GUESS,), resolve(snapshot, "vm0", "10.0.0.9"))
    assert report.verdict == verdict
    assert [finding.check for finding in report.findings] == causes
    assert (report.plan is not None) is bool(causes)
