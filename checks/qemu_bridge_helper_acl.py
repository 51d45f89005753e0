"""A guest without privileges may not use the bridge it names.

Symptom: "access denied by acl file" when a guest of qemu:///session starts.
Cause: /etc/qemu/bridge.conf does not allow the bridge, or the helper is not setuid.
Harmless when: guests of qemu:///system do not use the helper.
Evidence: libvirt runs as a session, and a guest that does not run names a bridge.
Fix: "allow BRIDGE" in /etc/qemu/bridge.conf; chmod u+s on qemu-bridge-helper.
Sources: https://wiki.qemu.org/Features/HelperNetworking
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.DOMAINS})
def qemu_bridge_helper_acl(survey: Survey) -> Iterator[Suspicion]:
    """Each guest of a session that is off and names a bridge."""
    libvirt = survey.snapshot.libvirt
    if libvirt is None or not libvirt.uri.endswith("/session"):
        return
    for domain in survey.snapshot.domains or ():
        for nic in domain.nics:
            if nic.type == "bridge" and domain.state != "running":
                yield Suspicion(
                    subject=domain.name,
                    summary=f"{domain.name} of a session is to use {nic.source}, which "
                    "bridge.conf must allow",
                    evidence=(Evidence(f"connected to {libvirt.uri}", "libvirt"),),
                    proof=f"grep {nic.source} /etc/qemu/bridge.conf",
                )
