"""NetworkManager may have taken a guest's tap for its own.

Symptom: a tap leaves its bridge, or is set down, without anybody having done so.
Cause: NetworkManager manages the tap and deactivates it.
Harmless when: nmcli calls it "connected (externally)".
Evidence: a tap is down or has no master; who did it cannot be read here.
Fix: unmanaged-devices=interface-name:vnet* in /etc/NetworkManager/conf.d.
Sources: NetworkManager.conf(5)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    link_fact,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity


@check(severity=Severity.INFO, needs={Facts.LINKS})
def nm_grabs_tap(case: Case) -> Iterator[Suspicion]:
    """A tap that is down or loose, while the packet is lost for want of a link."""
    for stack, link in case.guest_cables():
        if link.kind != "tun" or (link.up and link.master is not None):
            continue
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"{link.name} is {'down' if not link.up else 'in no bridge'}; NetworkManager "
            "may have done it",
            evidence=(link_fact(stack, link),),
            proof=f"nmcli device status: {link.name} is disconnected, not unmanaged",
        )
