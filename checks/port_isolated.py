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
from kvmdiag.diagnose.case import (
    Case,
    link_of,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    LinkStateRef,
    Reason,
)


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def port_isolated(case: Case) -> Iterator[Suspicion]:
    """A frame ends at an isolated port."""
    ref = case.decider
    if case.reason is not Reason.ISOLATED or not isinstance(ref, LinkStateRef):
        return
    stack = case.stack(ref.stack)
    port = None if stack is None else link_of(stack, ref.link)
    if stack is None or port is None:
        return
    action = SetPortFlag(stack=stack.name, link=port.name, flag="isolated", on=False)
    yield Suspicion(
        subject=place(stack, port.name),
        summary=f"{ref.text}: the bridge lets nothing pass between them",
        evidence=(
            Evidence(
                f"{port.name} isolated on", f"bridge -d link show dev {port.name} in {stack.name}"
            ),
        ),
        remedies=((action,),),
    )
