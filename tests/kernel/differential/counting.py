"""The counters of rules that are not traced, held against what is said to die there.

That is of iptables-legacy and of nft's netdev chains. Other packets may be counted too, such as
copies that were flooded, so a counter may show more than was predicted, never less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kvmdiag.model.netfilter import Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Outcome, Reason, RuleRef, Trace, Walk


def killer(trace: Trace) -> RuleRef | None:
    """The rule or policy by which a packet is said to end."""
    by_rule = trace.reason is Reason.NETFILTER and trace.outcome in (
        Outcome.DROPPED,
        Outcome.REJECTED,
    )
    return trace.end.decider if by_rule and isinstance(trace.end.decider, RuleRef) else None


def is_traced(rule: RuleRef) -> bool:
    """Whether the trace of nf_tables, set at PREROUTING and OUTPUT, tells of the rule."""
    return rule.backend != "iptables-legacy" and rule.family != "netdev"


def uncounted(
    before: Snapshot, predicted: Iterable[tuple[Walk, ...]], after: Callable[[], Snapshot]
) -> frozenset[RuleRef]:
    """Rules that are said to stop more packets than they counted."""
    expected = Counter(
        rule
        for walks in predicted
        for walk in walks
        for trace in walk.traces
        if (rule := killer(trace)) is not None and not is_traced(rule)
    )
    if not expected:
        return frozenset()
    later = after()
    found = set()
    for rule, least in expected.items():
        then, now = _count(before, rule), _count(later, rule)
        if then is not None and now is not None and now - then < least:
            found.add(rule)
    return frozenset(found)


def _count(snapshot: Snapshot, rule: RuleRef) -> int | None:
    stack = next(stack for stack in snapshot.stacks if stack.name == rule.stack)
    for table in stack.tables or ():
        if _is_it(table, rule) and (chain := table.chain(rule.chain)) is not None:
            return chain.packets if rule.index is None else chain.rules[rule.index].packets
    return None


def _is_it(table: Table, rule: RuleRef) -> bool:
    wanted = rule.family, rule.table, rule.backend
    return (table.family, table.name, table.backend) == wanted
