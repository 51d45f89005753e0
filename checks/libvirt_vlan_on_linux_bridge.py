"""A guest's XML asks for a VLAN where libvirt may not be able to give it.

Symptom: <vlan><tag> is refused, or has no effect.
Cause: libvirt before version 11 sets VLANs on Open vSwitch and SR-IOV only, not on a Linux
    bridge.
Harmless when: libvirt 11 or later, with VLAN filtering on the bridge.
Evidence: a NIC on a plain bridge has tags, and libvirt is older.
Fix: a bridge for each VLAN, or bridge vlan from a hook.
Sources: https://libvirt.org/formatdomain.html#setting-vlan-tag-on-supported-network-types-only
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.DOMAINS})
def libvirt_vlan_on_linux_bridge(survey: Survey) -> Iterator[Suspicion]:
    """Each NIC with tags on a plain bridge, under an old libvirt."""
    libvirt = survey.snapshot.libvirt
    major = libvirt.version.partition(".")[0] if libvirt is not None else ""
    if not major.isdigit() or int(major) >= 11 or libvirt is None:
        return
    for domain in survey.snapshot.domains or ():
        for nic in domain.nics:
            if nic.vlans and nic.type in ("bridge", "network") and nic.virtualport is None:
                yield Suspicion(
                    subject=domain.name,
                    summary=f"libvirt {libvirt.version} does not set VLAN {nic.vlans[0]} of "
                    f"{domain.name} on a Linux bridge",
                    evidence=(Evidence(f"<vlan> {nic.vlans}", f"virsh dumpxml {domain.name}"),),
                )
