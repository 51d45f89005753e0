"""A guest is plugged into another network's bridge than the one its address is for.

Symptom: a guest has an address of one network and reaches nobody of it.
Cause: <source network='default'> instead of the bridge meant, a wrong portgroup, or a NIC added
    to the wrong bridge while running.
Harmless when: two subnets share one segment on purpose.
Evidence: the guest's address is in no network of its bridge, and is in that of another bridge.
Fix: virsh update-device GUEST nic.xml --live --config with the right source; now: ip link set TAP
    master BRIDGE.
Sources: https://libvirt.org/manpages/virsh.html#update-device
"""

from collections.abc import Iterator

from kvmdiag.actions.link import SetMaster
from kvmdiag.diagnose.case import Case, address_fact, link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected, ports_of
from kvmdiag.model.report import Severity


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def guest_wrong_bridge(case: Case) -> Iterator[Suspicion]:
    """Each cable whose guest's network is around another bridge of the same stack."""
    question = case.walk.question
    ends = {question.source.stack, question.destination.stack} - {None}
    for stack, cable in case.guest_cables():
        if cable.guest not in ends and (cable.peer is None or cable.peer.stack not in ends):
            continue
        inside = {address.network for address in case.behind(cable)}
        bridge = link_of(stack, cable.master)
        if bridge is None or bridge.kind != "bridge" or not inside:
            continue
        around = set(connected(stack, bridge.name))
        others = [port for port in ports_of(stack, bridge.name) if port.name != cable.name]
        for port in others:
            around |= {address.network for address in case.behind(port)}
        # Without an address anywhere it may lead on; a bridge without another port leads nowhere.
        if inside & around or (others and not around):
            continue
        homes = [home for home in case.homes(stack, cable) if home.name != bridge.name]
        if not homes:
            continue
        guest = cable.guest or (cable.peer.stack if cable.peer is not None else "a guest")
        yield Suspicion(
            subject=place(stack, cable.name),
            summary=f"{cable.name} of {guest} is a port of {bridge.name}; its address belongs "
            f"to {homes[0].name}",
            evidence=(link_fact(stack, cable), address_fact(stack, bridge.name)),
            remedies=tuple(
                (SetMaster(stack=stack.name, link=cable.name, master=home.name),) for home in homes
            ),
        )
