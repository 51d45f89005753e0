"""A router lets a private source out untranslated, and nobody beyond knows the way back.

Symptom: guests reach the router and nothing beyond it; the request leaves, a reply never comes.
Cause: the rule that translates the guests' addresses is not there, or does not match: rules
    were flushed or replaced after the network started, or the uplink has changed.
Harmless when: the network is routed or open and the next router knows the way back; the packet is
    translated by a later router.
Evidence: after POSTROUTING the packet still has the guest's private source, and it then leaves
    what can be seen, or a later machine refuses that source.
Fix: iptables -t nat -A POSTROUTING -s NET ! -d NET -j MASQUERADE on the router whose guests
    they are; for a libvirt network, restart virtnetworkd (or libvirtd), which puts its rules back.
Sources: net/netfilter/nf_nat_masquerade.c, RFC 1918, libvirt src/network/network_iptables.c.
"""

from collections.abc import Iterator
from ipaddress import ip_network

import msgspec

from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.diagnose.case import Case, owns, place
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.rules import links_named, rules_lost, source_nats, translates
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage

_ROUTED = ("route", "open", "bridge")
_LIBVIRT_KEEPS = "systemctl restart virtnetworkd (or libvirtd) puts libvirt's own rule back"


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES, Facts.TABLES})
def masquerade_missing(case: Case) -> Iterator[Suspicion]:
    """Each stack that passed a foreign private source on, when that source was the trouble."""
    if not _source_was_the_trouble(case):
        return
    for stack, hop, out in _untranslated(case):
        source = out.packet.src
        subnet = _subnet(stack, hop, source)
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
            remedies=_remedies(stack, subnet),
            at=hop,
        )


def _source_was_the_trouble(case: Case) -> bool:
    if case.reason is Reason.NO_RETURN_ROUTE:
        return True
    refused = case.reason in (Reason.NETFILTER, Reason.RP_FILTER)
    return refused and case.trace is case.walk.request


def _untranslated(case: Case) -> Iterator[tuple[Stack, Hop, Hop]]:
    """Routers with the hop that routed and the hop by which the packet left them as it came."""
    hops = case.walk.request.hops
    for stack, routed in case.routers():
        later = hops[hops.index(routed) + 1 :]
        out = next((hop for hop in later if hop.stack == stack.name and _is_exit(hop)), None)
        if out is None or (out is case.end and case.walk.request.outcome is not Outcome.LEFT):
            continue
        source = out.packet.src
        if source == routed.packet.src and source.is_private and not owns(stack, source):
            yield stack, routed, out


def _is_exit(hop: Hop) -> bool:
    return hop.stage in (Stage.POSTROUTING, Stage.NEIGHBOUR, Stage.EGRESS)


def _subnet(stack: Stack, hop: Hop, source: IPAddress) -> str:
    """The network behind the incoming link that the source belongs to."""
    networks = [
        ip_network(route.destination)
        for route in stack.routes or ()
        if any(next_hop.link == hop.in_link for next_hop in route.next_hops)
        and route.version == source.version
        and route.type == "unicast"
    ]
    around = [network for network in networks if source in network and network.prefixlen > 0]
    if not around:
        return str(ip_network(str(source)))
    return str(max(around, key=lambda network: network.prefixlen))


def _is_routed(case: Case, subnet: str) -> bool:
    """Whether libvirt means this network to be routed, so that nobody should translate it."""
    for network in case.snapshot.networks or ():
        ours = any(str(ip_network(a, strict=False)) == subnet for a in network.addresses)
        if ours and network.mode in _ROUTED:
            return True
    return False


def _is_told_otherwise(case: Case, stack: Stack, hop: Hop, source: IPAddress) -> bool:
    """Whether another check knows better why: a rule for another link, or all of them gone."""
    if any(translates(p.rule, source) and links_named(p.rule, "out") for p in source_nats(stack)):
        return True
    return rules_lost(case.snapshot, stack, hop.in_link)


def _remedies(stack: Stack, subnet: str) -> tuple[Remedy, ...]:
    rule = f"-s {subnet} ! -d {subnet} -j MASQUERADE"
    libvirt = any(
        chain.name == "LIBVIRT_PRT" and any(subnet in r.text for r in chain.rules)
        for table in stack.tables or ()
        for chain in table.chains
    )
    append = AppendRule(
        stack=stack.name,
        table="nat",
        chain="POSTROUTING",
        rule=rule,
        family="ip6" if ":" in subnet else "ip",
        backend=backend_in_use(stack),
        kept_by=_LIBVIRT_KEEPS if libvirt else None,
    )
    # In front, when a rule of the chain ends the packet's way through it.
    return ((append,), (InsertRule(**msgspec.structs.asdict(append)),))
