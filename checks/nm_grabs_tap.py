"""NetworkManager may have taken a guest's tap for its own.

Symptom: a tap leaves its bridge, or is set down, without anybody having done so.
Cause: NetworkManager manages the tap and deactivates it.
Harmless when: nmcli calls it "connected (externally)".
Evidence: a tap is down or has no master, and NetworkManager runs without unmanaged-devices for it;
    who did it cannot be read here.
Fix: unmanaged-devices=interface-name:vnet* in /etc/NetworkManager/conf.d.
Sources: NetworkManager.conf(5)
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from kvmdiag.diagnose.case import link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import leads_to_guest, nic_behind
from kvmdiag.diagnose.programs import programs, settings
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS, Facts.DAEMONS})
def nm_grabs_tap(survey: Survey) -> Iterator[Suspicion]:
    """Each tap that is down or loose, where a NetworkManager runs that may manage it."""
    managers = [d for d in programs(survey.snapshot, "NetworkManager") if d.running]
    host = survey.host
    for link in (host.links or ()) if host is not None and managers else ():
        if host is None or link.kind != "tun" or not leads_to_guest(link):
            continue
        nic = nic_behind(survey.snapshot, link)
        loose = link.master is None and nic is not None and nic[1].type in ("network", "bridge")
        if (link.up and not loose) or _is_unmanaged(managers[0], link.name):
            continue
        yield Suspicion(
            subject=place(host, link.name),
            summary=f"{link.name} is {'in no bridge' if link.up else 'down'}; NetworkManager, "
            "which runs, may have done it",
            evidence=(
                link_fact(host, link),
                Evidence(f"no unmanaged-devices for {link.name}", "/etc/NetworkManager"),
            ),
            proof=f"nmcli device status: {link.name} is disconnected, not unmanaged",
        )


def _is_unmanaged(daemon: Daemon, link: str) -> bool:
    """Whether its configuration leaves a link of this name alone."""
    for _, value in settings(daemon, "unmanaged-devices"):
        for spec in value.replace(";", ",").split(","):
            pattern = spec.strip().removeprefix("interface-name:")
            if fnmatchcase(link, pattern):
                return True
    return False
