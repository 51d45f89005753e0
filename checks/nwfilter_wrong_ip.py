"""Libvirt's filter on a guest's tap lets only another address of the guest through.

Symptom: a guest works with one address and is silent after it was changed, while DHCP works.
Cause: a filter such as clean-traffic is pinned to an address, given in the XML or learnt from the
    first packet.
Harmless when: the filter names the address that the guest has; its counters rise with harmless
    other traffic.
Evidence: a bridged frame ends in a chain of libvirt's filters for that tap.
Fix: change the parameter IP in the guest's XML, or CTRL_IP_LEARNING=dhcp; virsh
    nwfilter-binding-list shows what holds now.
Sources: https://libvirt.org/formatnwfilter.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import NWFILTER_CHAINS, filtered_tap
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def nwfilter_wrong_ip(case: Case) -> Iterator[Suspicion]:
    """A frame, or an ARP question, ends in one of libvirt's chains for a tap."""
    if case.filtered is None:
        return
    stack, rule = case.filtered
    if not rule.chain.startswith(NWFILTER_CHAINS) or "mac" in rule.chain.split("-"):
        return
    tap = filtered_tap(stack, rule.chain) or case.end.link or "-"
    yield Suspicion(
        subject=place(stack, tap),
        summary=f"libvirt's filter for {tap} does not let {case.end.packet.src} pass",
        evidence=(rule_fact(stack, rule), *_binding(case.snapshot, tap)),
    )


def _binding(snapshot: Snapshot, tap: str) -> Iterator[Evidence]:
    """What libvirt says the filter of this tap is, and what it is pinned to."""
    bindings = snapshot.libvirt.bindings if snapshot.libvirt is not None else None
    for binding in bindings or ():
        if binding.tap == tap:
            pinned = ", ".join(f"{name}={value}" for name, value in binding.parameters)
            yield Evidence(f"{binding.filter} {pinned}".strip(), "virsh nwfilter-binding-list")
