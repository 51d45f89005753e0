"""An isolated network has no way out, as libvirt means it.

Symptom: a guest on an isolated network reaches its neighbours and the host, and nothing else.
Cause: the network has no <forward>: DHCP names no router, and libvirt rejects what is to be
    forwarded.
Harmless when: it is meant so.
Evidence: the guest has no route, or its packet is rejected, and libvirt's network has no forward
    mode.
Fix: another network for the guest, or <forward mode='nat'/> in this one.
Sources: https://libvirt.org/formatnetwork.html#isolated-network-config
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, addresses_of
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import libvirt_network
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def isolated_no_gateway(case: Case) -> Iterator[Suspicion]:
    """A packet from a guest of an isolated network is lost on its way elsewhere."""
    first = case.walk.request.hops[0].packet
    source = case.stack(case.walk.question.source.stack or "")
    if source is None or case.reason not in (Reason.NO_ROUTE, Reason.NETFILTER):
        return
    for link in source.links or ():
        for address in addresses_of(source, link.name):
            network = libvirt_network(case.snapshot, address.ip)
            if network is None or network.mode is not None or first.dst in address.network:
                continue
            yield Suspicion(
                subject=network.name,
                summary=f"{source.name} is on the isolated network {network.name}, which has no "
                "way out by design",
                evidence=(Evidence("no <forward>", f"virsh net-dumpxml {network.name}"),),
                by_design=True,
            )
