"""Each check on the practice cluster, as the kernel shows it: where it fires and what it proves."""

import msgspec
import pytest

from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab.networks import networks

pytestmark = pytest.mark.kernel

FAULTS = [fault for fault in networks()["cluster"].faults if fault.check is not None]

SUBJECTS = {
    "bridge-nf-forward-drop": "host/mybr0",
    "ip-forward-off@master": "master",
    "ip-forward-off@host": "host",
    "per-iface-forwarding-off@host": "host/virbr0",
    "per-iface-forwarding-off@master": "master/ens6",
    "masquerade-missing@host": "host/eno1",
    "masquerade-missing@master": "master/ens3",
    "guest-no-default-route@node1": "node1",
    "guest-no-default-route@master": "master",
    "guest-rp-filter-multihomed": "node1/ens3",
    "net-restart-orphan-taps": "host/vnet0",
    "tap-admin-down": "host/vnet3",
}


@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=f.name, marks=pytest.mark.fires(f.check)) for f in FAULTS]
)
def test_the_fault_is_the_only_cause_and_its_fix_is_proved(fault, broken, ask):
    """One finding, at the right place, whose one step makes request and reply arrive."""
    source = "node1:ens3" if fault.name == "guest-rp-filter-multihomed" else "node1"
    report = ask(broken(fault.name), source)
    found = [(f.check, f.role, f.subject, f.verified) for f in report.findings]
    assert found == [(fault.check, "cause", SUBJECTS[fault.name], True)]
    assert report.verdict == "faulty"
    assert report.plan is not None
    assert report.plan.works is True
    assert len(report.plan.steps) == 1
    assert report.findings[0].evidence


def test_the_healthy_cluster_is_healthy(broken, ask):
    """No finding at all, on the asked path and on every other that should work."""
    report = ask(broken())
    assert (report.verdict, report.findings, report.skipped) == ("healthy", (), ())
    assert report.plan is None


@pytest.mark.parametrize("harmless", ["decoys", "second-nic"])
def test_what_only_looks_bad_is_not_reported(harmless, broken, ask):
    """Strict rp_filter, bridge-nf with accepting rules, DROP behind them, an empty bridge."""
    report = ask(broken(harmless))
    assert (report.verdict, report.findings) == ("healthy", ())


def test_a_second_nic_is_no_cause_for_what_does_not_use_it(broken, ask):
    """Strict rp_filter in node1 stops what is bound to ens3 only: told, and of no harm here."""
    report = ask(broken("guest-rp-filter-multihomed"), "node1")
    assert report.walk is not None
    assert report.walk.works is True
    assert [(f.check, f.role) for f in report.findings] == [
        ("guest-rp-filter-multihomed", "latent")
    ]


def test_a_second_nic_with_a_default_route_of_its_own_is_meant_to_lead_out(broken):
    """Nobody has to know that `ping -I ens3` is what fails."""
    report = diagnose(broken("guest-rp-filter-multihomed"), load_checks(), None)
    assert [(f.check, f.role) for f in report.findings] == [("guest-rp-filter-multihomed", "cause")]
    assert diagnose(broken("second-nic"), load_checks(), None).findings == ()


@pytest.mark.parametrize(
    ("faults", "subjects"),
    [
        (("bridge-nf-forward-drop", "ip-forward-off@master"), ["host/mybr0", "master"]),
        (("ip-forward-off@host", "ip-forward-off@master"), ["master", "host"]),
        (("masquerade-missing@host", "tap-admin-down"), ["host/vnet3", "host/eno1"]),
        (("masquerade-missing@host", "masquerade-missing@master"), ["master/ens3", "host/eno1"]),
        (("guest-no-default-route@node1", "ip-forward-off@master"), ["node1", "master"]),
        (
            ("guest-no-default-route@node1", "bridge-nf-forward-drop", "masquerade-missing@master"),
            ["node1", "host/mybr0", "master/ens3"],
        ),
        (("tap-admin-down", "net-restart-orphan-taps"), ["host/vnet3", "host/vnet0"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_compound_faults_are_all_in_the_plan_in_path_order(faults, subjects, broken, ask):
    """Each is a cause, none is called a cure alone, and no step is superfluous."""
    report = ask(broken(*faults))
    assert [f.subject for f in report.findings] == subjects
    assert all(f.verified and f.role == "cause" for f in report.findings)
    assert report.plan is not None
    assert report.plan.works is True
    assert len(report.plan.steps) == len(faults)


def test_curing_one_of_two_faults_is_not_called_a_cure(broken, ask):
    """With one of the two fixes simulated, the report still says faulty and names the other."""
    from kvmdiag.actions.sysctl import SetSysctl

    snapshot = broken("bridge-nf-forward-drop", "ip-forward-off@master")
    half = SetSysctl(stack="master", values=(("net.ipv4.ip_forward", "1"),)).apply(snapshot)
    report = ask(half)
    assert [f.check for f in report.findings] == ["bridge-nf-forward-drop"]
    assert report.verdict == "faulty"


def test_a_fault_off_the_asked_path_is_latent(broken, ask):
    """Master reaches the outside without mybr0; the fault there is told, and counts."""
    report = ask(broken("bridge-nf-forward-drop"), "master")
    assert [(f.check, f.role) for f in report.findings] == [("bridge-nf-forward-drop", "latent")]
    assert report.walk is not None
    assert report.walk.works is True
    assert report.plan is None
    assert report.verdict == "faulty"


def test_without_a_question_every_intended_path_is_judged(broken):
    """The cause is found without being asked about a path, and each path says what ails it."""
    from kvmdiag.diagnose.check import load_checks
    from kvmdiag.diagnose.engine import diagnose

    report = diagnose(broken("tap-admin-down"), load_checks())
    assert [(f.check, f.role, f.verified) for f in report.findings] == [
        ("tap-admin-down", "cause", True)
    ]
    assert (report.question, report.walk) == (None, None)
    failing = {p.causes for p in report.paths if not p.walk.works}
    assert failing == {("tap-admin-down",)}


def test_unread_rules_make_the_check_skipped_and_never_passed(broken, ask, patched):
    """Without the host's tables nothing can be said, and the report says what was missing."""
    snapshot = patched(broken("bridge-nf-forward-drop"), "host", tables=None)
    report = ask(snapshot)
    assert report.verdict == "unknown"
    skipped = {skipped.check: skipped.needs for skipped in report.skipped}
    assert skipped["bridge-nf-forward-drop"] == "tables of host"
    assert "ip-forward-off" not in skipped


def test_a_gateway_that_answers_no_ping_is_no_fault(broken, ask):
    """Master's own rules drop pings to it; what it forwards is not touched by that."""
    refusing = InsertRule(stack="master", chain="INPUT", rule="-p icmp --icmp-type 8 -j DROP")
    report = ask(refusing.apply(broken()))
    assert (report.verdict, report.findings) == ("healthy", ())


def test_a_machine_that_is_asked_and_answers_no_ping_is_told_so(broken, ask):
    """Asked for itself, the same rule is the cause."""
    refusing = InsertRule(stack="master", chain="INPUT", rule="-p icmp --icmp-type 8 -j DROP")
    report = ask(refusing.apply(broken()), destination="192.168.48.10")
    assert [(f.check, f.role) for f in report.findings] == [("guest-firewall", "cause")]


def test_a_link_that_is_down_comes_before_the_routes_it_took_with_it(broken, ask, patched):
    """With its only link down, a machine does not lack a default route in the first place."""
    node1 = broken().stack("node1")
    down = tuple(
        msgspec.structs.replace(link, up=False, carrier=False) if link.name == "ens6" else link
        for link in node1.links
    )
    gone = tuple(route for route in node1.routes if route.version == 6)
    report = ask(patched(broken(), "node1", links=down, routes=gone))
    causes = [(f.check, f.subject, f.verified) for f in report.findings]
    assert causes == [
        ("link-admin-down", "node1/ens6", True),
        ("guest-no-default-route", "node1", True),
    ]
    assert report.plan is not None
    assert [step.command.split()[-1] for step in report.plan.steps] == ["up", "ens6"]
