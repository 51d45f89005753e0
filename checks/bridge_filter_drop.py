"""A rule for bridged frames drops what two ports of a bridge say to each other.

Symptom: guests on one bridge do not reach each other or the bridge itself, though iptables shows
    nothing; sometimes ARP fails, sometimes only IP.
Cause: a chain of nft's bridge family, or of ebtables, drops the frame; such chains see every frame,
    whatever bridge-nf-call-iptables says.
Harmless when: it is meant, as filters against spoofed addresses are; a chain whose rules let this
    frame pass.
Evidence: the frame, or the ARP question for the next hop, ends at a rule of the family bridge.
Fix: an accept rule for these ports in front of it (nft insert rule bridge ..., ebtables -I), or
    delete the rule.
Sources: net/bridge/br_forward.c, nft(8) (bridge), ebtables-nft(8)
"""

from collections.abc import Iterator
from itertools import permutations

from kvmdiag.actions.ebtables import InsertEbtablesRule
from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.diagnose.case import Case, addresses_of, link_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, Turn, check
from kvmdiag.diagnose.nets import NWFILTER_CHAINS
from kvmdiag.diagnose.rules import table_of
from kvmdiag.model.action import Action
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.netfilter import Chain, HookName, Table
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Accept
from kvmdiag.model.trace import RuleRef

# Which of the two devices of a frame are known in a hook: where it came in, where it goes out.
_KNOWN: dict[HookName, tuple[bool, bool]] = {
    "prerouting": (True, False),
    "input": (True, False),
    "forward": (True, True),
    "output": (False, True),
    "postrouting": (False, True),
}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES}, turn=Turn.LAST)
def bridge_filter_drop(case: Case) -> Iterator[Suspicion]:
    """A frame, or the question for its next hop, ends in a chain of the bridge family."""
    if case.filtered is None:
        return
    stack, rule = case.filtered
    if rule.family != "bridge" or rule.chain.startswith(NWFILTER_CHAINS):
        return
    table = table_of(stack, rule)
    ports = tuple(dict.fromkeys(_ports(case, stack)))
    actions = () if table is None else tuple(_accepting(stack, table, rule, ports))
    what = "policy" if rule.index is None else f"rule {rule.index + 1}"
    yield Suspicion(
        subject=place(stack, ports[0] if ports else case.end.link or "-"),
        summary=f"the {what} of {rule.chain}, a chain for bridged frames in {stack.name}, drops "
        f"what is sent to {case.next_hop or case.end.packet.dst}",
        evidence=(rule_fact(stack, rule),),
        remedies=(actions,) if actions else (),
    )


def _ports(case: Case, stack: Stack) -> Iterator[str]:
    """The ports of the bridge between which the conversation is, as far as they are known."""
    end = case.end
    if end.stack == stack.name:
        for name in (end.in_link, end.out_link, end.link):
            link = link_of(stack, name)
            if link is not None and link.master is not None:
                yield link.name
    wanted = {end.stack, case.walk.question.source.stack, case.walk.question.destination.stack}
    asked = case.next_hop or str(end.packet.dst)
    for link in stack.links or ():
        far = None if link.peer is None or link.master is None else case.stack(link.peer.stack)
        if far is None or link.peer is None:
            continue
        asks = far.name == end.stack and link.peer.link in (end.link, end.out_link)
        has = any(str(a.ip) == asked for a in addresses_of(far, link.peer.link))
        if asks or has or (far.name in wanted and end.stack == stack.name):
            yield link.name


def _accepting(
    stack: Stack, table: Table, rule: RuleRef, ports: tuple[str, ...]
) -> Iterator[Action]:
    """Rules in front of the base chain that let these ports speak to each other, both ways."""
    base = table.chain(rule.chain)
    if base is None or base.hook is None:
        base = next((chain for chain in table.chains if chain.hook in _KNOWN), None)
    known = None if base is None or base.hook is None else _KNOWN.get(base.hook)
    if base is None or known is None:
        return
    pairs = permutations(ports, 2) if all(known) else ((port, port) for port in ports)
    for came, goes in pairs:
        yield _accept(stack, table, base, came if known[0] else None, goes if known[1] else None)


def _accept(stack: Stack, table: Table, base: Chain, came: str | None, goes: str | None) -> Action:
    if table.backend != "nft":
        words = [f"-i {came}"] if came else []
        words += [f"-o {goes}"] if goes else []
        return InsertEbtablesRule(
            stack=stack.name,
            table="nat" if table.name == "nat" else "filter",
            chain=base.name,
            rule=" ".join([*words, "-j ACCEPT"]),
        )
    matches = tuple(
        InterfaceIs(direction="in" if word == "iifname" else "out", names=(name,))
        for word, name in (("iifname", came), ("oifname", goes))
        if name
    )
    texts = [f'iifname "{came}"'] if came else []
    texts += [f'oifname "{goes}"'] if goes else []
    return InsertNftRule(
        stack=stack.name,
        family="bridge",
        table=table.name,
        chain=base.name,
        text=" ".join([*texts, "accept"]),
        body=(*matches, Accept()),
    )
