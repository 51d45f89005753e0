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

from kvmdiag.diagnose.case import (
    Case,
    place,
    rule_fact,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import (
    Reason,
)

_PREFIXES = ("libvirt-", "I-", "O-", "FI-", "FO-", "HI-")


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def nwfilter_wrong_ip(case: Case) -> Iterator[Suspicion]:
    """A frame ends in one of libvirt's chains for a tap."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if not rule.chain.startswith(_PREFIXES) or "mac" in rule.chain.split("-"):
        return
    yield Suspicion(
        subject=place(stack, end.link or "-"),
        summary=f"libvirt's filter for {end.link} does not let {end.packet.src} pass",
        evidence=(rule_fact(stack, rule),),
    )
