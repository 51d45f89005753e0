"""A NIC with virtual functions is a port of a bridge, whose guests its switch does not know.

Symptom: a guest on a virtual function cannot reach a bridged guest of the same host; both reach
    other machines.
Cause: the NIC's own switch has no entry for the MAC addresses of taps, and sends their frames to
    the wire.
Harmless when: no guest on a function wants one on the bridge.
Evidence: a NIC with virtual functions has a bridge as master.
Fix: bridge fdb add MAC dev PF (self) for each bridged guest, from a hook.
Sources: bridge(8) (fdb ... self)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def sriov_vf_to_pf_bridge(survey: Survey) -> Iterator[Suspicion]:
    """Each such NIC."""
    for stack in survey.stacks:
        for link in stack.links or ():
            if link.virtual_functions and is_guest_bridge(stack, link.master):
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} has virtual functions and is a port of {link.master}: "
                    "guests on the one may not reach guests on the other",
                    evidence=(link_fact(stack, link),),
                    proof=f"bridge fdb show dev {link.name}: no entry (self) for the bridged "
                    f"guests",
                )
