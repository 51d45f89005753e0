"""Two machines on one segment have the same address.

Symptom: connections are reset or go to one machine and then to the other; the neighbour entry
    flips.
Cause: a fixed address inside the range that DHCP gives out, or a clone of a machine with a fixed
    address.
Harmless when: VRRP or another takeover moves an address from one machine to the other; proxy ARP
    answers for others on purpose.
Evidence: two machines on the same bridge have the address.
Fix: change one of them; keep fixed addresses out of the DHCP range.
Sources: RFC 5227
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    addresses_of,
)
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import (
    ports_of,
)
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


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


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def duplicate_ip(survey: Survey) -> Iterator[Suspicion]:
    """Each address that several machines on one bridge have."""
    for bridge, address, names in _doubles(survey.stacks):
        yield Suspicion(
            subject=address,
            summary=f"{' and '.join(names)}, all on {bridge.name}, have {address}",
            evidence=tuple(Evidence(f"{address}", f"ip addr in {name}") for name in names),
        )
