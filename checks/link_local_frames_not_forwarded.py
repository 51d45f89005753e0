"""A bridge does not pass the frames by which a guest talks to the switch.

Symptom: LLDP, 802.1X or LACP in a guest gets no answer.
Cause: 01:80:c2:00:00:0X is for the bridge itself and is not forwarded (group_fwd_mask 0). LACP
    cannot be let through.
Harmless when: it is the right default for nearly everybody.
Evidence: a guest has a bond of mode 802.3ad whose NICs are plugged into a bridge.
Fix: another bond mode in the guest; group_fwd_mask 0x4008 passes LLDP and 802.1X.
Sources: net/bridge/br_input.c, IEEE 802.1D section 7.12.6
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def link_local_frames_not_forwarded(survey: Survey) -> Iterator[Suspicion]:
    """Each guest that wants to speak LACP through a bridge."""
    for stack in survey.stacks:
        for bond in stack.links or ():
            if stack.name == survey.snapshot.host or bond.bond is None:
                continue
            ports = [link for link in ports_of(stack, bond.name) if link.peer is not None]
            if bond.bond.mode == "802.3ad" and ports:
                yield Suspicion(
                    subject=place(stack, bond.name),
                    summary=f"{bond.name} of {stack.name} speaks LACP, which no Linux bridge "
                    f"passes on",
                    evidence=(Evidence("mode 802.3ad", f"/proc/net/bonding/{bond.name}"),),
                )
