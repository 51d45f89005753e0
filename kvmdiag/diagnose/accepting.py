"""Rules that accept just what they have to, and where they must stand to count."""

from __future__ import annotations

from dataclasses import dataclass

from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.rules import backend_of, base_chain, family_of, table_of
from kvmdiag.model.action import Action
from kvmdiag.model.matches import (
    AddressIs,
    ConntrackStateIs,
    FamilyIs,
    IcmpTypeIs,
    InterfaceIs,
    Match,
    PortIs,
    ProtocolIs,
)
from kvmdiag.model.netfilter import Chain, HookName
from kvmdiag.model.packet import Packet
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Accept, Statement
from kvmdiag.model.trace import Hop, RuleRef


@dataclass(frozen=True)
class Accepting:
    """A rule that accepts just what it has to; ``None`` leaves a thing open."""

    in_link: str | None = None
    out_link: str | None = None
    source: str | None = None
    destination: str | None = None
    packet: Packet | None = None
    replies: bool = False

    @property
    def iptables(self) -> str:
        """As iptables-save prints it."""
        words = [f"-s {self.source}"] if self.source else []
        words += [f"-d {self.destination}"] if self.destination else []
        words += [f"-i {self.in_link}"] if self.in_link else []
        words += [f"-o {self.out_link}"] if self.out_link else []
        words += self._protocol_words()
        words += ["-m conntrack --ctstate RELATED,ESTABLISHED"] if self.replies else []
        return " ".join([*words, "-j ACCEPT"])

    def _protocol_words(self) -> list[str]:
        packet = self.packet
        if packet is None:
            return []
        if packet.dport is not None:
            return [f"-p {packet.proto} -m {packet.proto} --dport {packet.dport}"]
        if packet.proto == "icmp":
            return [f"-p icmp -m icmp --icmp-type {packet.icmp_type}"]
        return [f"-p ipv6-icmp -m icmp6 --icmpv6-type {packet.icmp_type}"]

    @property
    def nft(self) -> tuple[str, tuple[Match | Statement, ...]]:
        """As nft prints it, and what that means."""
        words: list[str] = []
        body: list[Match | Statement] = []
        for side, network in (("src", self.source), ("dst", self.destination)):
            if network:
                key = "saddr" if side == "src" else "daddr"
                family = "ip6" if ":" in network else "ip"
                words.append(f"{family} {key} {network}")
                body.append(FamilyIs(families=(family,)))
                body.append(AddressIs(side="src" if side == "src" else "dst", networks=(network,)))
        for direction, link in (("in", self.in_link), ("out", self.out_link)):
            if link:
                words.append(f'{direction[0]}ifname "{link}"')
                body.append(
                    InterfaceIs(direction="in" if direction == "in" else "out", names=(link,))
                )
        self._nft_protocol(words, body)
        if self.replies:
            words.append("ct state established,related")
            body.append(ConntrackStateIs(states=("established", "related")))
        return " ".join([*words, "accept"]), (*body, Accept())

    def _nft_protocol(self, words: list[str], body: list[Match | Statement]) -> None:
        packet = self.packet
        if packet is None:
            return
        body.append(ProtocolIs(protocols=(packet.proto,)))
        if packet.dport is not None:
            words.append(f"{packet.proto} dport {packet.dport}")
            body.append(PortIs(side="dst", ranges=((packet.dport, packet.dport),)))
        elif packet.icmp_type is not None:
            words.append(f"{packet.proto} type {packet.icmp_type}")
            body.append(IcmpTypeIs(types=((packet.icmp_type, None),)))


def accept_in_front(stack: Stack, ref: RuleRef, hook: HookName, rule: Accepting) -> Action | None:
    """What makes the table whose rule stops a packet accept it first.

    Only a rule of that same table and hook can: an accept elsewhere does not count there.
    """
    base = base_chain(stack, ref, hook)
    if base is None:
        return None
    if ref.backend == "nft":
        text, body = rule.nft
        return InsertNftRule(
            stack=stack.name,
            family=ref.family,
            table=ref.table,
            chain=base.name,
            text=text,
            body=body,
        )
    if ref.table not in ("filter", "nat", "mangle", "raw") or ref.family not in ("ip", "ip6"):
        return None
    return InsertRule(
        stack=stack.name,
        table=ref.table,
        chain=_place(stack, ref, base),
        rule=rule.iptables,
        family=family_of(ref),
        backend=backend_of(ref),
    )


def _place(stack: Stack, ref: RuleRef, base: Chain) -> str:
    """Docker leaves DOCKER-USER alone; it serves when that chain is asked before the end."""
    table = table_of(stack, ref)
    users = table is not None and table.chain("DOCKER-USER") is not None
    return "DOCKER-USER" if users and base.name == "FORWARD" and ref.index is None else base.name


def both_ways(stack: Stack, ref: RuleRef, hop: Hop) -> tuple[Action, ...]:
    """Accept rules in front for what is routed from the hop's one link to the other, and back."""
    there = Accepting(in_link=hop.in_link, out_link=hop.out_link)
    back = Accepting(in_link=hop.out_link, out_link=hop.in_link, replies=True)
    found = (accept_in_front(stack, ref, "forward", rule) for rule in (back, there))
    return tuple(action for action in found if action is not None)
