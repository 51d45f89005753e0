"""Two machines on one segment have the same MAC address.

Symptom: only one of them works, or they take turns; the bridge's table shows the address move
    between ports.
Cause: a guest was cloned with its <mac>, or made from a template that holds one.
Harmless when: they are on different segments, or one is off; a tap's fe:... is its guest's 52:...
    and no duplicate; VRRP's 00:00:5e and ports of a bond share theirs.
Evidence: the NICs behind two ports of one bridge have equal addresses.
Fix: a new address for one of them (virsh edit, then start it anew); renew its lease.
Sources: net/bridge/br_fdb.c (br_fdb_update)
"""

from collections.abc import Iterator

from kvmdiag.actions.device import SetMac
from kvmdiag.diagnose.case import Case, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


def _doubles(stacks: tuple[Stack, ...]) -> Iterator[tuple[Stack, Link, Link, Stack, Link]]:
    """Host stack, bridge, second port, and the guest's NIC behind it that repeats a MAC."""
    by_name = {stack.name: stack for stack in stacks}
    for stack in stacks:
        for bridge in stack.links or ():
            if bridge.kind != "bridge":
                continue
            seen: dict[str, str] = {}
            for port in ports_of(stack, bridge.name):
                far = by_name.get(port.peer.stack) if port.peer is not None else None
                nic = None if far is None or port.peer is None else link_of(far, port.peer.link)
                mac = None if nic is None else nic.mac
                if far is None or nic is None or mac is None or mac.startswith("00:00:5e"):
                    continue
                if seen.setdefault(mac, port.name) != port.name:
                    yield stack, bridge, port, far, nic


def _suspicions(stacks: tuple[Stack, ...]) -> Iterator[Suspicion]:
    for stack, bridge, port, far, nic in _doubles(stacks):
        # Locally administered, and the same each time it is proposed.
        tail = sum(map(ord, f"{far.name}/{nic.name}")) & 0xFF
        mac = f"52:54:00:{tail:02x}:{nic.index & 0xFF:02x}:{port.index & 0xFF:02x}"
        yield Suspicion(
            subject=place(far, nic.name),
            summary=f"{nic.name} of {far.name} has the MAC address of another machine on "
            f"{bridge.name}",
            evidence=(
                Evidence(f"{nic.name} is {nic.mac}", f"ip link show {nic.name} in {far.name}"),
                Evidence(f"{port.name} is a port of {bridge.name}", f"bridge link in {stack.name}"),
            ),
            remedies=((SetMac(stack=far.name, link=nic.name, mac=mac),),),
        )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    yield from _suspicions(survey.stacks)


@check(severity=Severity.ERROR, needs={Facts.LINKS}, survey=_survey)
def duplicate_mac(case: Case) -> Iterator[Suspicion]:
    """Each repeated MAC address; the remedy tells whether it matters to this packet."""
    yield from _suspicions(case.stacks)
