"""Questions about netfilter rules that several checks ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal

from kvmdiag.diagnose.case import chain_of
from kvmdiag.diagnose.nets import IPNetwork, connected, is_libvirt_bridge, network_on
from kvmdiag.model.matches import (
    AddressIs,
    ConntrackStateIs,
    InterfaceIs,
    Match,
    PortIs,
    ProtocolIs,
)
from kvmdiag.model.netfilter import Backend, Chain, HookName, Rule, Table
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import (
    DestinationNat,
    Drop,
    Masquerade,
    Redirect,
    Reject,
    SourceNat,
    Statement,
)
from kvmdiag.model.trace import RuleRef, Stage

HOOKS: dict[Stage, HookName] = {
    Stage.PREROUTING: "prerouting",
    Stage.INPUT: "input",
    Stage.FORWARD: "forward",
    Stage.OUTPUT: "output",
    Stage.POSTROUTING: "postrouting",
}


@dataclass(frozen=True)
class Placed:
    """A rule with where it stands; ``index`` counts from 0."""

    table: Table
    chain: Chain
    index: int
    rule: Rule

    def ref(self, stack: Stack) -> RuleRef:
        """The rule as evidence quotes it."""
        return RuleRef(
            stack=stack.name,
            family=self.table.family,
            backend=self.table.backend,
            table=self.table.name,
            chain=self.chain.name,
            index=self.index,
            text=self.rule.text,
            handle=self.rule.handle,
        )


def rules_of(stack: Stack) -> Iterator[Placed]:
    """Every rule of a stack."""
    for table in stack.tables or ():
        for chain in table.chains:
            for index, rule in enumerate(chain.rules):
                yield Placed(table, chain, index, rule)


def source_nats(stack: Stack) -> Iterator[Placed]:
    """The rules that rewrite sources."""
    for placed in rules_of(stack):
        if has(placed.rule, SourceNat, Masquerade):
            yield placed


def destination_nats(stack: Stack) -> Iterator[Placed]:
    """The rules that rewrite destinations."""
    for placed in rules_of(stack):
        if has(placed.rule, DestinationNat, Redirect):
            yield placed


def has(rule: Rule, *kinds: type) -> bool:
    """Whether a rule has a part of one of these kinds."""
    return any(isinstance(part, kinds) for part in rule.body)


def stops(rule: Rule) -> bool:
    """Whether a rule ends packets."""
    return has(rule, Drop, Reject)


def rule_of(stack: Stack, ref: RuleRef) -> Rule | None:
    """The rule that is referred to; ``None`` for a policy."""
    chain = chain_of(stack, ref)
    return None if chain is None or ref.index is None else chain.rules[ref.index]


def family_of(ref: RuleRef) -> Literal["ip", "ip6"]:
    """By which iptables a rule is changed."""
    return "ip6" if ref.family == "ip6" else "ip"


def backend_of(ref: RuleRef) -> Backend:
    """By which of the two iptables of that family."""
    return "iptables-legacy" if ref.backend == "iptables-legacy" else "iptables-nft"


def is_for_invalid(stack: Stack, ref: RuleRef) -> bool:
    """Whether a rule is for packets that belong to no connection that was seen to begin."""
    rule = rule_of(stack, ref)
    return rule is not None and any(
        isinstance(part, ConntrackStateIs) and "invalid" in part.states and not part.negate
        for part in rule.body
    )


def has_chain(stack: Stack, prefix: str) -> bool:
    """Whether a chain's name begins so (``DOCKER``, ``LIBVIRT_``)."""
    return any(
        chain.name.startswith(prefix) for table in stack.tables or () for chain in table.chains
    )


def has_table(stack: Stack, name: str) -> bool:
    """Whether there is a table of that name."""
    return any(table.name == name for table in stack.tables or ())


def links_named(rule: Rule, direction: str) -> tuple[str, ...]:
    """The device names a rule wants for ``in`` or ``out``."""
    return tuple(
        name
        for part in rule.body
        if isinstance(part, InterfaceIs) and part.direction == direction and not part.negate
        for name in part.names
    )


def translates(rule: Rule, source: IPAddress) -> bool:
    """Whether a rule is made for this source: it names a network that holds it."""
    return any(
        isinstance(part, AddressIs)
        and part.side == "src"
        and not part.negate
        and within(source, part.networks)
        for part in rule.body
    )


def within(address: IPAddress, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of these networks or ranges."""
    for text in networks:
        first, dash, last = text.partition("-")
        if dash:
            one, other = ip_address(first), ip_address(last)
            if one.version == address.version and int(one) <= int(address) <= int(other):
                return True
        elif address in ip_network(text, strict=False):
            return True
    return False


def could_match(rule: Rule, packet: Packet, in_link: str | None, out_link: str | None) -> bool:
    """Whether nothing that is plain to see keeps a rule from matching a packet."""
    return all(_could(part, packet, in_link, out_link) for part in rule.body)


def _could(
    part: Match | Statement, packet: Packet, in_link: str | None, out_link: str | None
) -> bool:
    match part:
        case InterfaceIs():
            link = in_link if part.direction == "in" else out_link
            return _named(link or "", part.names) != part.negate
        case AddressIs(of="packet"):
            address = packet.src if part.side == "src" else packet.dst
            return within(address, part.networks) != part.negate
        case ProtocolIs():
            return (packet.proto in part.protocols) != part.negate
        case PortIs(side="dst") if packet.dport is not None:
            inside = any(first <= packet.dport <= last for first, last in part.ranges)
            return inside != part.negate
    return True


def _named(link: str, names: tuple[str, ...]) -> bool:
    return any(link.startswith(n[:-1]) if n.endswith("*") else link == n for n in names)


def table_of(stack: Stack, ref: RuleRef) -> Table | None:
    """The table that a rule is in."""
    for table in stack.tables or ():
        if (table.family, table.name, table.backend) == (ref.family, ref.table, ref.backend):
            return table
    return None


def base_chain(stack: Stack, ref: RuleRef, hook: HookName) -> Chain | None:
    """The base chain of a rule's table by which packets of a hook come to the rule."""
    table = table_of(stack, ref)
    if table is None:
        return None
    own = table.chain(ref.chain)
    if own is not None and own.hook is not None:
        return own
    return next((chain for chain in table.chains if chain.hook == hook), None)


def rules_lost(snapshot: Snapshot, stack: Stack, bridge: str | None) -> bool:
    """Whether a bridge is libvirt's, with NAT, and no rule of any table is about it any more."""
    if bridge is None or stack.tables is None or not is_libvirt_bridge(snapshot, bridge):
        return False
    network = network_on(snapshot, bridge)
    if network is not None and (network.mode != "nat" or not network.active):
        return False
    nets = connected(stack, bridge)
    return not any(_is_about(placed.rule, bridge, nets) for placed in rules_of(stack))


def _is_about(rule: Rule, bridge: str, nets: tuple[IPNetwork, ...]) -> bool:
    for part in rule.body:
        if isinstance(part, InterfaceIs) and bridge in part.names:
            return True
        if isinstance(part, AddressIs) and any(str(net) in part.networks for net in nets):
            return True
    return False
