"""A network that guests use is defined and not started.

Symptom: a guest does not start: "network 'default' is not active"; or guests have no network
    after a reboot.
Cause: the network was stopped, is not started by itself, or failed to start; then its error says
    more.
Harmless when: no guest uses it. A bridge without carrier means that no guest runs, and not that
    the network is off.
Evidence: libvirt says inactive, and a guest's XML names the network.
Fix: virsh net-start NAME; virsh net-autostart NAME; guests that run are plugged in again by
    ip link set dev TAP master BRIDGE, or a restart of virtnetworkd (or libvirtd).
Sources: https://libvirt.org/manpages/virsh.html#net-start
"""

from collections.abc import Iterator

from kvmdiag.actions.libvirt_network import StartNetwork
from kvmdiag.actions.link import SetMaster
from kvmdiag.diagnose.case import Case, link_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.name_server import kept_from_starting
from kvmdiag.diagnose.nets import inactive_networks
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.libvirt import Network
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot


def _users(snapshot: Snapshot, network: Network) -> list[str]:
    return [
        domain.name
        for domain in snapshot.domains or ()
        if any(nic.source == network.name and nic.type == "network" for nic in domain.nics)
    ]


def _said(snapshot: Snapshot, network: Network, *more: Evidence, remedy: Remedy) -> Suspicion:
    users = ", ".join(_users(snapshot, network)[:5])
    return Suspicion(
        subject=network.name,
        summary=f"network {network.name} is not active; {users} would use it",
        evidence=(Evidence("inactive", f"virsh net-info {network.name}"), *more),
        remedies=(remedy,),
    )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    """Each inactive network that a guest names, unless it cannot start."""
    snapshot, host = survey.snapshot, survey.host
    for network in snapshot.networks or ():
        if host is not None and kept_from_starting(network, host):
            continue
        if not network.active and _users(snapshot, network):
            start = StartNetwork(stack=snapshot.host, network=network.name)
            yield _said(snapshot, network, remedy=(start,))


@check(severity=Severity.ERROR, needs={Facts.NETWORKS, Facts.DOMAINS}, survey=_survey)
def libvirt_net_inactive(case: Case) -> Iterator[Suspicion]:
    """Guests' cables that hang loose because their network is off, unless it cannot start."""
    host = case.stack(case.snapshot.host)
    for network, taps in inactive_networks(case):
        if host is None or network.bridge is None or kept_from_starting(network, host):
            continue
        plugged = (SetMaster(stack=host.name, link=tap.name, master=network.bridge) for tap in taps)
        start = StartNetwork(stack=host.name, network=network.name)
        cables = (link_fact(host, tap) for tap in taps)
        yield _said(case.snapshot, network, *cables, remedy=(start, *plugged))
