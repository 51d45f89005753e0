"""Something that works now is not configured to be there after a reboot.

Symptom: all worked until the host was rebooted.
Cause: a network was created and not defined, or is not started by itself; bridges, rules and
    settings were made by hand.
Harmless when: what libvirt, Docker or another daemon makes anew at each start (its own bridges
    and rules); what no path needs; what a script or a unit of somebody's own brings back.
Evidence: libvirt says that a network in use is transient, or that it is not started by itself.
    Or no file that is read at boot has the bridge, the rules or the setting, and a path that
    works now fails on a copy of the facts without them.
Fix: virsh net-define and net-autostart; netplan, sysctl.d and the firewall's own files for the
    rest. Each step of a plan says where.
Sources: https://libvirt.org/manpages/virsh.html#net-autostart, sysctl.d(5), netplan(5),
    netfilter-persistent(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.reboot import lost_at_reboot
from kvmdiag.diagnose.survey import Survey, failure
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.NETWORKS, Facts.DOMAINS})
def runtime_config_lost_after_reboot(survey: Survey) -> Iterator[Suspicion]:
    """Each network in use, bridge, setting and set of rules that will not be there."""
    yield from _networks(survey)
    for lost in lost_at_reboot(survey.snapshot):
        broken = next(survey.broken_by(lost.after), None)
        if broken is not None:
            yield Suspicion(
                subject=lost.subject,
                summary=f"{lost.what}: after a reboot {failure(*broken)}, unless something "
                "brings it back",
                evidence=(Evidence("nothing about it there", lost.where),),
            )


def _networks(survey: Survey) -> Iterator[Suspicion]:
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
