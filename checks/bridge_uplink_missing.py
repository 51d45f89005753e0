"""A bridge that should lead to the LAN has no NIC among its ports.

Symptom: bridged guests reach each other and maybe the host, and nobody on the LAN.
Cause: the NIC was not enslaved: it was late or renamed at boot, or NetworkManager took it.
Harmless when: the bridge is libvirt's, or is meant to be isolated or translated: such have no
    uplink.
Evidence: the next hop is in the bridge's network and nobody answers; no port of the bridge is an
    uplink, and a NIC without master and without address is free.
Fix: ip link set NIC master BRIDGE; netplan or NetworkManager must do so at boot.
Sources: ip-link(8), netplan(5) (bridges: interfaces:)
"""

from collections.abc import Iterator

from kvmdiag.actions.link import SetMaster
from kvmdiag.diagnose.case import Case, addresses_of, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import is_libvirt_bridge, leads_to_guest, ports_of
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def bridge_uplink_missing(case: Case) -> Iterator[Suspicion]:
    """Nobody answers on a segment whose bridge has no uplink, and there is a free NIC."""
    if case.reason not in (Reason.UNRESOLVED, Reason.NO_PORT):
        return
    host = case.stack(case.snapshot.host)
    if host is None:
        return
    free = [
        link
        for link in host.links or ()
        if link.is_uplink and link.master is None and not addresses_of(host, link.name)
    ]
    for bridge in host.links or ():
        ports = ports_of(host, bridge.name)
        guests = any(leads_to_guest(port) for port in ports)
        if bridge.kind != "bridge" or not guests or any(port.is_uplink for port in ports):
            continue
        if not case.is_lost_on(host, bridge.name) or is_libvirt_bridge(case.snapshot, bridge.name):
            continue
        if free:
            yield Suspicion(
                subject=place(host, bridge.name),
                summary=f"no port of {bridge.name} leads to the LAN; {free[0].name} is free",
                evidence=(
                    Evidence(
                        f"ports of {bridge.name}: {', '.join(port.name for port in ports)}",
                        f"bridge link in {host.name}",
                    ),
                    *(link_fact(host, link) for link in free),
                ),
                remedies=tuple(
                    (SetMaster(stack=host.name, link=link.name, master=bridge.name),)
                    for link in free
                ),
            )
