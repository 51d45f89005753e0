"""A tap is up, and no program holds its other end.

Symptom: nothing passes a tap that is up and has a bridge.
Cause: QEMU is gone, or the tap was made beforehand with another name or owner than QEMU opened.
Harmless when: a persistent tap that waits for its guest to start; ports of vhost-user and DPDK.
Evidence: a tap without carrier is on the way, and the packet is lost there.
Fix: start the guest, or remove the stale tap: ip link del TAP.
Sources: drivers/net/tun.c (tun_attach)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import nic_behind
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import LinkStateRef


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def tap_no_carrier(case: Case) -> Iterator[Suspicion]:
    """The packet ends at a tap without carrier."""
    ref = case.decider
    if not isinstance(ref, LinkStateRef):
        return
    stack = case.stack(ref.stack)
    link = None if stack is None else link_of(stack, ref.link)
    if stack is None or link is None or link.kind != "tun" or not link.up or link.carrier:
        return
    nic = nic_behind(case.snapshot, link)
    if nic is not None and nic[1].link_state == "down":
        return
    yield Suspicion(
        subject=place(stack, link.name),
        summary=f"{link.name} is up and no program holds its other end",
        evidence=(
            link_fact(stack, link),
            Evidence("carrier 0", f"/sys/class/net/{link.name}/carrier in {stack.name}"),
        ),
    )
