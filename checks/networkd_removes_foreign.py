"""A restart of systemd-networkd may have removed routes it had not made.

Symptom: routes or policy rules vanish when networkd is restarted or upgraded.
Cause: ManageForeignRoutes= and ManageForeignRoutingPolicyRules= are on by default: what it does
    not know it removes.
Harmless when: links that networkd does not manage; routes of the kernel itself.
Evidence: the host has no route for the packet, and systemd-networkd runs without the setting; who
    removed it cannot be read here.
Fix: both settings to no in /etc/systemd/networkd.conf.d, or the routes in .network files.
Sources: networkd.conf(5)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.programs import is_off, programs
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.INFO, needs={Facts.ROUTES, Facts.DAEMONS})
def networkd_removes_foreign(case: Case) -> Iterator[Suspicion]:
    """The host has no route, and a systemd-networkd runs that removes what it does not know."""
    stack = case.here
    if case.reason is not Reason.NO_ROUTE or stack is None or case.decider is not None:
        return
    if stack.name != case.snapshot.host:
        return
    for daemon in programs(case.snapshot, "systemd-networkd"):
        if daemon.running and not is_off(daemon, "ManageForeignRoutes"):
            yield Suspicion(
                subject=stack.name,
                summary=f"{stack.name} has no route to {case.end.packet.dst}; if there was one, "
                "systemd-networkd, which runs, may have removed it",
                evidence=(
                    Evidence(f"no route to {case.end.packet.dst}", f"ip route in {stack.name}"),
                    Evidence("ManageForeignRoutes is not off", "/etc/systemd/networkd.conf"),
                ),
                proof="networkctl status; journalctl -u systemd-networkd",
            )
            return
