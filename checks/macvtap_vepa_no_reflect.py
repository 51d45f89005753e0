"""Guests on macvtaps of mode vepa need a switch that sends frames back.

Symptom: two guests with macvtaps on one NIC cannot reach each other.
Cause: in mode vepa all frames go to the switch, and ordinary switches do not send them back by
    the same port.
Harmless when: mode private, where it is meant; a switch with reflective relay.
Evidence: two macvtaps of mode vepa are on one lower link.
Fix: <source mode='bridge'/>.
Sources: IEEE 802.1Qbg, drivers/net/macvlan.c
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def macvtap_vepa_no_reflect(survey: Survey) -> Iterator[Suspicion]:
    """Each lower link with two or more of mode vepa."""
    for stack in survey.stacks:
        by_lower: dict[str, list[str]] = {}
        for link in stack.links or ():
            if link.macvlan is not None and link.macvlan.mode == "vepa" and link.lower:
                by_lower.setdefault(link.lower, []).append(link.name)
        for lower, names in by_lower.items():
            if len(names) > 1:
                yield Suspicion(
                    subject=place(stack, lower),
                    summary=f"{', '.join(names)} on {lower} are of mode vepa and meet only by way "
                    "of a switch that reflects",
                    evidence=(Evidence("mode vepa", f"ip -d link in {stack.name}"),),
                    proof="kvmdiag trace between the two: the request leaves and does not come "
                    "back",
                )
