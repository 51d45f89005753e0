"""One netfilter hook: conntrack, every base chain by priority, and translation.

Sources: include/uapi/linux/netfilter_ipv4.h for the priorities, nf_nat_core.c for the fact
that all nat chains run together at the priority of NAT, whatever their own is, and only
until the connection is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from msgspec.structs import replace

from kvmdiag.model.netfilter import HookName
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.statements import Translation
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.facts.chains import BaseChain
from kvmdiag.simulate.facts.conntrack import UNTRACKED, Connection, Conntrack, Manipulation, Tracked
from kvmdiag.simulate.facts.translation import Wanted, unique_tuple
from kvmdiag.simulate.rules.context import Context, Seen
from kvmdiag.simulate.rules.nat_rules import asked_for
from kvmdiag.simulate.rules.ruleset import Verdict, run_base_chain

_CONNTRACK_PRIORITY = -200
_NAT: dict[HookName, tuple[int, Manipulation]] = {
    "prerouting": (-100, "destination"),
    "output": (-100, "destination"),
    "input": (100, "source"),
    "postrouting": (100, "source"),
}


class HookResult(msgspec.Struct):
    """What became of a packet at a hook.

    ``rule`` decided a drop, a reject or an unknown; ``translated_by`` is the rule that asked
    for a translation just now, ``None`` when an earlier one is merely carried on or undone.
    ``visited`` is true when there are chains at the hook; ``matched`` are the rules that
    were found to match, in the order in which the packet came by.
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
    matched: tuple[RuleRef, ...] = ()


def run_hook(
    at: Context,
    conntrack: Conntrack,
    tracked: Tracked | None = None,
    next_hop: IPAddress | None = None,
    chains: tuple[BaseChain, ...] | None = None,
    choose: Callable[[Verdict], int] | None = None,
    reroute: Callable[[Packet], bool] | None = None,
) -> HookResult:
    """Run all chains that see the packet at ``at.hook``, or only ``chains``.

    ``tracked`` is what an earlier hook of this stack found out about its connection.
    ``next_hop`` is where the packet is going on its outgoing link; MASQUERADE chooses the
    address by it. ``choose`` says which way to go where that cannot be told; without it the
    packet ends there as unknown. ``reroute`` is told of what the stack itself sends whenever
    that has to be routed anew, and says whether there is a way; without one nothing follows.
    """
    family = at.family
    if chains is None:
        chains = at.view.base_chains(family, at.hook)
    active = family in ("ip", "ip6") and at.view.conntrack_active(family)
    if not chains and not active:
        return HookResult("accept", at.packet, tracked=tracked)
    hook = _Hook(at, conntrack, tracked, next_hop, choose, reroute)
    result = hook.run(chains, active=active)
    if active and result.kind == "accept" and at.hook in ("input", "postrouting"):
        hook.confirm()
    result.tracked = hook.seen.tracked
    if hook.seen.matched:
        result.matched = tuple(hook.seen.matched)
    return result


class _Hook:
    def __init__(
        self,
        at: Context,
        conntrack: Conntrack,
        tracked: Tracked | None,
        next_hop: IPAddress | None,
        choose: Callable[[Verdict], int] | None,
        reroute: Callable[[Packet], bool] | None,
    ) -> None:
        self._at = at
        self._conntrack = conntrack
        self._next_hop = next_hop
        self._choose = choose
        self._reroute = reroute
        self._astray = False
        self.seen = Seen(at, at.packet, tracked, conntrack.set_changes)
        self._result = HookResult("accept", at.packet)

    def run(self, chains: tuple[BaseChain, ...], *, active: bool) -> HookResult:
        result, hook = self._result, self._at.hook
        result.visited = bool(chains)
        translation = _NAT.get(hook) if active else None
        nats = [base for base in chains if base.chain.type == "nat"]
        begins = hook in ("prerouting", "output")
        if active and not begins:
            self._track()
        for base in chains:
            if base.chain.type == "nat":
                continue
            priority = base.chain.priority
            if active and begins and priority > _CONNTRACK_PRIORITY:
                self._track()
            if translation is not None and priority > translation[0]:
                self._translate(nats, translation[1])
                translation = None
            if self._goes_on():
                self._ask(base)
            if not self._goes_on():
                return result
        if active:
            self._track()
        if translation is not None:
            self._translate(nats, translation[1])
        return result

    def _goes_on(self) -> bool:
        return self._result.kind == "accept" and not self._astray

    def confirm(self) -> None:
        """Enter the connection into the table: the last thing of all there (nf_confirm)."""
        tracked = self.seen.tracked
        if tracked is not None and tracked.connection is not None:
            tracked.connection.confirmed = True

    def _track(self) -> None:
        seen = self.seen
        if seen.tracked is None:
            seen.tracked = (
                UNTRACKED if seen.notrack else self._conntrack.track(seen.packet, seen.zone)
            )
            seen.connection_mark = seen.tracked.mark

    def _ask(self, base: BaseChain) -> Verdict:
        """Run a base chain and take over what it says and what it changed."""
        seen, result = self.seen, self._result
        verdict = run_base_chain(base, seen)
        if verdict.ways and self._choose is not None:
            verdict, changed, _ = verdict.ways[self._choose(verdict)]
            seen.adopt(changed)
        result.kind = verdict.kind
        if verdict.kind != "accept":
            result.rule, result.reply, result.why = verdict.rule, verdict.reply, verdict.why
        elif verdict.rule.index is not None:
            result.accepted_by = verdict.rule
        remarked = seen.mark != result.packet.mark
        if remarked or seen.life != result.packet.ttl:
            self._set(replace(result.packet, mark=seen.mark, ttl=seen.life))
        # Only where a route chain marks it (nf_route_table_hook4, ipt_mangle_out).
        if remarked and base.chain.type == "route" and verdict.kind == "accept":
            self._route_again()
        if seen.tracked is not None and seen.tracked.connection is not None:
            seen.tracked.connection.mark = seen.connection_mark
        return verdict

    def _route_again(self) -> None:
        """Right there, before the chains that follow (ip_route_me_harder)."""
        if self._reroute is not None and not self._reroute(self._result.packet):
            self._astray = True

    def _set(self, packet: Packet) -> None:
        self._result.packet = packet
        self.seen.take(packet)

    def _translate(self, nats: list[BaseChain], manipulation: Manipulation) -> None:
        """Carry out what the connection is settled to, settling it first if it is new."""
        tracked = self.seen.tracked
        if tracked is None or tracked.connection is None:
            return
        connection = tracked.connection
        first = tracked.direction == "request" and tracked.state != "related"
        if first and manipulation not in connection.settled:
            self._settle(nats, connection, manipulation)
        if self._result.kind == "accept":
            packet = connection.translate(self._result.packet, tracked.direction, manipulation)
            if packet is not self._result.packet:
                elsewhere = packet.dst != self._result.packet.dst
                self._set(packet)
                if elsewhere and self._at.hook == "output":
                    self._route_again()

    def _settle(
        self, nats: list[BaseChain], connection: Connection, manipulation: Manipulation
    ) -> None:
        """Ask the nat chains, until one of them translates (nf_nat_inet_fn).

        A connection that began before there were any is shown to them as long as nobody has
        answered it, but not translated any more (nf_nat_setup_info).
        """
        for base in nats:
            verdict = self._ask(base)
            if self._result.kind != "accept":
                return
            if verdict.nat is not None and not connection.confirmed:
                self._bind(connection, verdict.nat, verdict.rule, manipulation)
                break
        else:
            if self._at.view.has_nat(self._at.family) and not connection.confirmed:
                # Untranslated, unless its answers would be another's (nf_nat_alloc_null_binding).
                now = connection.translated
                mine = now.src if manipulation == "source" else now.dst
                self._become(connection, Wanted(mine, mine), manipulation)
        if not connection.confirmed:
            connection.settled |= {manipulation}

    def _become(self, connection: Connection, wanted: Wanted, manipulation: Manipulation) -> None:
        taken = partial(self._conntrack.taken, but=connection)
        connection.become(unique_tuple(connection.translated, wanted, manipulation, taken))

    def _bind(
        self,
        connection: Connection,
        nat: Translation,
        rule: RuleRef,
        manipulation: Manipulation,
    ) -> None:
        """Let the connection remember what a nat rule asks for."""
        result = self._result
        wanted = asked_for(nat, self._at, result.packet, manipulation, self._next_hop)
        if wanted is None:
            result.kind, result.rule = "drop", rule
            result.why = f"{self._at.out_link or self._at.in_link} has no address to translate to"
            return
        self._become(connection, wanted, manipulation)
        result.translated_by = rule
