"""One netfilter hook: conntrack, every base chain by priority, and translation.

Sources: include/uapi/linux/netfilter_ipv4.h for the priorities, nf_nat_core.c for the fact
that all nat chains run together at the priority of NAT, whatever their own is, and only
until the connection is settled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kvmdiag.model.netfilter import (
    DestinationNat,
    HookName,
    Masquerade,
    Redirect,
    SourceNat,
)
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.chains import BaseChain
from kvmdiag.simulate.conntrack import (
    UNTRACKED,
    Connection,
    Conntrack,
    Manipulation,
    Tracked,
)
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.ruleset import NatStatement, Verdict, run_base_chain
from kvmdiag.simulate.source import select_address
from kvmdiag.simulate.view import parse_address

_CONNTRACK_PRIORITY = -200
_NAT: dict[HookName, tuple[int, Manipulation]] = {
    "prerouting": (-100, "destination"),
    "output": (-100, "destination"),
    "input": (100, "source"),
    "postrouting": (100, "source"),
}


@dataclass(frozen=True, slots=True)
class HookResult:
    """What became of a packet at a hook.

    ``rule`` decided a drop, a reject or an unknown; ``translated_by`` is the rule that asked
    for a translation just now, ``None`` when an earlier one is merely carried on or undone.
    """

    kind: Literal["accept", "drop", "reject", "unknown"]
    packet: Packet
    rule: RuleRef | None = None
    reply: str | None = None
    translated_by: RuleRef | None = None
    accepted_by: RuleRef | None = None
    why: str = ""
    visited: bool = False
    tracked: Tracked | None = None


def run_hook(
    at: Context,
    conntrack: Conntrack,
    tracked: Tracked | None = None,
    next_hop: IPAddress | None = None,
) -> HookResult:
    """Run all chains that see the packet at ``at.hook``.

    ``tracked`` is what an earlier hook of this stack found out about its connection.
    ``next_hop`` is where the packet is going on its outgoing link; MASQUERADE chooses the
    address by it.
    """
    return _Hook(at, conntrack, tracked, next_hop).run()


class _Hook:
    def __init__(
        self,
        at: Context,
        conntrack: Conntrack,
        tracked: Tracked | None,
        next_hop: IPAddress | None,
    ) -> None:
        self._at = at
        self._conntrack = conntrack
        self._next_hop = next_hop
        self._tracked = tracked
        self._skip_tracking = False
        self._result = HookResult("accept", at.packet)

    def run(self) -> HookResult:
        hook, family = self._at.hook, self._at.family
        chains = self._at.view.base_chains(family, hook)
        active = family in ("ip", "ip6") and self._at.view.conntrack_active(family)
        translation = _NAT.get(hook) if active else None
        filters = [base for base in chains if base.chain.type != "nat"]
        nats = [base for base in chains if base.chain.type == "nat"]
        begins = hook in ("prerouting", "output")
        if active and not begins:
            self._track()
        for base in filters:
            priority = base.chain.priority
            if active and begins and priority > _CONNTRACK_PRIORITY:
                self._track()
            if translation is not None and priority > translation[0]:
                self._translate(nats, translation[1])
                translation = None
            if self._result.kind != "accept":
                return self._result
            self._filter(base)
            if self._result.kind != "accept":
                return self._result
        if active:
            self._track()
        if translation is not None:
            self._translate(nats, translation[1])
        return replace(self._result, visited=bool(chains), tracked=self._tracked)

    def _track(self) -> None:
        if self._tracked is None:
            self._tracked = (
                UNTRACKED if self._skip_tracking else self._conntrack.track(self._result.packet)
            )

    def _context(self) -> Context:
        at = replace(self._at, packet=self._result.packet)
        if self._tracked is None:
            return at
        return replace(
            at,
            state=self._tracked.state,
            statuses=self._tracked.statuses,
            connection_mark=self._tracked.mark,
        )

    def _filter(self, base: BaseChain) -> None:
        verdict = run_base_chain(base, self._context())
        self._take(verdict)
        if not verdict.tracked:
            self._skip_tracking = True
        if self._tracked is not None and self._tracked.connection is not None:
            self._tracked.connection.mark = verdict.connection_mark

    def _take(self, verdict: Verdict) -> None:
        kind = verdict.kind
        if kind == "continue" or kind == "return":
            raise AssertionError("a base chain always has a verdict")
        accepted = verdict.rule if kind == "accept" and _by_rule(verdict) else None
        self._result = replace(
            self._result,
            kind=kind,
            packet=verdict.packet,
            rule=None if kind == "accept" else verdict.rule,
            reply=verdict.reply,
            accepted_by=accepted or self._result.accepted_by,
            why=verdict.why,
        )

    def _translate(self, nats: list[BaseChain], manipulation: Manipulation) -> None:
        """Carry out what the connection is settled to, settling it first if it is new."""
        tracked = self._tracked
        if tracked is None or tracked.connection is None:
            return
        connection = tracked.connection
        if tracked.direction == "request" and manipulation not in connection.settled:
            self._settle(nats, connection, manipulation)
        if self._result.kind == "accept":
            packet = connection.translate(self._result.packet, tracked.direction, manipulation)
            self._result = replace(self._result, packet=packet)

    def _settle(
        self, nats: list[BaseChain], connection: Connection, manipulation: Manipulation
    ) -> None:
        """Ask the nat chains, until one of them translates (nf_nat_inet_fn)."""
        for base in nats:
            verdict = run_base_chain(base, self._context())
            self._take(verdict)
            if self._result.kind != "accept":
                return
            if verdict.nat is not None:
                self._bind(connection, verdict.nat, verdict.rule)
                break
        connection.settled |= {manipulation}

    def _bind(self, connection: Connection, nat: NatStatement, rule: RuleRef | None) -> None:
        """Let the connection remember what a nat rule asks for."""
        port = nat.ports[0] if nat.ports is not None else None
        address = self._target(nat)
        if address is None:
            self._result = replace(
                self._result,
                kind="drop",
                rule=rule,
                why=f"{self._at.out_link or self._at.in_link} has no address to translate to",
            )
            return
        if isinstance(nat, SourceNat | Masquerade):
            connection.rewrite_source(address, port)
        else:
            connection.rewrite_destination(address, port)
        self._result = replace(self._result, translated_by=rule)

    def _target(self, nat: NatStatement) -> IPAddress | None:
        """The address a translation leads to; ``None`` when there is none to take."""
        packet = self._result.packet
        match nat:
            case SourceNat():
                return parse_address(nat.first)
            case DestinationNat(first=str() as first):
                return parse_address(first)
            case DestinationNat():
                return packet.dst
            case Masquerade():
                toward = self._next_hop or packet.dst
                return select_address(self._at.view, self._at.out_link or "lo", toward)
            case Redirect():
                if self._at.hook == "output":
                    return parse_address("127.0.0.1" if packet.version == 4 else "::1")
                return select_address(self._at.view, self._at.in_link or "lo", packet.dst)


def _by_rule(verdict: Verdict) -> bool:
    return verdict.rule is not None and verdict.rule.index is not None
