"""An ESXi switch around a nested host may drop its guests' frames.

Symptom: guests of a KVM host inside ESXi, bridged, get broadcasts and no answers.
Cause: the virtual switch rejects forged transmits, and gives the host only frames for its own MAC
    address.
Harmless when: the guests are behind NAT.
Evidence: a guest's frames leave by a NIC whose MAC address is VMware's, under another MAC
    address.
Fix: Forged transmits, and promiscuous mode or MAC learning, for that port group.
Sources:
    https://techdocs.broadcom.com/us/en/vmware-cis/vsphere/vsphere/8-0/vsphere-networking.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity

_VMWARE = ("00:0c:29", "00:50:56", "00:05:69")


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def vmware_promiscuous(survey: Survey) -> Iterator[Suspicion]:
    """Each NIC of VMware's that is a port of a bridge with guests."""
    host = survey.host
    for link in (host.links or ()) if host is not None else ():
        if host is None or not (link.mac or "").startswith(_VMWARE):
            continue
        if is_guest_bridge(host, link.master) and link.is_uplink:
            yield Suspicion(
                subject=place(host, link.name),
                summary=f"{link.name} is VMware's by its MAC address: its switch may drop what "
                f"guests on {link.master} send",
                evidence=(Evidence(f"{link.name} is {link.mac}", f"ip link in {host.name}"),),
                proof="kvmdiag trace from a guest: the request leaves, broadcasts come in, and "
                "answers never do",
            )
