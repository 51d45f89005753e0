"""Deleting rules of policy routing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import PolicyRule

REFUSING = ("blackhole", "unreachable", "prohibit")
"""Actions of rules that refuse packets."""


class DeletePolicyRule(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a rule that refuses, exactly as it is in the snapshot.

    Not for rules with selectors that were not understood: they could not be put back.
    """

    stack: str
    rule: PolicyRule
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip rule del priority N ...``, with all that tells it from others of that priority."""
        del snapshot  # the command does not depend on what was there
        return (*self._ip, "rule", "del", *self._words)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip rule add ...``."""
        del snapshot
        return (*self._ip, "rule", "add", *self._words)

    def persist(self, snapshot: Snapshot) -> str:
        """Nothing in the kernel tells who made it."""
        who = "take it out of netplan (routing-policy), the .network file or the VPN's script"
        return keep(snapshot.stack(self.stack), who)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The rules without it."""
        stack = snapshot.stack(self.stack)
        if stack.policy_rules is None:
            return snapshot
        kept = tuple(rule for rule in stack.policy_rules if rule != self.rule)
        return snapshot.with_stack(msgspec.structs.replace(stack, policy_rules=kept))

    @property
    def _ip(self) -> tuple[str, ...]:
        return ("ip", "-6") if self.rule.version == 6 else ("ip",)

    @property
    def _words(self) -> tuple[str, ...]:
        inverted = ("not",) if self.rule.invert else ()
        return (*inverted, "priority", str(self.rule.priority), *self._selectors())

    def _selectors(self) -> Iterator[str]:
        """As ip-rule(8) takes them."""
        rule = self.rule
        named = {
            "from": rule.source,
            "to": rule.destination,
            "iif": rule.iif,
            "oif": rule.oif,
            "ipproto": rule.protocol,
            "sport": _ports(rule.source_ports),
            "dport": _ports(rule.destination_ports),
            "dsfield": f"{rule.tos:#x}" if rule.tos else None,
            "fwmark": _mark(rule),
        }
        for key, value in named.items():
            if value is not None:
                yield from (key, value)
        yield rule.action


def _ports(span: tuple[int, int] | None) -> str | None:
    if span is None:
        return None
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def _mark(rule: PolicyRule) -> str | None:
    if rule.fwmark is None and rule.fwmask is None:
        return None
    mask = 0xFFFFFFFF if rule.fwmask is None else rule.fwmask
    return f"{rule.fwmark or 0:#x}/{mask:#x}"
