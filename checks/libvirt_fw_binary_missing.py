"""The program by which libvirt makes its rules is not installed.

Symptom: net-start fails: "Failed to apply firewall rules", "unknown option".
Cause: neither nft nor iptables, or not the one that network.conf names, or the kernel lacks the
    matches.
Harmless when: one of the two backends is enough.
Evidence: a network in use is not active, and the tables could not be read for want of a program.
Fix: install nftables or iptables, or set firewall_backend in /etc/libvirt/network.conf.
Sources: libvirt src/network/bridge_driver_conf.c
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.NETWORKS})
def libvirt_fw_binary_missing(survey: Survey) -> Iterator[Suspicion]:
    """A network that is off, on a host where a firewall program is missing."""
    off = [network.name for network in survey.snapshot.networks or () if not network.active]
    for gap in survey.snapshot.gaps:
        wanted = any(name in gap.why for name in ("nft", "iptables"))
        if off and gap.fact == "tables" and gap.stack == survey.snapshot.host and wanted:
            yield Suspicion(
                subject=off[0],
                summary=f"network {off[0]} is off, and a program for its rules is missing",
                evidence=(Evidence(gap.why, f"tables of {gap.stack}"),),
                proof=f"virsh net-start {off[0]} names the program",
            )
