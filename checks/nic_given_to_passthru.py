"""A macvlan or macvtap in passthru mode takes everything that comes in by the host's NIC.

Symptom: the host, and all guests that reach the outside by it, lose the network when one guest
    starts or a macvlan is made; ARP on that NIC is never answered.
Cause: <interface type='direct'> with mode='passthrough', or "ip link add ... type macvlan mode
    passthru", on a NIC that the host itself uses: what is for one machine alone goes up to the
    macvlan, be it up or not, and what is for all to both.
Harmless when: the NIC is meant for that guest alone (an SR-IOV function, a second NIC) and has no
    address of the host's.
Evidence: the way ends at that macvlan, or the answer to ARP does.
Fix: mode='bridge' in the guest's XML, or another NIC; a macvlan that nobody needs: ip link del dev
    NAME.
Sources: drivers/net/macvlan.c (macvlan_handle_frame), https://libvirt.org/formatdomain.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, address_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import LinkStateRef
from kvmdiag.simulate.segment.stacked import is_passthru, lower_of


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def nic_given_to_passthru(case: Case) -> Iterator[Suspicion]:
    """A packet, or the answer to a question, ends at a passthru macvlan that it is not for."""
    ref, end = case.decider, case.end
    at = (ref.stack, ref.link) if isinstance(ref, LinkStateRef) else (end.stack, end.link)
    stack = case.stack(at[0])
    link = None if stack is None else link_of(stack, at[1])
    if stack is None or link is None or not is_passthru(link):
        return
    lower = lower_of(stack.name, link)
    owner = None if lower is None else case.stack(lower.stack)
    if lower is None or owner is None:
        return
    yield Suspicion(
        subject=place(stack, link.name),
        summary=f"{link.name} takes all that comes in by {lower.link}, which {owner.name} uses "
        "itself",
        evidence=(
            Evidence(
                f"{link.name} is in mode passthru", f"ip -d link show {link.name} in {stack.name}"
            ),
            address_fact(owner, lower.link),
        ),
    )
