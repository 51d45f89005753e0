"""A router lets a private source out untranslated, and nobody beyond knows the way back.

Symptom: guests reach the router and nothing beyond it; the request leaves, a reply never comes.
Cause: the rule that translates the guests' addresses is not there, or does not match: rules
    were flushed or replaced after the network started, or the uplink has changed.
Harmless when: the network is routed or open and the next router knows the way back; the packet is
    translated by a later router; the guest has an address of the uplink's own network. IPv6 is
    routed where nothing else is set up: a host without any rule that translates it lacks none.
Evidence: after POSTROUTING the packet still has the guest's private source, and it then leaves
    what can be seen, or a later machine refuses that source.
Fix: iptables -t nat -A POSTROUTING -s NET ! -d NET -j MASQUERADE on the router whose guests
    they are; for a libvirt network, restart virtnetworkd (or libvirtd), which puts its rules back.
Sources: net/netfilter/nf_nat_masquerade.c, RFC 1918, libvirt src/network/network_iptables.c.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from kvmdiag.diagnose.case import Case, owns, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.rules import links_named, rules_lost, source_nats, translates
from kvmdiag.diagnose.translation import (
    calico_leaves_pods_as_they_are,
    launcher_lost_its_rules,
    subnet_behind,
    translating,
)
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage

_V6 = ("ip6", "inet")
_ROUTED = ("route", "open", "bridge")


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES, Facts.TABLES})
def masquerade_missing(case: Case) -> Iterator[Suspicion]:
    """Each stack that passed a foreign private source on, when that source was the trouble."""
    if not _source_was_the_trouble(case):
        return
    for stack, hop, out in _untranslated(case):
        source = out.packet.src
        subnet = subnet_behind(stack, hop, source)
        if _is_routed(case, subnet) or _is_told_otherwise(case, stack, hop, source):
            continue
        yield Suspicion(
            subject=place(stack, hop.out_link or out.link or "-"),
            summary=f"{stack.name} sends {source} out by {hop.out_link} untranslated",
            evidence=(
                Evidence(
                    f"no rule of POSTROUTING translates {source} on its way to {out.packet.dst}",
                    f"nat chains of {stack.name}",
                ),
                Evidence(f"{subnet} is behind {hop.in_link}", f"ip route in {stack.name}"),
                Evidence(case.end.because or case.end.decision, f"walk, at {case.end.place}"),
            ),
            remedies=translating(stack, subnet),
            at=hop,
        )


def _source_was_the_trouble(case: Case) -> bool:
    if case.reason is Reason.NO_RETURN_ROUTE:
        return True
    refused = case.reason in (Reason.NETFILTER, Reason.RP_FILTER)
    # Whom the destination lets in is its own business: its rules are the matter then.
    let_in = case.end.stage is Stage.INPUT
    return refused and not let_in and case.trace is case.walk.request


def _untranslated(case: Case) -> Iterator[tuple[Stack, Hop, Hop]]:
    """Routers with the hop that routed and the hop by which the packet left them as it came."""
    hops = case.walk.request.hops
    for stack, routed in case.routers():
        later = hops[hops.index(routed) + 1 :]
        out = next((hop for hop in later if hop.stack == stack.name and _is_exit(hop)), None)
        if out is None or (out is case.end and case.walk.request.outcome is not Outcome.LEFT):
            continue
        source = out.packet.src
        if source.version == 6 and not any(p.table.family in _V6 for p in source_nats(stack)):
            continue
        if source == routed.packet.src and source.is_private and not owns(stack, source):
            yield stack, routed, out


def _is_exit(hop: Hop) -> bool:
    return hop.stage in (Stage.POSTROUTING, Stage.NEIGHBOUR, Stage.EGRESS)


def _is_routed(case: Case, subnet: str) -> bool:
    """Whether libvirt means this network to be routed, so that nobody should translate it."""
    for network in case.snapshot.networks or ():
        ours = any(str(ip_network(a, strict=False)) == subnet for a in network.addresses)
        if ours and network.mode in _ROUTED:
            return True
    return False


def _is_told_otherwise(case: Case, stack: Stack, hop: Hop, source: IPAddress) -> bool:
    """Whether another check knows better why: who should have made the rule, or it was made."""
    if any(translates(p.rule, source) and links_named(p.rule, "out") for p in source_nats(stack)):
        return True
    if hop.out_link is not None and any(source in net for net in connected(stack, hop.out_link)):
        return True  # an address of the LAN is to be answered for, not translated
    if launcher_lost_its_rules(stack) or calico_leaves_pods_as_they_are(stack, hop.in_link):
        return True
    return rules_lost(case.snapshot, stack, hop.in_link)
