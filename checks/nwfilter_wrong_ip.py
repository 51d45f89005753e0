"""Libvirt's filter on a guest's tap lets only another address of the guest through.

Symptom: a guest works with one address and is silent after it was changed, while DHCP works.
Cause: a filter such as clean-traffic is pinned to an address, given in the XML or learnt from the
    first packet.
Harmless when: the filter names the address that the guest has; its counters rise with harmless
    other traffic.
Evidence: a bridged frame ends in a chain of libvirt's filters for that tap.
Fix: change the parameter IP in the guest's XML, or CTRL_IP_LEARNING=dhcp; virsh
    nwfilter-binding-list shows what holds now. Which address is right is for whoever set the filter
    to say, unless libvirt's own DHCP keeps the guest's address for it.
Sources: https://libvirt.org/formatnwfilter.html
"""

from collections.abc import Iterator

from kvmdiag.actions.nwfilter import CorrectFilterAddress, is_plain, pinned_address
from kvmdiag.diagnose.case import Case, link_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import NWFILTER_CHAINS, filtered_tap, network_on, nic_behind
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


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
        remedies=tuple(_corrected(case, stack, tap)),
    )


def _corrected(case: Case, stack: Stack, tap: str) -> Iterator[Remedy]:
    """The filter with the guest's address, when libvirt's DHCP keeps that for it."""
    link = link_of(stack, tap)
    behind = None if link is None else nic_behind(case.snapshot, link)
    network = None if link is None else network_on(case.snapshot, link.master)
    if behind is None or network is None or stack.name != case.snapshot.host:
        return
    domain, nic = behind
    pinned, used = pinned_address(nic), str(case.end.packet.src)
    if pinned is None or used not in network.kept_for(nic.mac or "") or not is_plain(tap):
        return
    yield (
        CorrectFilterAddress(stack=stack.name, guest=domain.name, tap=tap, old=pinned, new=used),
    )


def _binding(snapshot: Snapshot, tap: str) -> Iterator[Evidence]:
    """What libvirt says the filter of this tap is, and what it is pinned to."""
    bindings = snapshot.libvirt.bindings if snapshot.libvirt is not None else None
    for binding in bindings or ():
        if binding.tap == tap:
            pinned = ", ".join(f"{name}={value}" for name, value in binding.parameters)
            yield Evidence(f"{binding.filter} {pinned}".strip(), "virsh nwfilter-binding-list")
