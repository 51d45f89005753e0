"""Another name server holds port 53 on all addresses, so libvirt's dnsmasq cannot start.

Symptom: net-start fails: "failed to create listening socket for 192.168.122.1: Address already in
    use".
Cause: the system's own dnsmasq, bind or unbound listens on 0.0.0.0:53 or [::]:53.
Harmless when: systemd-resolved on 127.0.0.53; libvirt's two dnsmasq processes for each network;
    many sockets on port 67.
Evidence: a network with an address is not active, and a socket of another program takes port 53
    of every address.
Fix: bind-interfaces and except-interface=virbr0 in the system's dnsmasq, then virsh net-start; or
    <dns enable='no'/>.
Sources: dnsmasq(8), https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.SOCKETS, Facts.NETWORKS})
def dnsmasq_port_conflict(survey: Survey) -> Iterator[Suspicion]:
    """A socket for port 53 of all addresses, while a network is not active."""
    host = survey.host
    down = [n for n in survey.snapshot.networks or () if not n.active and n.addresses and n.dns]
    if host is None or not down:
        return
    for socket in host.sockets or ():
        if socket.port == 53 and socket.address in ("0.0.0.0", "::"):  # noqa: S104
            names = ", ".join(p.name for p in socket.processes or ()) or "another program"
            yield Suspicion(
                subject=f"{host.name}/{socket.protocol}:53",
                summary=f"{names} holds port 53 of every address; network {down[0].name} cannot "
                "start its own",
                evidence=(
                    Evidence(f"{socket.protocol} {socket.address}:53", f"ss -lntup in {host.name}"),
                ),
            )
            return
