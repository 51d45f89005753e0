"""A network that guests use is defined and not started.

Symptom: a guest does not start: "network 'default' is not active"; or guests have no network
    after a reboot.
Cause: the network was stopped, is not started by itself, or failed to start; then its error says
    more.
Harmless when: no guest uses it. A bridge without carrier means that no guest runs, and not that
    the network is off.
Evidence: libvirt says inactive, and a guest's XML names the network.
Fix: virsh net-start NAME; virsh net-autostart NAME.
Sources: https://libvirt.org/manpages/virsh.html#net-start
"""

from collections.abc import Iterator

from kvmdiag.actions.libvirt import StartNetwork
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.NETWORKS, Facts.DOMAINS})
def libvirt_net_inactive(survey: Survey) -> Iterator[Suspicion]:
    """Each inactive network that a guest names."""
    snapshot = survey.snapshot
    for network in snapshot.networks or ():
        users = [
            domain.name
            for domain in snapshot.domains or ()
            if any(nic.source == network.name and nic.type == "network" for nic in domain.nics)
        ]
        if network.active or not users:
            continue
        yield Suspicion(
            subject=network.name,
            summary=f"network {network.name} is not active; {', '.join(users[:5])} would use it",
            evidence=(Evidence("inactive", f"virsh net-info {network.name}"),),
            remedies=((StartNetwork(stack=snapshot.host, network=network.name),),),
        )
