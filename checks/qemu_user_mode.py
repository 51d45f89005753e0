"""A guest is on QEMU's own network, where ping fails by design.

Symptom: the guest has 10.0.2.15; ping to the outside fails and TCP works; nobody can reach it.
Cause: <interface type='user'>, as in qemu:///session: slirp or passt translate inside a program.
Harmless when: it is meant so; never judge such a guest's Internet by ping.
Evidence: libvirt says that the NIC is of type user: there is no tap.
Fix: a port forward (hostfwd, portForward); or a NIC on a bridge or network.
Sources: https://www.qemu.org/docs/master/system/devices/net.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.DOMAINS})
def qemu_user_mode(survey: Survey) -> Iterator[Suspicion]:
    """Each running guest with a NIC of type user."""
    for domain in survey.snapshot.domains or ():
        if domain.state == "running" and any(nic.type == "user" for nic in domain.nics):
            yield Suspicion(
                subject=domain.name,
                summary=f"{domain.name} is on QEMU's own network: no ping, and no way in, by "
                f"design",
                evidence=(Evidence("<interface type='user'>", f"virsh dumpxml {domain.name}"),),
                by_design=True,
            )
