"""A firewall drops the packet, by a rule or a policy that no other check explains.

Symptom: a machine, often a router or a guest that routes for others, lets some packets through and
    not these; a policy of DROP on FORWARD cuts off everybody behind it.
Cause: the rules of the host, of a guest that routes, or of a namespace do not accept what is to
    pass: hardening, a forgotten rule, a policy without the accept that belongs to it.
Harmless when: the rule is meant to keep just this packet out. Kubernetes', Docker's and libvirt's
    own rules are taken to be meant.
Evidence: the packet ends at that rule or policy; its counter rises.
Fix: a narrow accept rule in front of it, in the same chain; for a router one for each direction.
Sources: net/netfilter/core.c (nf_hook_slow), iptables(8), nft(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front, both_ways
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, Turn, check
from kvmdiag.diagnose.discovery import discovery_dropped
from kvmdiag.diagnose.owners import owner_of
from kvmdiag.diagnose.rules import HOOKS
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Reason, RuleRef, Stage

_MEANT = {"libvirt", "Docker", "Kubernetes"}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES}, turn=Turn.LAST)
def firewall_drop(case: Case) -> Iterator[Suspicion]:
    """A packet that is no bridged frame ends in a hook of the ip layer, or nobody is found."""
    yield from discovery_dropped(case, by_host=True)
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if rule.bridged or rule.family not in ("ip", "ip6", "inet") or end.stage not in HOOKS:
        return
    owner = owner_of(rule)
    meant = owner is not None and owner.name in _MEANT and rule.index is not None
    remedies = () if meant else tuple(_remedies(case, stack, rule))
    what = "policy" if rule.index is None else f"rule {rule.index + 1}"
    yield Suspicion(
        subject=place(stack, end.in_link or end.out_link or end.link or "-"),
        summary=f"the {what} of {rule.chain} in {stack.name} keeps {end.packet.describe()} from "
        + ("being routed on" if end.stage is Stage.FORWARD else "passing"),
        evidence=(rule_fact(stack, rule),),
        remedies=remedies,
        by_design=meant and case.trace is case.walk.request,
    )


def _remedies(case: Case, stack: Stack, rule: RuleRef) -> Iterator[Remedy]:
    end = case.end
    if end.stage is Stage.FORWARD:
        routed = _request(case, stack) or end
        found = both_ways(stack, rule, routed)
    else:
        incoming = end.stage in (Stage.PREROUTING, Stage.INPUT)
        narrow = Accepting(
            in_link=end.in_link if incoming else None,
            out_link=None if incoming else end.out_link,
            source=f"{end.packet.src}/{end.packet.src.max_prefixlen}",
            packet=end.packet,
        )
        action = accept_in_front(stack, rule, HOOKS[end.stage], narrow)
        found = () if action is None else (action,)
    if found:
        yield found


def _request(case: Case, stack: Stack) -> Hop | None:
    """The hop by which this stack routed the request, whichever direction was lost."""
    return next((hop for router, hop in case.routers() if router is stack), None)
