"""Files of a guest: many at once by one ``grep``, or one after the other by its agent.

Source: proc(5), grep(1) of GNU and of busybox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvmdiag.collect.guest import activity, proc
from kvmdiag.collect.guest.agent import Agent, AgentError, AgentRefuses, Ran
from kvmdiag.collect.guest.programs import Programs

_SETTINGS = ("/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/bridge")
ROUTES = ("/proc/net/route", "/proc/net/ipv6_route", "/proc/net/fib_trie", "/proc/net/arp")
"""Routes and neighbours, for guests without a full ``ip``."""

OTHERS = (
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/icmp_echo_ignore_all",
    "/etc/resolv.conf",
    "/proc/modules",
    "/proc/net/ip_tables_names",
    "/proc/net/ip6_tables_names",
    "/proc/sys/kernel/osrelease",
)
"""What is read of every guest."""

_KEYS = ("rp_filter", "forwarding", "accept_local", "src_valid_mark", "arp_ignore", "arp_announce")
_GREP_ENDED = (0, 1, 2)  # 2: a kernel without IPv6 lacks some files
_RELEASE = re.compile(r"[\w.+-]{1,64}")


def settings(names: Sequence[str]) -> list[str]:
    """The settings that decide most, of links with these names, where folders cannot be read."""
    return [f"{_SETTINGS[0]}/{name}/{key}" for name in ("all", *names) for key in _KEYS]


def read(paths: Sequence[str], agent: Agent, programs: Programs | None) -> dict[str, str]:
    """The content of files by path; those that are not there are left out.

    ``programs`` is ``None`` where none may be run: then what is in folders is left out too.
    """
    return _one_by_one(paths, agent) if programs is None else _by_grep(paths, programs)


def _one_by_one(paths: Sequence[str], agent: Agent) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        try:
            found[path] = agent.read(path)
        except AgentRefuses:
            continue
        except AgentError:
            break
    return found


def _by_grep(paths: Sequence[str], programs: Programs) -> dict[str, str]:
    found: dict[str, str] = {}
    asked = {
        "folders": ("grep", ("-rsH", "", *_SETTINGS)),
        "files": ("grep", ("-sH", "", *paths, *activity.COUNTERS)),
        "sockets": ("grep", activity.LISTENING),
    }
    for key, ran in programs.run_all(asked).items():
        if not isinstance(ran, Ran):
            continue
        found.update(proc.files(ran.out))
        if key == "sockets" and ran.code in _GREP_ENDED:
            # Of a list without a listener nothing is printed.
            found = dict.fromkeys(activity.SOCKETS, "") | found
    release = found.get("/proc/sys/kernel/osrelease", "")
    if _RELEASE.fullmatch(release):
        path = f"/lib/modules/{release}/modules.builtin"
        ran = programs.run_all({"": ("grep", ("-sc", "nf_tables.ko", path))})[""]
        if isinstance(ran, Ran):
            found["builtin nf_tables"] = ran.out.strip()
    return found
