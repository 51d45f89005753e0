"""The destination is an address that no machine on its network has.

Symptom: "Destination Host Unreachable" after three seconds; a forwarded port times out though its
    rule counts.
Cause: a mistyped address, a guest that is off or has got another one; for a port forward, a DNAT
    rule that leads to a guest that is no more.
Harmless when: the machine is off on purpose; or a port of the bridge leads out of this host, where
    it may be: then nothing is said here.
Evidence: nobody answers for it; everybody on that network can be seen, and none has it.
Fix: start the guest, or give it the address; a DNAT rule in front that leads to the machine there
    that listens on the port, when it is the only one.
Sources: net/ipv4/arp.c (arp_solicit), iptables-extensions(8) (DNAT)
"""

from collections.abc import Iterator

from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.absent import Place
from kvmdiag.diagnose.case import Case, addresses_of, owns, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.rules import backend_of, family_of, has, rule_of
from kvmdiag.diagnose.sought import sought_in_vain
from kvmdiag.model.packet import Packet
from kvmdiag.model.report import Severity
from kvmdiag.model.statements import DestinationNat
from kvmdiag.model.trace import RuleRef


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def destination_absent(case: Case) -> Iterator[Suspicion]:
    """The request's destination was asked for in its own network, and nobody has it."""
    found, target = sought_in_vain(case), case.end.packet.dst
    if found is None or str(target) != found.address or case.trace is not case.walk.request:
        return
    if not any(target in network for network in connected(found.stack, found.link.name)):
        return
    if any(owns(machine, found.address) for machine in case.stacks) or found.may_be_back(case):
        return
    rule = _translated_by(case)
    stack = None if rule is None else case.stack(rule.stack)
    sent = "" if rule is None else f", to which {rule.stack} sends what is for {_asked(case)}"
    yield Suspicion(
        subject=place(found.stack, found.link.name),
        summary=f"no machine on {found.link.name}'s network has {target}{sent}",
        evidence=(
            *((rule_fact(stack, rule),) if stack is not None and rule is not None else ()),
            found.known,
        ),
        remedies=tuple(_redirected(case, rule, found.around)) if rule is not None else (),
    )


def _translated_by(case: Case) -> RuleRef | None:
    """The rule that gave the packet its destination."""
    for hop in reversed(case.walk.request.hops):
        rule, stack = hop.decider, case.stack(hop.stack)
        if isinstance(rule, RuleRef) and stack is not None:
            placed = rule_of(stack, rule)
            if placed is not None and has(placed, DestinationNat):
                return rule
    return None


def _asked(case: Case) -> str:
    """Address and port as they were when the packet set out."""
    packet = case.walk.request.hops[0].packet
    return str(packet.dst) if packet.dport is None else f"{packet.dst} port {packet.dport}"


def _redirected(case: Case, ref: RuleRef, around: tuple[Place, ...]) -> Iterator[Remedy]:
    """In front of the rule, one that leads to the only machine there that serves the port."""
    packet, stack = case.end.packet, case.stack(ref.stack)
    rule = None if stack is None else rule_of(stack, ref)
    serving = tuple(_serving(packet, around))
    if rule is None or ref.backend == "nft" or ref.index is None or len(serving) != 1:
        return
    text = rule.text.removeprefix(f"-A {ref.chain} ")
    yield (
        InsertRule(
            stack=ref.stack,
            table="nat",
            chain=ref.chain,
            rule=text.replace(f"--to-destination {packet.dst}", f"--to-destination {serving[0]}"),
            family=family_of(ref),
            backend=backend_of(ref),
            position=ref.index + 1,
        ),
    )


def _serving(packet: Packet, around: tuple[Place, ...]) -> Iterator[str]:
    """The addresses there at which a program listens on the packet's port."""
    for machine, link in around:
        for address in addresses_of(machine, link.name):
            if any(
                (socket.protocol, socket.port) == (packet.proto, packet.dport)
                and socket.hears(str(address.ip), link.name)
                for socket in machine.sockets or ()
            ):
                yield str(address.ip)
