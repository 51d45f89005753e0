"""A guest's XML names a bridge that does not exist.

Symptom: the guest does not start: "Cannot get interface MTU on 'mybr0': No such device".
Cause: the bridge was made by hand and is gone since the reboot, or its name is misspelt.
Harmless when: the guest is not to be started. A bridge of Open vSwitch is a link as well.
Evidence: no link of the host has the name that the XML's source gives.
Fix: make the bridge, for good: netplan, NetworkManager or a .netdev file.
Sources: libvirt src/util/virnetdevtap.c
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.DOMAINS})
def missing_bridge_start_fail(survey: Survey) -> Iterator[Suspicion]:
    """Each bridge named by a guest that no link is."""
    host = survey.host
    if host is None:
        return
    names = {link.name for link in host.links or ()}
    wanted: dict[str, list[str]] = {}
    for domain in survey.snapshot.domains or ():
        for nic in domain.nics:
            if nic.type == "bridge" and nic.source and nic.source not in names:
                wanted.setdefault(nic.source, []).append(domain.name)
    for bridge, users in wanted.items():
        yield Suspicion(
            subject=f"{host.name}/{bridge}",
            summary=f"{', '.join(users[:5])} are to be plugged into {bridge}, which does not exist",
            evidence=(Evidence(f"<source bridge='{bridge}'/>", f"virsh dumpxml {users[0]}"),),
        )
