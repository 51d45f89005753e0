"""A guest is to be plugged into Open vSwitch as if it were a Linux bridge.

Symptom: "Unable to add bridge ovs-br0 port vnet0: Operation not supported".
Cause: the interface's XML lacks <virtualport type='openvswitch'/>.
Harmless when: the bridge is a Linux bridge.
Evidence: the source is a link of Open vSwitch, and the NIC names no virtual port.
Fix: add the element (virsh edit).
Sources: https://docs.openvswitch.org/en/latest/howto/libvirt/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.DOMAINS})
def ovs_virtualport_missing(survey: Survey) -> Iterator[Suspicion]:
    """Each NIC on a switch of Open vSwitch without a virtual port."""
    host = survey.host
    for domain in survey.snapshot.domains or ():
        for nic in domain.nics:
            link = None if host is None else link_of(host, nic.source)
            if link is not None and link.kind == "openvswitch" and nic.virtualport is None:
                yield Suspicion(
                    subject=domain.name,
                    summary=f"{domain.name} is to use {nic.source} of Open vSwitch without "
                    "<virtualport type='openvswitch'/>",
                    evidence=(Evidence("no <virtualport>", f"virsh dumpxml {domain.name}"),),
                )
