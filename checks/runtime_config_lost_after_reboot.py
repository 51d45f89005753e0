"""Something that works now is not configured to be there after a reboot.

Symptom: all worked until the host was rebooted.
Cause: a network was created and not defined, or is not started by itself; bridges, addresses,
    rules and settings were made by hand.
Harmless when: what libvirt or another daemon makes anew at each start (its own bridges and
    rules).
Evidence: libvirt says that a network in use is transient, or that it is not started by itself.
Fix: virsh net-define and net-autostart; netplan, sysctl.d and the firewall's own files for the
    rest. Each step of a plan says where.
Sources: https://libvirt.org/manpages/virsh.html#net-autostart
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.NETWORKS, Facts.DOMAINS})
def runtime_config_lost_after_reboot(survey: Survey) -> Iterator[Suspicion]:
    """Each network in use that will not be there after a reboot."""
    snapshot = survey.snapshot
    used = {nic.source for domain in snapshot.domains or () for nic in domain.nics}
    for network in snapshot.networks or ():
        if not network.active or network.name not in used:
            continue
        if network.persistent is False or not network.autostart:
            how = "is transient" if network.persistent is False else "does not start by itself"
            yield Suspicion(
                subject=network.name,
                summary=f"network {network.name} {how}: after a reboot its guests have none",
                evidence=(Evidence(how, f"virsh net-info {network.name}"),),
            )
