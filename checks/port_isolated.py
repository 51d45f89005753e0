"""Two ports of a bridge are isolated, so nothing passes between them.

Symptom: two guests do not see each other and both reach the gateway and the host.
Cause: both ports have the flag "isolated" (<port isolated='yes'/> in libvirt's XML).
Harmless when: it is meant: guests of different customers on one bridge. One isolated port alone
    stops nothing.
Evidence: the frame ends between two isolated ports.
Fix: bridge link set dev PORT isolated off, if these two are to meet.
Sources: net/bridge/br_private.h (br_skb_isolated), bridge(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.bridge import SetPortFlag
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.ports import stopped_at_port
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import LinkStateRef, Reason


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def port_isolated(case: Case) -> Iterator[Suspicion]:
    """A frame ends at an isolated port."""
    found, ref = stopped_at_port(case, Reason.ISOLATED), case.decider
    if found is None or not isinstance(ref, LinkStateRef):
        return
    action = SetPortFlag(stack=ref.stack, link=ref.link, flag="isolated", on=False)
    yield Suspicion(
        subject=place(found.stack, ref.link),
        summary=f"{ref.text}: the bridge lets nothing pass between them",
        evidence=(found.flag_fact("isolated on"),),
        remedies=((action,),),
    )
