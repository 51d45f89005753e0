"""A bridge that filters VLANs has a port whose VLAN no other port carries.

Symptom: the guest's link is up and nobody answers ARP; others are fine.
Cause: vlan_filtering is on, and the tap's VLAN is missing on the uplink, or on the bridge itself
    for the host.
Harmless when: vlan_filtering is off: then the table means nothing. The default of VLAN 1
    everywhere works.
Evidence: no other port of the bridge, nor the bridge itself, has a VLAN of this port's.
Fix: bridge vlan add dev NIC vid N (and "self" on the bridge).
Sources: bridge(8), net/bridge/br_vlan.c
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import leads_to_guest, ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.BRIDGE_VLANS})
def vlan_filter_mismatch(survey: Survey) -> Iterator[Suspicion]:
    """Each port that shares no VLAN with anybody on its bridge."""
    for stack in survey.stacks:
        vids: dict[str, set[int]] = {}
        for entry in stack.bridge_vlans or ():
            vids.setdefault(entry.link, set()).add(entry.vid)
        for bridge in stack.links or ():
            if bridge.bridge is None or not bridge.bridge.vlan_filtering:
                continue
            names = [bridge.name, *(port.name for port in ports_of(stack, bridge.name))]
            for port in ports_of(stack, bridge.name):
                mine = vids.get(port.name, set())
                around = set().union(*(vids.get(n, set()) for n in names if n != port.name))
                if leads_to_guest(port) and not mine & around and len(names) > 2:
                    yield Suspicion(
                        subject=place(stack, port.name),
                        summary=f"{port.name} is in VLAN {_shown(mine)}, which no other port of "
                        f"{bridge.name} carries",
                        evidence=(
                            Evidence(f"{port.name}: {_shown(mine)}", "bridge vlan show"),
                            Evidence(f"the others: {_shown(around)}", "bridge vlan show"),
                        ),
                    )


def _shown(vids: set[int]) -> str:
    return ", ".join(map(str, sorted(vids))) or "none"
