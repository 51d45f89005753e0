"""Two machines on one segment have the same address.

Symptom: connections are reset or go to one machine and then to the other; the neighbour entry
    flips. A machine whose address its own router has as well gets no answer from it, not even to
    ARP: nobody takes anything from himself.
Cause: a fixed address inside the range that DHCP gives out, a clone of a machine with a fixed
    address, or an address left on a loopback (a service's, a router's).
Harmless when: VRRP or another takeover moves an address from one machine to the other; proxy ARP
    answers for others on purpose.
Evidence: two machines on the same bridge have the address, or one refuses what another sends from
    it as being its own.
Fix: change one of them; take it off the loopback (ip addr del ADDRESS/32 dev lo); keep fixed
    addresses out of the DHCP range.
Sources: RFC 5227, net/ipv4/fib_frontend.c (fib_validate_source)
"""

from collections.abc import Iterator

from kvmdiag.actions.address import DeleteAddress
from kvmdiag.diagnose.case import Case, address_fact, addresses_of, link_of, owns
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.refused import refused_source
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


def _doubles(stacks: tuple[Stack, ...]) -> Iterator[tuple[Link, str, tuple[str, ...]]]:
    by_name = {stack.name: stack for stack in stacks}
    for stack in stacks:
        for bridge in stack.links or ():
            if bridge.kind != "bridge":
                continue
            owners: dict[str, list[str]] = {}
            for address in addresses_of(stack, bridge.name):
                owners.setdefault(str(address.ip), []).append(stack.name)
            for port in ports_of(stack, bridge.name):
                far = by_name.get(port.peer.stack) if port.peer is not None else None
                for address in addresses_of(far, port.peer.link) if far and port.peer else ():
                    owners.setdefault(str(address.ip), []).append(far.name if far else "")
            for text, names in owners.items():
                if len(set(names)) > 1:
                    yield bridge, text, tuple(names)


def _survey(survey: Survey) -> Iterator[Suspicion]:
    """Each address that several machines on one bridge have."""
    for bridge, address, names in _doubles(survey.stacks):
        yield Suspicion(
            subject=address,
            summary=f"{' and '.join(names)}, all on {bridge.name}, have {address}",
            evidence=tuple(Evidence(f"{address}", f"ip addr in {name}") for name in names),
        )


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES}, survey=_survey)
def duplicate_ip(case: Case) -> Iterator[Suspicion]:
    """A machine refuses what another sends from an address that both have."""
    refused = refused_source(case, Reason.MARTIAN)
    if refused is None:
        return
    stack, text = refused.stack, str(refused.source)
    others = [other.name for other in case.stacks if other is not stack and owns(other, text)]
    mine = next((a for a in stack.addresses or () if a.address == text), None)
    if mine is None or not others:
        return
    link = link_of(stack, mine.link)
    spare = mine.prefix_length == 32 or (link is not None and link.is_loopback)
    delete = DeleteAddress(stack=stack.name, link=mine.link, address=mine.network)
    yield Suspicion(
        subject=text,
        summary=f"{stack.name} has {text} as well, and takes nothing from it that {others[0]} "
        "sends",
        evidence=(address_fact(stack, mine.link), Evidence(text, f"ip addr in {others[0]}")),
        remedies=((delete,),) if spare else (),
    )
