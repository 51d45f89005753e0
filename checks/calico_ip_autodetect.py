"""Calico's overlay speaks with the address of a bridge for guests.

Symptom: pods on different nodes do not reach each other.
Cause: Calico chose the first address it found, that of virbr0 or docker0, for the node.
Harmless when: recent versions leave such bridges out.
Evidence: the local address of the overlay's link is on a bridge with guests, not on an uplink.
Fix: IP_AUTODETECTION_METHOD=interface=NIC (or kubernetes-internal-ip) for calico-node.
Sources: https://docs.tigera.io/calico/latest/networking/ipam/ip-autodetection
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def calico_ip_autodetect(survey: Survey) -> Iterator[Suspicion]:
    """Each overlay whose local end is on a bridge."""
    for stack in survey.stacks:
        for link in stack.links or ():
            local = None if link.vxlan is None else link.vxlan.local
            for address in stack.addresses or ():
                holder = link_of(stack, address.link)
                if holder is None or address.address != local or holder.kind != "bridge":
                    continue
                if not any(port.is_uplink for port in ports_of(stack, holder.name)):
                    yield Suspicion(
                        subject=place(stack, link.name),
                        summary=f"{link.name} speaks as {local}, the address of {holder.name}, "
                        "which leads to no other node",
                        evidence=(Evidence(f"local {local}", f"ip -d link show {link.name}"),),
                    )
