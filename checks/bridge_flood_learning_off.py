"""A bridge port is not flooded, and nothing leads to the guest behind it.

Symptom: broadcasts reach a guest and unicast does not; or nobody ever learns the guest's MAC
    address, because ARP does not reach it.
Cause: learning and flooding are off (macTableManager='libvirt', Proxmox' disabled MAC learning),
    and the forwarding table has no entry for the guest's MAC address; or broadcasts (bcast_flood
    off) or unknown multicasts (mcast_flood off), and with them the questions for neighbours,
    are kept from the port.
Harmless when: there is a static entry for each MAC address behind the port: that is what these
    settings are for. Without broadcasts: nobody has to find the guest, or others know its MAC
    address for good.
Evidence: both flags are off, and no entry of the forwarding table holds the guest's MAC address;
    or a question for the guest's address ends at the port.
Fix: bridge fdb add MAC dev PORT master static; find why the tool that manages the table did not.
    For questions: bridge link set dev PORT bcast_flood on (IPv6: mcast_flood on).
Sources: net/bridge/br_forward.c (br_flood), bridge(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.bridge import AddFdbEntry, Flag, SetPortFlag
from kvmdiag.diagnose.case import Case, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.ports import stopped_at_port
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


def _deaf(stack: Stack) -> Iterator[tuple[Link, str]]:
    """Ports that nothing leads to, each with the MAC address behind it."""
    known = {(entry.port, entry.mac) for entry in stack.fdb or ()}
    for link in stack.links or ():
        if link.port is None or link.port.learning or link.port.flood or not link.up:
            continue
        mac = link.mac.replace("fe:", "52:", 1) if link.mac and link.kind == "tun" else None
        if mac is not None and (link.name, mac) not in known:
            yield link, mac


def _behind(case_stacks: tuple[Stack, ...], stack: Stack) -> Iterator[tuple[Link, str]]:
    known = {(entry.port, entry.mac) for entry in stack.fdb or ()}
    for link in stack.links or ():
        far = next((s for s in case_stacks if link.peer and s.name == link.peer.stack), None)
        nic = None if far is None or link.peer is None else link_of(far, link.peer.link)
        quiet = link.port is not None and not link.port.learning and not link.port.flood
        if quiet and nic is not None and nic.mac and (link.name, nic.mac) not in known:
            yield link, nic.mac


def _survey(survey: Survey) -> Iterator[Suspicion]:
    for stack in survey.stacks:
        found = dict.fromkeys((*_behind(survey.stacks, stack), *_deaf(stack)))
        for link, mac in found:
            yield _suspicion(stack, link, mac)


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.FDB}, survey=_survey)
def bridge_flood_learning_off(case: Case) -> Iterator[Suspicion]:
    """Each port on the way that neither learns nor is flooded, or is kept from questions."""
    yield from _unasked(case)
    passed = {hop.stack for hop in case.walk.hops}
    for stack in case.stacks:
        if stack.name in passed:
            for link, mac in _behind(case.stacks, stack):
                yield _suspicion(stack, link, mac)


def _unasked(case: Case) -> Iterator[Suspicion]:
    """The port that a question for a neighbour was kept from."""
    found = stopped_at_port(case, Reason.NO_FLOOD)
    if found is None:
        return
    flag: Flag = "bcast_flood" if case.end.packet.version == 4 else "mcast_flood"
    port, stack, name = found.port, found.stack, found.link.name
    if port.broadcast_flood if flag == "bcast_flood" else port.multicast_flood:
        return
    yield Suspicion(
        subject=place(stack, name),
        summary=f"{name} is not flooded with what is for everybody: nobody who asks for "
        f"{case.next_hop} is heard behind it",
        evidence=(found.flag_fact(f"{flag} off"),),
        remedies=((SetPortFlag(stack=stack.name, link=name, flag=flag, on=True),),),
    )


def _suspicion(stack: Stack, link: Link, mac: str) -> Suspicion:
    bridge = link.master or "-"
    return Suspicion(
        subject=place(stack, link.name),
        summary=f"{link.name} neither learns nor is flooded, and {bridge} has no entry for {mac} "
        "behind it",
        evidence=(
            Evidence(
                f"{link.name} learning off flood off",
                f"bridge -d link show dev {link.name} in {stack.name}",
            ),
            Evidence(f"no entry for {mac}", f"bridge fdb show br {bridge} in {stack.name}"),
        ),
        remedies=((AddFdbEntry(stack=stack.name, bridge=bridge, port=link.name, mac=mac),),),
    )
