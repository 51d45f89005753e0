"""A bridge holds on to a port where a guest no longer is.

Symptom: a guest is unreachable after a migration or after its NIC was moved, for minutes or until
    it sends something.
Cause: nobody announced the move, or a static entry of the forwarding table names the old port.
Harmless when: it heals by itself when the entry ages or the guest speaks; ask again before
    repairing.
Evidence: a static entry leads the guest's MAC address to another port than the one it is behind.
Fix: bridge fdb replace MAC dev PORT master static; in the guest arping -U; virsh
    qemu-monitor-command --hmp GUEST announce_self.
Sources: net/bridge/br_fdb.c, RFC 5227 section 3
"""

from collections.abc import Iterator

from kvmdiag.actions.bridge import AddFdbEntry
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import inside_of
from kvmdiag.model.report import Evidence, Severity


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.FDB})
def fdb_arp_stale_after_migration(case: Case) -> Iterator[Suspicion]:
    """Each static entry that contradicts where a NIC is."""
    for stack in case.stacks:
        ports = {link.name: link for link in stack.links or ()}
        behind = {
            inside[1].mac: name
            for name, link in ports.items()
            if (inside := inside_of(case.stacks, link)) is not None and link.master is not None
        }
        for entry in stack.fdb or ():
            real = behind.get(entry.mac)
            if not entry.static or entry.local or real in (None, entry.port) or real is None:
                continue
            if ports[real].master != entry.bridge:
                continue
            fix = AddFdbEntry(stack=stack.name, bridge=entry.bridge, port=real, mac=entry.mac)
            yield Suspicion(
                subject=place(stack, entry.port),
                summary=f"{entry.bridge} is told that {entry.mac} is behind {entry.port}; it is "
                f"behind {real}",
                evidence=(
                    Evidence(f"{entry.mac} dev {entry.port} static", f"bridge fdb in {stack.name}"),
                ),
                remedies=((fix,),),
            )
