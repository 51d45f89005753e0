"""A network's dnsmasq may have nobody to ask in its turn.

Symptom: DNS fails in guests and works on the host.
Cause: dnsmasq reads /etc/resolv.conf, which names a server that is gone, or one that a VPN
    reaches by its own link only.
Harmless when: names of the network itself are answered.
Evidence: no server that the host's resolv.conf names is reached from the host, or it names none;
    whether the network has a <forwarder> of its own cannot be read here.
Fix: <dns><forwarder addr='...'/></dns>.
Sources: https://libvirt.org/formatnetwork.html, dnsmasq(8) (--resolv-file)
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.programs import runs
from kvmdiag.diagnose.resolver import name_servers
from kvmdiag.diagnose.survey import Survey
from kvmdiag.errors import UsageError
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk


@survey_check(severity=Severity.WARNING, needs={Facts.NETWORKS, Facts.PERSISTENT})
def dns_upstream_unreachable(survey: Survey) -> Iterator[Suspicion]:
    """Each network whose dnsmasq gets all its servers from a resolv.conf of dead ones."""
    servers = name_servers(survey.snapshot)
    if servers is None:
        return
    why = [_obstacle(survey.snapshot, server) for server in servers]
    if None in why:
        return
    for network in survey.snapshot.networks or ():
        if network.active and network.dns and network.mode is not None:
            yield Suspicion(
                subject=network.name,
                summary=f"{network.name}'s dnsmasq has nobody to ask: "
                + ("the host's resolv.conf names no server" if not servers else "none is reached"),
                evidence=(
                    Evidence(f"nameserver {', '.join(servers) or 'none'}", "/etc/resolv.conf"),
                    *(Evidence(fact, "walk") for fact in dict.fromkeys(filter(None, why))),
                ),
                proof=f"virsh net-dumpxml {network.name}: no <forwarder>; dig at its address: "
                "SERVFAIL or no answer",
            )


def _obstacle(snapshot: Snapshot, server: str) -> str | None:
    """What keeps the host from a name server; ``None``: nothing that is known."""
    if ip_address(server).is_loopback:
        stub = server in ("127.0.0.53", "127.0.0.54")
        if stub and snapshot.daemons is not None and not runs(snapshot, "systemd-resolved"):
            return f"{server} is systemd-resolved's, which does not run"
        return None
    try:
        asked = resolve(snapshot, snapshot.host, server, proto="udp", port=53)
    except UsageError as error:
        return str(error)
    found = walk(snapshot, asked)
    if found.works is not False:
        return None
    end = found.decisive.end
    return f"{server}: {end.because or end.decision}"
