"""All ports of the translating address may be in use.

Symptom: busy guests fail now and then to connect to one destination.
Cause: a translated connection needs a port of its own for each destination; a range of 64512, or
    one made narrow by --to-ports, is used up.
Harmless when: a few failed insertions are races of DNS over UDP.
Evidence: a stack that translates counts many failed insertions into its table of connections.
Fix: more addresses (<nat><address>), a wider range, --random-fully.
Sources: net/netfilter/nf_nat_core.c (get_unique_tuple)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.rules import source_nats
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.TABLES, Facts.CONNTRACK})
def nat_port_exhaustion(survey: Survey) -> Iterator[Suspicion]:
    """Each translating stack with failures."""
    for stack in survey.stacks:
        failed = 0 if stack.conntrack is None else stack.conntrack.stats.get("insert_failed", 0)
        if failed > 1000 and any(True for _ in source_nats(stack)):
            yield Suspicion(
                subject=stack.name,
                summary=f"{stack.name} could not track {failed} connections: it may run out of "
                "ports to translate to",
                evidence=(Evidence(f"insert_failed {failed}", f"conntrack -S in {stack.name}"),),
                proof="conntrack -L -d DESTINATION | wc -l near 64512; insert_failed still rising",
            )
