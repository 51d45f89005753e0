"""The table of neighbours is full.

Symptom: new machines are unreachable at random, "No buffer space available".
Cause: gc_thresh3 (1024) is reached; the table is one for all namespaces of the machine.
Harmless when: many FAILED entries after a scan, below the limit.
Evidence: as many neighbours as gc_thresh3 allows.
Fix: sysctl -w net.ipv4.neigh.default.gc_thresh3=N, and 1 and 2 in proportion.
Sources: net/core/neighbour.c (neigh_alloc), Documentation/networking/ip-sysctl.rst
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import number, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.ERROR, needs={Facts.NEIGHBOURS, Facts.SYSCTLS})
def neigh_table_overflow(survey: Survey) -> Iterator[Suspicion]:
    """The host, when all stacks together have as many neighbours as it allows."""
    host = survey.host
    name = "net.ipv4.neigh.default.gc_thresh3"
    limit = None if host is None else number(host, name)
    if host is None or not limit:
        return
    used = sum(
        ":" not in entry.address and entry.state not in ("permanent", "noarp")
        for stack in survey.stacks
        for entry in stack.neighbours or ()
    )
    if used >= limit:
        yield Suspicion(
            subject=host.name,
            summary=f"{used} neighbours are known, and {limit} are allowed",
            evidence=(sysctl_fact(host, name),),
            remedies=((SetSysctl(stack=host.name, values=((name, str(4 * limit)),)),),),
        )
