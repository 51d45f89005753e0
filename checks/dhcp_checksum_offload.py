"""A guest may throw away DHCP offers whose checksum was left to hardware.

Symptom: the offer is seen on the tap, and the guest asks again; "bad udp checksums" in it.
Cause: the checksum is left to a NIC that is none; old clients read raw frames and check it. nft
    has no counterpart to iptables' CHECKSUM.
Harmless when: a wrong checksum seen where it was sent is ordinary with offloading; only the
    guest's refusal is a proof.
Evidence: a guest has no address, its network has DHCP, and no rule fills checksums in.
Fix: iptables -t mangle -A POSTROUTING -o BRIDGE -p udp --dport 68 -j CHECKSUM --checksum-fill; or
    ethtool -K TAP tx off.
Sources: iptables-extensions(8) (CHECKSUM)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import network_on
from kvmdiag.diagnose.rules import rules_of
from kvmdiag.model.report import Evidence, Severity


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def dhcp_checksum_offload(case: Case) -> Iterator[Suspicion]:
    """The source is a guest without address on a network with DHCP."""
    guest = case.stack(case.walk.question.source.stack or "")
    host = case.stack(case.snapshot.host)
    if guest is None or host is None or guest is host:
        return
    bare = [
        link
        for link in guest.links or ()
        if link.up and link.peer is not None and not addresses_of(guest, link.name)
    ]
    for link in bare:
        for stack, bridge in case.segments(link):
            network = network_on(case.snapshot, bridge.name)
            fills = any("CHECKSUM" in placed.rule.text for placed in rules_of(stack))
            if network is not None and network.dhcp and not fills:
                yield Suspicion(
                    subject=place(guest, link.name),
                    summary=f"{guest.name} has no address, and nothing fills in the checksums of "
                    "DHCP's answers",
                    evidence=(Evidence("no CHECKSUM rule", f"table mangle of {stack.name}"),),
                    proof=f"tcpdump -vni {link.name} port 68 in {guest.name}: bad udp cksum, and "
                    "offers without a request after them",
                )
