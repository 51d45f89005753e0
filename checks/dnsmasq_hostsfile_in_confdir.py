"""A list of hosts for dnsmasq lies where it is also read as configuration.

Symptom: dnsmasq does not start again: "bad option at line 1".
Cause: the dhcp-hostsfile is in /etc/dnsmasq.d, every file of which is configuration. With
    "dhcp-host=" in front of each line dnsmasq starts, and ignores the file as a list.
Harmless when: the file is elsewhere, with plain MAC,IP,... lines.
Evidence: nobody listens for DHCP or DNS where a packet for it arrives.
Fix: move the file out of /etc/dnsmasq.d, without a prefix on its lines.
Sources: dnsmasq(8) (--dhcp-hostsfile, --conf-dir)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    Reason,
)


@check(severity=Severity.WARNING, needs={Facts.SOCKETS})
def dnsmasq_hostsfile_in_confdir(case: Case) -> Iterator[Suspicion]:
    """Nobody listens on port 53 or 67."""
    stack, port = case.here, case.end.packet.dport
    if case.reason is not Reason.NO_LISTENER or stack is None or port not in (53, 67):
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"no name or DHCP server listens on {stack.name}; dnsmasq may refuse its files",
        evidence=(Evidence(f"nobody takes udp port {port}", f"ss -lnup in {stack.name}"),),
        proof="dnsmasq --test; grep -r dhcp-hostsfile /etc/dnsmasq.conf /etc/dnsmasq.d",
    )
