"""What checks of translation and of pods share: whose network it is, and the rule to add."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.diagnose.check import Remedy
from kvmdiag.diagnose.rules import has_chain, source_nats
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import Hop

_LIBVIRT_KEEPS = "systemctl restart virtnetworkd (or libvirtd) puts libvirt's own rule back"


def pods_bridge(stack: Stack) -> str | None:
    """KubeVirt's bridge, when the stack is the pod of one of its machines."""
    names = (link.name for link in stack.links or () if link.kind == "bridge")
    return next((name for name in names if name.startswith("k6t-")), None)


def launcher_lost_its_rules(stack: Stack) -> bool:
    """Whether the stack is the pod of a machine of KubeVirt's and translates nothing."""
    return pods_bridge(stack) is not None and not any(True for _ in source_nats(stack))


def calico_leaves_pods_as_they_are(stack: Stack, in_link: str | None) -> bool:
    """Whether a link is Calico's to a pod, and no rule of Calico's translates what goes out."""
    if in_link is None or not in_link.startswith("cali") or not has_chain(stack, "cali-"):
        return False
    return not any("nat-outgoing" in placed.chain.name for placed in source_nats(stack))


def is_calicos_block(stack: Stack, refusal: Route) -> bool:
    """Whether a route refuses what is left of a block of addresses that Calico gives to pods."""
    block = ip_network(refusal.destination)
    return has_chain(stack, "cali-") and any(
        next_hop.link is not None
        and next_hop.link.startswith("cali")
        and route.version == refusal.version
        and ip_network(route.destination).overlaps(block)
        for route in stack.routes or ()
        for next_hop in route.next_hops
    )


def subnet_behind(stack: Stack, hop: Hop, source: IPAddress) -> str:
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


def translating(stack: Stack, subnet: str, kept_by: str | None = None) -> tuple[Remedy, ...]:
    """A rule that translates a network on its way elsewhere: at the end, or else in front."""
    libvirt = any(
        chain.name == "LIBVIRT_PRT" and any(subnet in r.text for r in chain.rules)
        for table in stack.tables or ()
        for chain in table.chains
    )
    kept_by = kept_by or (_LIBVIRT_KEEPS if libvirt else None)
    return masquerading(stack, subnet, f"-s {subnet} ! -d {subnet} -j MASQUERADE", kept_by)


def masquerading(
    stack: Stack, subnet: str, rule: str, kept_by: str | None = None
) -> tuple[Remedy, ...]:
    """A rule of POSTROUTING that translates a network: at the end, or else in front."""
    append = AppendRule(
        stack=stack.name,
        table="nat",
        chain="POSTROUTING",
        rule=rule,
        family="ip6" if ":" in subnet else "ip",
        backend=backend_in_use(stack),
        kept_by=kept_by,
    )
    # In front, when a rule of the chain ends the packet's way through it.
    return ((append,), (InsertRule(**msgspec.structs.asdict(append)),))
