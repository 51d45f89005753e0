"""A macvtap guest and its own host cannot reach each other, by design.

Symptom: the guest reaches the LAN and other guests, and never its host; nor does the host reach
    it.
Cause: what a macvtap sends goes out by its lower link and never up into the host's own stack.
Harmless when: it is meant so; other machines are not affected.
Evidence: the guest's link is a macvtap, and the other end of the path is this host, on the
    macvtap's lower link.
Fix: a second NIC on an isolated network for host and guest; or give the host a macvlan of its own
    on the same lower link; or a bridge.
Sources: drivers/net/macvlan.c, https://wiki.libvirt.org/TroubleshootMacvtapHostFail.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def macvtap_host_guest_isolated(case: Case) -> Iterator[Suspicion]:
    """One end is the host, and the other is behind a macvtap on a link of the host's."""
    ends = {case.walk.question.source.stack, case.walk.question.destination.stack}
    host = case.stack(case.snapshot.host)
    if host is None or host.name not in ends:
        return
    for link in host.links or ():
        guest = link.guest or (link.peer.stack if link.peer is not None else None)
        direct = link.kind in ("macvtap", "macvlan") and link.lower is not None
        if direct and guest and guest in ends and addresses_of(host, link.lower or ""):
            yield Suspicion(
                subject=place(host, link.name),
                summary=f"{guest} is behind the macvtap {link.name} on {link.lower}, by which it "
                f"reaches everybody but {host.name} itself",
                evidence=(
                    Evidence(f"{link.kind} on {link.lower}", f"ip -d link show {link.name}"),
                ),
                by_design=True,
            )
