"""A VLAN link on a bridged NIC takes the tagged frames that a guest is to get.

Symptom: a guest on a trunk loses one VLAN when the host makes NIC.N.
Cause: the NIC gives frames with tag N to its VLAN link before its bridge sees them.
Harmless when: NIC.N feeds a bridge of its own, and no guest wants tag N on the NIC's bridge; or
    the bridge filters VLANs.
Evidence: a NIC in a bridge without VLAN filtering has a VLAN link, and a guest there is given
    that tag.
Fix: plug the guest into the VLAN's bridge, or one bridge with VLAN filtering and BRIDGE.N for the
    host.
Sources: net/core/dev.c (__netif_receive_skb_core)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import inside_of, ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def vlan_subif_steals_tags(survey: Survey) -> Iterator[Suspicion]:
    """Each VLAN link on a NIC whose bridge has a guest that uses the tag."""
    for stack in survey.stacks:
        for link in stack.links or ():
            nic = link_of(stack, link.lower) if link.vlan is not None else None
            bridge = None if nic is None else link_of(stack, nic.master)
            if nic is None or bridge is None or bridge.bridge is None or link.vlan is None:
                continue
            if bridge.bridge.vlan_filtering:
                continue
            for port in ports_of(stack, bridge.name):
                inside = inside_of(survey.stacks, port)
                tags = {
                    other.vlan.vid
                    for other in (inside[0].links or () if inside is not None else ())
                    if other.vlan is not None and inside and other.lower == inside[1].name
                }
                if link.vlan.vid in tags:
                    yield Suspicion(
                        subject=place(stack, link.name),
                        summary=f"{link.name} takes VLAN {link.vlan.vid} from {nic.name} before "
                        f"{bridge.name} can give it to the guest at {port.name}",
                        evidence=(link_fact(stack, nic), link_fact(stack, link)),
                    )
