"""A bond that rewrites MAC addresses is a port of a bridge.

Symptom: guests on a bonded host lose the LAN now and then.
Cause: balance-tlb and balance-alb put the bond's ports' own MAC addresses into frames and ARP,
    which confuses who is where.
Harmless when: active-backup and 802.3ad; recent kernels repair part of it.
Evidence: a bond of mode balance-tlb or balance-alb has a bridge as master.
Fix: mode active-backup, or 802.3ad with the switch's help.
Sources: Documentation/networking/bonding.rst
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def bond_alb_under_bridge(survey: Survey) -> Iterator[Suspicion]:
    """Each such bond in a bridge."""
    for stack in survey.stacks:
        for link in stack.links or ():
            bridge = link_of(stack, link.master)
            if link.bond is None or bridge is None or bridge.kind != "bridge":
                continue
            if link.bond.mode in ("balance-tlb", "balance-alb"):
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} is of mode {link.bond.mode}, which does not go with "
                    f"being a port of {bridge.name}",
                    evidence=(Evidence(link.bond.mode, f"/proc/net/bonding/{link.name}"),),
                )
