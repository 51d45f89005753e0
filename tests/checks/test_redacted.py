"""What a redacted snapshot is diagnosed to, is what the original is diagnosed to."""

import gzip

import pytest

from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab.networks import networks
from kvmdiag.model.codec import load, save
from kvmdiag.model.redact.snapshot import Redactor

pytestmark = pytest.mark.kernel

FAULTS = [(), *((fault.name,) for fault in networks()["cluster"].faults)]
PAIRS = [("bridge-nf-forward-drop", "ip-forward-off@master")]


@pytest.mark.parametrize("faults", [*FAULTS, *PAIRS], ids="+".join)
def test_the_same_faults_are_found_and_cured_alike(faults, broken):
    """Verdict, checks, roles, subjects, and each command of the plan with names replaced."""
    snapshot = broken(*faults)
    redactor = Redactor(snapshot)
    redacted = load(save(redactor.snapshot()))
    before, after = (diagnose(s, load_checks()) for s in (snapshot, redacted))
    assert after.verdict == before.verdict
    assert [(f.check, f.role, f.severity, f.verified) for f in after.findings] == [
        (f.check, f.role, f.severity, f.verified) for f in before.findings
    ]
    assert [p.walk.works for p in after.paths] == [p.walk.works for p in before.paths]
    assert [p.causes for p in after.paths] == [p.causes for p in before.paths]
    assert (after.plan is None) == (before.plan is None)
    if before.plan is not None and after.plan is not None:
        # One of the machines is called as the keyword of ip(8) is.
        master = f" {redactor.text('master')} "
        wanted = [redactor.text(s.command).replace(master, " master ") for s in before.plan.steps]
        assert [s.command.replace(master, " master ") for s in after.plan.steps] == wanted


def test_nothing_of_the_cluster_is_left(broken):
    """Neither its addresses nor its names, in the file as it would be posted."""
    text = gzip.decompress(save(Redactor(broken()).snapshot())).decode()
    secrets = ("192.168.48.", "192.168.122.", "10.0.0.", "68:f2:82", "68f2:82", "mybr0", "vnet2")
    assert [secret for secret in (*secrets, "node1", ':"master') if secret in text] == []
