"""The table of tracked connections is full.

Symptom: new connections fail at random, old ones go on.
Cause: nf_conntrack_count has reached nf_conntrack_max.
Harmless when: a high count below the maximum; a few early drops. Each namespace has a count of
    its own.
Evidence: the count has reached the maximum; "nf_conntrack: table full, dropping packet" in dmesg.
Fix: sysctl -w net.netfilter.nf_conntrack_max=N (and more buckets), in sysctl.d after the module
    is loaded.
Sources: net/netfilter/nf_conntrack_core.c (__nf_conntrack_alloc)
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.CONNTRACK})
def conntrack_table_full(survey: Survey) -> Iterator[Suspicion]:
    """Each stack at its limit."""
    for stack in survey.stacks:
        table = stack.conntrack
        if table is None or not table.maximum or table.count < table.maximum:
            continue
        name = "net.netfilter.nf_conntrack_max"
        more = SetSysctl(stack=stack.name, values=((name, str(2 * table.maximum)),))
        yield Suspicion(
            subject=stack.name,
            summary=f"{stack.name} tracks {table.count} connections, and no more are allowed",
            evidence=(Evidence(f"{table.count} of {table.maximum}", f"conntrack of {stack.name}"),),
            remedies=((more,),),
        )
