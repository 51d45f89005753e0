"""A machine has two NICs in one subnet on one segment, and each answers for both addresses.

Symptom: the second NIC's address is found at the first one's MAC address; traffic moves between
    them, or works one way.
Cause: Linux answers ARP for all its addresses on any NIC (the weak host model).
Harmless when: the NICs are in a bond, a VRF or have rules of their own; arp_ignore is 1 or 2.
Evidence: two NICs of one machine are in the same subnet, plugged into the same bridge, and
    arp_ignore is 0.
Fix: sysctl net.ipv4.conf.all.arp_ignore=1 and arp_announce=2, or one NIC less.
Sources: Documentation/networking/ip-sysctl.rst (arp_ignore, arp_announce, arp_filter)
"""

from collections.abc import Iterator
from itertools import combinations

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import address_fact, conf, link_of, number, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES, Facts.SYSCTLS})
def multi_nic_same_subnet_arp_flux(survey: Survey) -> Iterator[Suspicion]:
    """Each machine with two NICs in one subnet behind ports of one bridge."""
    for stack in survey.stacks:
        if number(stack, conf("all", "arp_ignore")) or len(_tables(stack)) > 1:
            continue
        links = [link for link in stack.links or () if link.peer is not None and link.up]
        for one, other in combinations(links, 2):
            shared = set(connected(stack, one.name)) & set(connected(stack, other.name))
            if not shared or _bridge(survey, one) is None:
                continue
            if _bridge(survey, one) != _bridge(survey, other):
                continue
            values = ((conf("all", "arp_ignore"), "1"), (conf("all", "arp_announce"), "2"))
            yield Suspicion(
                subject=stack.name,
                summary=f"{one.name} and {other.name} of {stack.name} are both in "
                f"{next(iter(shared))} on one segment: each answers ARP for the other",
                evidence=(
                    address_fact(stack, one.name),
                    address_fact(stack, other.name),
                    sysctl_fact(stack, conf("all", "arp_ignore")),
                ),
                remedies=((SetSysctl(stack=stack.name, values=values),),),
            )


def _tables(stack: Stack) -> set[int]:
    """The tables that routes by source were put into."""
    return {route.table for route in stack.routes or () if route.table not in (255, 253)}


def _bridge(survey: Survey, link: Link) -> LinkRef | None:
    far = next((s for s in survey.stacks if link.peer and s.name == link.peer.stack), None)
    port = None if far is None or link.peer is None else link_of(far, link.peer.link)
    if far is None or port is None or port.master is None:
        return None
    return LinkRef(far.name, port.master)
