"""The NIC to the LAN is a port of a bridge that libvirt makes and removes.

Symptom: virsh net-destroy, or a restart of the network, cuts the host off its LAN.
Cause: a physical NIC was enslaved to virbrN, whose life is that of libvirt's network.
Harmless when: libvirt's network only refers to a bridge that the host's own configuration makes
    (forward mode bridge).
Evidence: a port of a bridge of libvirt's with an <ip> of its own is an uplink.
Fix: a bridge in the host's own configuration (netplan, NetworkManager), and <forward
    mode='bridge'/> for libvirt.
Sources: https://libvirt.org/formatnetwork.html#using-an-existing-host-bridge
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import is_libvirt_bridge, network_on
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES})
def libvirt_bridge_owns_uplink(survey: Survey) -> Iterator[Suspicion]:
    """Each uplink in a bridge of libvirt's."""
    host = survey.host
    for link in (host.links or ()) if host is not None else ():
        bridge = link.master
        if host is None or bridge is None or not link.is_uplink:
            continue
        network = network_on(survey.snapshot, bridge)
        ours = is_libvirt_bridge(survey.snapshot, bridge)
        if not ours or (network is not None and not network.addresses):
            continue
        yield Suspicion(
            subject=place(host, link.name),
            summary=f"{link.name} is a port of libvirt's {bridge}: stopping that network cuts "
            "the host off",
            evidence=(link_fact(host, link),),
        )
