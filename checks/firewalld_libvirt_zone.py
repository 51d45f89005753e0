"""The bridge of a libvirt network is not in libvirt's zone of firewalld.

Symptom: guests get no DHCP or no Internet; or net-start says that the zone libvirt is missing.
Cause: the bridge is in firewalld's default zone, because a custom zone took it or the zone's file
    is gone.
Harmless when: firewalld does not run; the zone lets DHCP, DNS and forwarding pass.
Evidence: a packet from the bridge ends in a chain of firewalld's of another zone than libvirt's.
Fix: firewall-cmd --zone=libvirt --change-interface=BRIDGE, with --permanent; or restart
    virtnetworkd.
Sources: https://libvirt.org/firewall.html, firewalld.zone(5)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front, both_ways
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.diagnose.rules import HOOKS
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def firewalld_libvirt_zone(case: Case) -> Iterator[Suspicion]:
    """A packet by a guests' bridge ends in firewalld's table."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    bridge = next((n for n in (end.in_link, end.out_link) if is_guest_bridge(stack, n)), None)
    if rule.table != "firewalld" or bridge is None or end.stage not in HOOKS:
        return
    if "_libvirt" in rule.chain:
        return  # it is in libvirt's zone, whose rules keep this out
    if "_policy_" in rule.chain:
        return  # a policy that somebody has set between zones; whichever zone the bridge is in
    narrow = Accepting(in_link=end.in_link, out_link=end.out_link, packet=end.packet)
    remedy = accept_in_front(stack, rule, HOOKS[end.stage], narrow)
    if end.stage is Stage.FORWARD:
        remedies: tuple[Remedy, ...] = (both_ways(stack, rule, end),)
    else:
        remedies = ((remedy,),) if remedy is not None else ()
    yield Suspicion(
        subject=place(stack, bridge),
        summary=f"firewalld does not treat {bridge} as a network of libvirt's: {rule.chain} ends "
        "the packet",
        evidence=(rule_fact(stack, rule),),
        remedies=remedies,
    )
