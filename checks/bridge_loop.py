"""Two ports of a bridge lead to each other, and no spanning tree breaks the circle.

Symptom: the host is swamped; "received packet on X with own address as source address".
Cause: two cables into one segment, a veth pair with both ends in one bridge, with STP off.
Harmless when: STP is on, which blocks one of them. The message alone also comes from a guest that
    shares the bridge's MAC address.
Evidence: both ends of a cable are ports of one bridge without STP.
Fix: ip link set PORT nomaster for one of them; STP where there must be two ways.
Sources: net/bridge/br_fdb.c (br_fdb_update)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS})
def bridge_loop(survey: Survey) -> Iterator[Suspicion]:
    """Each cable with both ends in one bridge."""
    for stack in survey.stacks:
        for link in stack.links or ():
            bridge = link_of(stack, link.master)
            if bridge is None or bridge.bridge is None or bridge.bridge.stp or link.peer is None:
                continue
            other = link_of(stack, link.peer.link) if link.peer.stack == stack.name else None
            if other is None or other.master != link.master or other.index < link.index:
                continue
            if link.up and other.up:
                yield Suspicion(
                    subject=place(stack, bridge.name),
                    summary=f"{link.name} and {other.name}, ends of one cable, are both ports of "
                    f"{bridge.name}, and STP is off",
                    evidence=(link_fact(stack, link), link_fact(stack, other)),
                )
