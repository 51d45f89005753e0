"""A source that a machine takes nothing from: neither packets nor questions for its address."""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, conf, sysctl_fact
from kvmdiag.diagnose.check import Remedy
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.report import Evidence
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import Reason, Stage, SysctlRef
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.source import asking_address
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood


class Refused(NamedTuple):
    """``stack`` refuses what comes from ``source`` by ``link``; ``asks`` tells it was asked ARP."""

    stack: Stack
    link: str
    source: IPAddress
    asks: bool

    @property
    def strictness(self) -> tuple[Evidence, Evidence]:
        """The two settings of the reverse path filter, the greater of which counts."""
        names = (conf("all", "rp_filter"), conf(self.link, "rp_filter"))
        return sysctl_fact(self.stack, names[0]), sysctl_fact(self.stack, names[1])

    @property
    def loosening(self) -> Remedy:
        """The filter set so that any route back will do."""
        values = ((conf(self.link, "rp_filter"), "2"),)
        return (SetSysctl(stack=self.stack.name, values=values),)

    def way_back(self, case: Case) -> Route | None:
        """The route by which the stack itself would go to that source."""
        try:
            found = case.view.stacks[self.stack.name].fib.lookup(Flow(dst=self.source))
        except (NotRead, NotUnderstood):
            return None
        return None if found is None else found.route


def refused_source(case: Case, reason: Reason) -> Refused | None:
    """Whose source is refused where: by the reverse path filter, or (MARTIAN) as one's own.

    A question is checked like a packet (arp_process routes it), and then not answered: the walk
    ends where it was asked.
    """
    if case.reason is not reason:
        return None
    end, ref = case.end, case.decider
    if end.stage is not Stage.NEIGHBOUR:
        here, link = case.here, case.ingress
        return None if here is None or link is None else Refused(here, link, end.packet.src, False)
    stack = case.stack(ref.stack) if isinstance(ref, SysctlRef) else None
    if stack is None or not isinstance(ref, SysctlRef) or case.next_hop is None:
        return None
    names = (name.split(".")[3] for name, _ in ref.values if name.count(".") > 3)
    link = next((name.replace("/", ".") for name in names if name != "all"), None)
    asker = case.view.stacks[end.stack]
    wanted = parse_address(case.next_hop)
    source = asking_address(asker, end.link or "", wanted, end.packet.src)
    return None if link is None else Refused(stack, link, source, True)
