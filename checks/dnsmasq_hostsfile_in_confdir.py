"""A list of hosts for dnsmasq lies where it is also read as configuration.

Symptom: dnsmasq does not start again: "bad option at line 1".
Cause: the dhcp-hostsfile is in /etc/dnsmasq.d, every file of which is configuration. With
    "dhcp-host=" in front of each line dnsmasq starts, and ignores the file as a list.
Harmless when: the file is elsewhere, with plain MAC,IP,... lines.
Evidence: dnsmasq's configuration names a dhcp-hostsfile that lies in its conf-dir.
Fix: move the file out of /etc/dnsmasq.d, without a prefix on its lines.
Sources: dnsmasq(8) (--dhcp-hostsfile, --conf-dir)
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.programs import programs, settings
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.report import Evidence, Severity

_USUAL = "/etc/dnsmasq.d"


@survey_check(severity=Severity.ERROR, needs={Facts.DAEMONS})
def dnsmasq_hostsfile_in_confdir(survey: Survey) -> Iterator[Suspicion]:
    """Each list of hosts that a dnsmasq of the host's reads as configuration as well."""
    for daemon in programs(survey.snapshot, "dnsmasq"):
        for origin, value in settings(daemon, "dhcp-hostsfile"):
            folder = _folder(daemon, PurePosixPath(value))
            if folder is None:
                continue
            yield Suspicion(
                subject=f"{survey.snapshot.host}/dnsmasq",
                summary=f"{value}, a list of hosts, is read as configuration too, because it is in "
                f"{folder}",
                evidence=(
                    Evidence(f"dhcp-hostsfile={value}", origin),
                    Evidence(f"every file of {folder} is configuration", "dnsmasq(8) --conf-dir"),
                ),
                severity=Severity.WARNING if daemon.running else None,
            )


def _folder(daemon: Daemon, file: PurePosixPath) -> str | None:
    """The folder of configuration that a file is in, when such a file is taken for one."""
    named = [value for _, value in settings(daemon, "conf-dir")]
    for text in named or [_USUAL]:
        folder, *endings = text.split(",")
        wanted = [ending[1:] for ending in endings if ending.startswith("*")]
        left_out = [ending for ending in endings if ending and not ending.startswith("*")]
        if str(file.parent) != folder.rstrip("/") or file.name.startswith("."):
            continue
        if any(file.name.endswith(ending) for ending in left_out):
            continue
        if not wanted or any(file.name.endswith(ending) for ending in wanted):
            return folder
    return None
