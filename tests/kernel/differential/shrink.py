"""Makes a case that walk and kernel disagree on smaller, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from differential.plan import Case, Chain, Rule, Stack, Table


def shrunk(case: Case, still_wrong: Callable[[Case], bool], tries: int = 80) -> Case:
    """The smallest case found within ``tries`` experiments that is still wrong."""
    progress = True
    while progress and tries > 0:
        progress = False
        for smaller in _smaller(case):
            tries -= 1
            if still_wrong(smaller):
                case, progress = smaller, True
                break
            if tries <= 0:
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Every case with one piece less, the big pieces first."""
    if len(case.asks) > 1:
        yield from (replace(case, asks=(ask,)) for ask in case.asks)
    yield from _without_stacks(case)
    for number, stack in enumerate(case.stacks):
        for less in _smaller_stack(stack):
            stacks = (*case.stacks[:number], less, *case.stacks[number + 1 :])
            yield replace(case, stacks=stacks)


def _without_stacks(case: Case) -> Iterator[Case]:
    for gone in case.stacks[1:]:
        if any(ask.source == gone.name for ask in case.asks):
            continue
        ends = {c.one for c in case.cables} | {c.other for c in case.cables}
        kept = tuple(c for c in case.cables if gone.name not in (c.one[0], c.other[0]))
        left = {c.one for c in kept} | {c.other for c in kept}
        stacks = tuple(
            replace(
                stack,
                links=tuple(
                    link
                    for link in stack.links
                    if (stack.name, link.name) in left or (stack.name, link.name) not in ends
                ),
            )
            for stack in case.stacks
            if stack is not gone
        )
        yield replace(case, stacks=stacks, cables=kept)


def _smaller_stack(stack: Stack) -> Iterator[Stack]:
    for field in ("tables", "rules", "sysctls", "routes", "extra"):
        entries = getattr(stack, field)
        for number in range(len(entries)):
            yield replace(stack, **{field: entries[:number] + entries[number + 1 :]})
    for number, table in enumerate(stack.tables):
        for less in _smaller_table(table):
            tables = (*stack.tables[:number], less, *stack.tables[number + 1 :])
            yield replace(stack, tables=tables)
    for number, link in enumerate(stack.links):
        if link.port:
            links = (*stack.links[:number], replace(link, port=()), *stack.links[number + 1 :])
            yield replace(stack, links=links)


def _smaller_table(table: Table) -> Iterator[Table]:
    for number, chain in enumerate(table.chains):
        for less in _smaller_chain(chain):
            chains = (*table.chains[:number], less, *table.chains[number + 1 :])
            yield replace(table, chains=chains)


def _smaller_chain(chain: Chain) -> Iterator[Chain]:
    for number, rule in enumerate(chain.rules):
        before, after = chain.rules[:number], chain.rules[number + 1 :]
        yield replace(chain, rules=before + after)
        for index in range(len(rule.matches)):
            matches = rule.matches[:index] + rule.matches[index + 1 :]
            yield replace(chain, rules=(*before, Rule(matches, rule.does), *after))
    if chain.policy != "accept":
        yield replace(chain, policy="accept")
