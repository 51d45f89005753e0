"""Another name server holds port 53 on all addresses, so libvirt's dnsmasq cannot start.

Symptom: net-start fails: "failed to create listening socket for 192.168.122.1: Address already in
    use".
Cause: the system's own dnsmasq, bind or unbound listens on 0.0.0.0:53 or [::]:53.
Harmless when: systemd-resolved on 127.0.0.53; libvirt's two dnsmasq processes for each network;
    many sockets on port 67.
Evidence: a network with an address is not active, and a socket of another program takes port 53
    of every address.
Fix: by hand, since nobody here knows who needs that name server: bind-interfaces and
    except-interface=virbr0 in the system's dnsmasq, or an end to it; then virsh net-start, and plug
    running guests in again (ip link set dev TAP master BRIDGE). Or <dns enable='no'/>, for guests
    that ask another name server.
Sources: dnsmasq(8), https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.name_server import kept_from_starting
from kvmdiag.diagnose.nets import inactive_networks
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.libvirt import Network
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


def _said(host: Stack, network: Network) -> Iterator[Suspicion]:
    socket = kept_from_starting(network, host)
    if socket is None:
        return
    holders = socket.processes or ()
    names = ", ".join(process.name for process in holders) or "another program"
    who = ", ".join(f"process {process.pid}, {process.name}" for process in holders)
    yield Suspicion(
        subject=f"{host.name}/{socket.protocol}:{socket.port}",
        summary=f"{names} holds port {socket.port} of every address; network {network.name} cannot "
        "start its own name server",
        evidence=(
            Evidence(
                f"{socket.protocol} {socket.address}:{socket.port}" + (f" ({who})" if who else ""),
                f"ss -lntup in {host.name}",
            ),
            Evidence("inactive", f"virsh net-info {network.name}"),
        ),
    )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    for network in survey.snapshot.networks or ():
        if survey.host is not None:
            yield from _said(survey.host, network)


@check(severity=Severity.ERROR, needs={Facts.SOCKETS, Facts.NETWORKS}, survey=_survey)
def dnsmasq_port_conflict(case: Case) -> Iterator[Suspicion]:
    """A network that a guest of the path is cut off from, and that cannot be started."""
    host = case.stack(case.snapshot.host)
    for network, _ in inactive_networks(case):
        if host is not None:
            yield from _said(host, network)
