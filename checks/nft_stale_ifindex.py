"""A rule of nft names a link by a number that no link has any more.

Symptom: after a bridge was made anew, libvirt's rules do not match any more, though they look
    right.
Cause: iif and oif hold the index of a link. When the link is gone nft prints the number, and a
    new link of the same name has another.
Harmless when: a rule that nobody needs; nft never prints a number for a link that is there.
Evidence: the text of a rule has a number behind iif or oif.
Fix: restart virtnetworkd (or libvirtd), which writes its rules anew; in one's own rules use
    iifname and oifname.
Sources: nft(8), libvirt src/network/network_nftables.c
"""

from collections.abc import Iterator
from itertools import pairwise

from kvmdiag.diagnose.case import rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.rules import Placed, rules_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack


def _stale(stack: Stack) -> Iterator[Placed]:
    for placed in rules_of(stack):
        words = placed.rule.text.replace("!=", " ").replace('"', "").split()
        if any(w in ("iif", "oif") and number.isdigit() for w, number in pairwise(words)):
            yield placed


@survey_check(severity=Severity.WARNING, needs={Facts.TABLES})
def nft_stale_ifindex(survey: Survey) -> Iterator[Suspicion]:
    """Each stack with rules for links that are gone."""
    for stack in survey.stacks:
        stale = tuple(_stale(stack))
        if stale:
            yield Suspicion(
                subject=stack.name,
                summary=f"{len(stale)} rules of {stack.name} are for links that are gone",
                evidence=tuple(rule_fact(stack, placed.ref(stack)) for placed in stale[:5]),
            )
