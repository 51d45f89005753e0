"""An accept rule stands behind the rule that ends the packet, so it is never asked.

Symptom: "I added the ACCEPT rule and it still fails", often after libvirt or Docker was
    restarted. A rule that such a restart will put behind is told before it happens.
Cause: the rule was appended behind a rule that ends the packet, or libvirt or Docker put their
    own chains in front again.
Harmless when: what stands in front lets the packet pass; order matters only among rules that
    match it.
Evidence: the packet ends at one rule, and further on in the same hook of the same table a rule
    would accept it; its counter stays where it is.
Fix: insert the accept in front: iptables -I instead of -A, DOCKER-USER where Docker is, a libvirt
    hook that does so at each start of the network.
Sources: iptables(8), https://wiki.libvirt.org/Networking.html
"""

from collections.abc import Iterator
from typing import Literal

from kvmdiag.actions.restarts import after_docker, after_libvirt, is_foreign
from kvmdiag.actions.rule import InsertRule
from kvmdiag.actions.rule_changes import DeleteRule, MoveRule
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.forwarded import port_forwards
from kvmdiag.diagnose.rules import (
    HOOKS,
    Placed,
    base_chain,
    could_match,
    has,
    is_for_invalid,
    rules_of,
)
from kvmdiag.diagnose.survey import Survey, failure
from kvmdiag.model.matches import ConntrackStateIs
from kvmdiag.model.netfilter import Chain
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Accept
from kvmdiag.model.trace import Reason, RuleRef


def _survey(survey: Survey) -> Iterator[Suspicion]:
    """What a restart of libvirt or Docker would break, by putting its own rules in front."""
    host = survey.host
    if host is None:
        return
    forwards = tuple(port_forwards(survey.snapshot))
    for name, after in (("libvirt", after_libvirt), ("Docker", after_docker)):
        broken = list(survey.broken_by(after(survey.snapshot), forwards))
        if not broken:
            continue
        path, walk = broken[0]
        foreign = [
            placed
            for placed in rules_of(host)
            if is_foreign(placed.table, placed.chain, placed.rule) and has(placed.rule, Accept)
        ]
        more = f", nor {len(broken) - 1} other paths" if len(broken) > 1 else ""
        yield Suspicion(
            subject=f"{host.name}/{name}",
            severity=Severity.WARNING,
            summary=f"the next restart of {name} puts its own rules in front again, and then "
            f"{failure(path, walk)}{more}",
            evidence=(
                *(rule_fact(host, placed.ref(host)) for placed in foreign[:3]),
                Evidence(
                    f"after the restart it would end at: {walk.decisive.end.decider}",
                    f"the rules of {host.name} in the order in which {name} writes them",
                ),
            ),
            remedies=_remedies_before(host, foreign) if name == "libvirt" else (),
        )


def _remedies_before(host: Stack, foreign: list[Placed]) -> tuple[Remedy, ...]:
    """The same rules where libvirt leaves them alone: in front in FORWARD itself.

    In libvirt's own table of nft there is no such place; only a hook can put them back.
    """
    return tuple(
        (
            InsertRule(
                stack=host.name,
                chain="FORWARD",
                rule=placed.rule.text.removeprefix(f"-A {placed.chain.name} "),
                family="ip6" if placed.table.family == "ip6" else "ip",
                backend=placed.table.backend,
            ),
        )
        for placed in foreign
        if placed.table.backend != "nft"
    )


@check(severity=Severity.ERROR, needs={Facts.TABLES}, survey=_survey)
def accept_rule_after_reject(case: Case) -> Iterator[Suspicion]:
    """The packet ends at a rule, and one behind it would accept."""
    stack, rule = case.here, case.rule
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if rule.backend == "nft" or rule.index is None or case.end.stage not in HOOKS:
        return
    if is_for_invalid(stack, rule):
        return  # in front on purpose: what is wrong is that the packet is invalid
    late = _late_accept(case, stack, rule)
    base = base_chain(stack, rule, HOOKS[case.end.stage])
    if late is None or base is None or rule.table not in ("filter", "raw", "mangle"):
        return
    yield Suspicion(
        subject=place(stack, case.end.in_link or case.end.link or "-"),
        summary=f"{late.chain.name} would accept the packet in rule {late.index + 1}, but "
        f"{rule.chain} rule {rule.index + 1} has ended it before",
        evidence=(rule_fact(stack, rule), rule_fact(stack, late.ref(stack))),
        remedies=tuple(_remedies(stack, rule, late, base)),
    )


def _remedies(stack: Stack, rule: RuleRef, late: Placed, base: Chain) -> Iterator[Remedy]:
    """The same rule in front; or moved there; or the one that ends the packet deleted."""
    family: Literal["ip", "ip6"] = "ip6" if rule.family == "ip6" else "ip"
    backend = late.table.backend
    yield (
        InsertRule(
            stack=stack.name,
            table=rule.table,
            chain=base.name,
            rule=late.rule.text.removeprefix(f"-A {late.chain.name} "),
            family=family,
            backend=backend,
        ),
    )
    for kind, text, chain in (
        (MoveRule, late.rule.text, late.chain.name),
        (DeleteRule, rule.text, rule.chain),
    ):
        # What a program keeps in chains of its own comes back as it was.
        if chain == base.name and rule.backend == backend:
            yield (
                kind(
                    stack=stack.name,
                    table=rule.table,
                    chain=chain,
                    rule=text.removeprefix(f"-A {chain} "),
                    family=family,
                    backend=backend,
                ),
            )


def _late_accept(case: Case, stack: Stack, rule: RuleRef) -> Placed | None:
    """The accepting rule behind the one that decided, in its chain or in one asked later."""
    for placed in rules_of(stack):
        if (placed.table.name, placed.table.family, placed.table.backend) != (
            rule.table,
            rule.family,
            rule.backend,
        ):
            continue
        behind = placed.chain.hook == HOOKS[case.end.stage]
        if placed.chain.name == rule.chain:
            behind = rule.index is not None and placed.index > rule.index
        end = case.end
        if (
            behind
            and _would_accept(placed, case)
            and could_match(placed.rule, end.packet, end.in_link, end.out_link)
        ):
            return placed
    return None


def _would_accept(placed: Placed, case: Case) -> bool:
    """Whether it accepts what this packet is: the first of its connection, or an answer."""
    states = [part.states for part in placed.rule.body if isinstance(part, ConntrackStateIs)]
    wanted = "new" if case.trace is case.walk.request else "established"
    return has(placed.rule, Accept) and all(wanted in s for s in states)
