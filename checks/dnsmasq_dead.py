"""Nobody answers DHCP and DNS on an active network of libvirt's.

Symptom: existing leases work until they expire, then all fail.
Cause: libvirt's dnsmasq was killed (killall dnsmasq, a restart of another service); libvirt does
    not start it again by itself.
Harmless when: the network has neither DHCP nor DNS.
Evidence: the network is active with DHCP, and no socket of the host takes UDP port 67; nor port
    53 where libvirt answers DNS.
Fix: systemctl reload virtnetworkd (or libvirtd), which leaves the network and its guests alone; a
    guest that has given up asking is to ask again. Not net-destroy and net-start, which cut guests
    off.
Sources: libvirt src/network/bridge_driver.c (networkRefreshDaemons), virtnetworkd(8)
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from kvmdiag.actions.libvirt_reload import ReloadNetworkDaemon, can_reload
from kvmdiag.diagnose.case import Case, addresses_of
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.name_server import lacks_dhcp, lacks_dns
from kvmdiag.diagnose.nets import inside_of, network_on
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.libvirt import Network
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack

_SERVED = (53, 67)  # DNS and DHCP


def _reload(snapshot: Snapshot, host: Stack, network: Network) -> Iterator[Remedy]:
    if can_reload(snapshot, host):
        yield (ReloadNetworkDaemon(stack=host.name, network=network.name),)


def _said(snapshot: Snapshot, host: Stack, network: Network) -> Iterator[Suspicion]:
    if not lacks_dhcp(network, host):
        return
    ports, served = ("udp port 67", "DHCP")
    if lacks_dns(network, host):
        ports, served = (f"{ports} or port 53", f"{served} or DNS")
    yield Suspicion(
        subject=network.name,
        summary=f"network {network.name} is active and no program serves {served} "
        f"on {network.bridge}",
        evidence=(Evidence(f"no socket takes {ports}", f"ss -lntup in {host.name}"),),
        remedies=tuple(_reload(snapshot, host, network)),
    )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    """Each active network with DHCP on a host without a DHCP server."""
    for network in survey.snapshot.networks or ():
        if survey.host is not None:
            yield from _said(survey.snapshot, survey.host, network)


@check(severity=Severity.ERROR, needs={Facts.SOCKETS, Facts.NETWORKS}, survey=_survey)
def dnsmasq_dead(case: Case) -> Iterator[Suspicion]:
    """A guest without an address, and nobody to give it one; or a question that nobody answers."""
    host = case.stack(case.snapshot.host)
    asked = case.walk.question
    source = asked.source.stack
    for served in case.snapshot.networks or ():
        own = [str(ip_interface(address).ip) for address in served.addresses]
        if host is not None and asked.port in _SERVED and asked.destination.address in own:
            yield from _said(case.snapshot, host, served)
            return
    for stack, link in case.guest_cables():
        # Whether the guest's own sockets were read makes no difference.
        nic = inside_of(case.snapshot.stacks, link)
        network = network_on(case.snapshot, link.master)
        if nic is None or host is None or network is None or stack is not host:
            continue
        if nic[0].addresses is None:
            continue
        if nic[0].name == source and not addresses_of(nic[0], nic[1].name):
            yield from _said(case.snapshot, host, network)
