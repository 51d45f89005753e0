"""Libvirt's filter on a guest's tap drops frames of machines inside the guest.

Symptom: virtual machines, macvlan links or VRRP inside a guest are dead, and the guest itself is
    fine.
Cause: a filter such as no-mac-spoofing lets only the guest's own MAC address through.
Harmless when: what is inside the guest is routed or translated: then the guest's own MAC address
    is used.
Evidence: a bridged frame ends in a chain of libvirt's filters for MAC addresses.
Fix: another filter for that NIC, or none (virsh edit); or no bridging inside the guest.
Sources: https://libvirt.org/formatnwfilter.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import NWFILTER_CHAINS, filtered_tap
from kvmdiag.model.report import Severity


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def nwfilter_mac_spoof_nested(case: Case) -> Iterator[Suspicion]:
    """A frame, or an ARP question, ends in one of libvirt's chains for MAC addresses."""
    if case.filtered is None:
        return
    stack, rule = case.filtered
    if "mac" not in rule.chain.split("-") or not rule.chain.startswith(NWFILTER_CHAINS):
        return
    tap = filtered_tap(stack, rule.chain) or case.end.link or "-"
    yield Suspicion(
        subject=place(stack, tap),
        summary=f"libvirt's filter for {tap} lets no MAC address pass but the guest's own",
        evidence=(rule_fact(stack, rule),),
    )
