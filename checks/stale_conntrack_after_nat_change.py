"""A connection keeps the translation that was decided when it began.

Symptom: the rules were corrected, and the running ping or call still fails; new ones work.
Cause: nat rules are asked once for each connection; what they said then, be it nothing, holds
    until it ends.
Harmless when: no nat chain was there before: then the correction counts at once. Or the program
    that began the connection has ended: its entry goes after its timeout.
Evidence: a connection of the asked path is tracked with another translation than the rules give
    to a new one; its timeout shows that packets of it have just passed.
Fix: conntrack -D -s SOURCE; or begin anew with another port or id.
Sources: net/netfilter/nf_nat_core.c (nf_nat_inet_fn), conntrack(8)
"""

from collections.abc import Iterator
from itertools import groupby

from kvmdiag.actions.conntrack import FlushConnections
from kvmdiag.diagnose.case import number
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.activity import Flow
from kvmdiag.model.packet import Packet
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack

# What the kernel counts down from where nobody has set it otherwise, in seconds.
_TIMEOUTS = {
    "icmp": ("net.netfilter.nf_conntrack_icmp_timeout", 30),
    "icmpv6": ("net.netfilter.nf_conntrack_icmpv6_timeout", 30),
    "udp": ("net.netfilter.nf_conntrack_udp_timeout", 30),
}
# A connection whose last packet is no older than that goes on. TCP sends again more and more
# seldom, so of it only the end can be told.
_FRESH = 5


@survey_check(severity=Severity.ERROR, needs={Facts.TABLES, Facts.CONNTRACK})
def stale_conntrack_after_nat_change(survey: Survey) -> Iterator[Suspicion]:
    """A new connection on the asked path works, and one that is there is translated otherwise."""
    for case in survey.cases() if survey.question is not None else ():
        if case.walk.question != survey.question or not case.walk.works:
            continue
        for name, hops in groupby(case.walk.request.hops, key=lambda hop: hop.stack):
            stack, passed = case.stack(name), [hop.packet for hop in hops]
            flow = None if stack is None else _stale(stack, passed[0], passed[-1])
            if stack is not None and flow is not None:
                yield _suspicion(stack, flow, passed[0], passed[-1])
                return


def _stale(stack: Stack, came: Packet, goes: Packet) -> Flow | None:
    """A connection for the packet as it comes in that does not make of it what goes out."""
    wanted = (str(goes.dst), str(goes.src))
    mine = (came.proto, str(came.src), str(came.dst))
    for flow in stack.flows or ():
        way = flow.original
        same = (flow.protocol, way.source, way.destination) == mine
        asked = way.destination_port in (None, came.dport)
        if same and asked and (flow.reply.source, flow.reply.destination) != wanted:
            return flow
    return None


def _suspicion(stack: Stack, flow: Flow, came: Packet, goes: Packet) -> Suspicion:
    goes_on = _goes_on(stack, flow)
    kept = flow.reply.destination
    how = "no translation" if kept == str(came.src) else f"the translation to {kept}"
    reply = f"src={flow.reply.source} dst={kept}"
    status = "" if "seen-reply" in flow.status else " [UNREPLIED]"
    return Suspicion(
        subject=stack.name,
        summary=f"a connection from {came.src} to {came.dst} keeps {how} in {stack.name}; "
        f"new ones get {goes.src}",
        evidence=(
            Evidence(
                f"{flow.protocol} {flow.timeout} src={came.src} dst={came.dst}{status} {reply}",
                f"conntrack -L -s {came.src} in {stack.name}",
            ),
        ),
        remedies=((FlushConnections(stack=stack.name, source=str(came.src)),),),
        severity=None if goes_on else Severity.INFO,
        decides=goes_on,
    )


def _goes_on(stack: Stack, flow: Flow) -> bool:
    """Whether packets of the connection are still being sent, as far as its timeout tells."""
    if flow.protocol not in _TIMEOUTS or flow.timeout is None:
        return flow.protocol == "tcp" and flow.tcp_state not in ("time-wait", "close", None)
    name, usual = _TIMEOUTS[flow.protocol]
    return flow.timeout >= (number(stack, name) or usual) - _FRESH
