"""A guest's NIC exists under another name than its configuration has.

Symptom: after a change of machine type, slot or system a guest's NIC is there and is not
    configured.
Cause: the predictable name changed (ens3 became enp1s0), and netplan or ifcfg names the old one.
Harmless when: the configuration matches by MAC address; or the NIC is not meant to be used.
Evidence: the guest's NIC is down and has no address, and the guest has no other.
Fix: in the guest: match by macaddress, or the new name in its configuration.
Sources: systemd.net-naming-scheme(7), netplan(5)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, addresses_of, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES})
def guest_nic_renamed(case: Case) -> Iterator[Suspicion]:
    """The source is a guest all of whose NICs are down and bare."""
    stack = case.stack(case.walk.question.source.stack or "")
    if stack is None or stack.name == case.snapshot.host:
        return
    nics = [link for link in stack.links or () if link.kind in (None, "veth") and link.mac]
    nics = [link for link in nics if not link.is_loopback]
    if not nics or any(link.up or addresses_of(stack, link.name) for link in nics):
        return
    yield Suspicion(
        subject=place(stack, nics[0].name),
        summary=f"nothing in {stack.name} configures {nics[0].name}: it may be named otherwise "
        "in its configuration",
        evidence=tuple(link_fact(stack, link) for link in nics),
        proof=f"inside {stack.name}: does netplan, ifcfg or NetworkManager name {nics[0].name}?",
    )
