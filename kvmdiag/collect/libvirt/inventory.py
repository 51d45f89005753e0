"""Guests and networks, from libvirt's daemon or else from its files and QEMU's processes.

Source: daemons.html of libvirt.org.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from kvmdiag.collect.libvirt import files
from kvmdiag.collect.libvirt.daemon import Guests, NoDaemonError, ask_daemon, nothing
from kvmdiag.collect.libvirt.files import Places
from kvmdiag.collect.libvirt.qemu_processes import read_processes
from kvmdiag.model.snapshot import Gap

_SECONDS = 10.0
# Where the daemon of one driver, or the one for all, listens.
_SOCKETS = ("virtqemud-sock-ro", "virtqemud-sock", "libvirt-sock-ro", "libvirt-sock")


def read_libvirt(uri: str, places: Places, netns: tuple[int, int]) -> Guests:
    """Ask libvirt, if it runs here; waits for it for ten seconds at most.

    Without its daemon its files below ``places`` and QEMU's processes in the host's network
    namespace tell what they can.
    """
    if not _listens(uri):
        return _without_daemon(places, netns, "libvirt does not run here", absent=True)
    answers: list[Guests | NoDaemonError] = []

    def ask() -> None:
        try:
            answers.append(ask_daemon(uri, places))
        except NoDaemonError as error:
            answers.append(error)

    # A call into libvirt cannot be interrupted; the thread is left behind if it hangs.
    thread = threading.Thread(target=ask, daemon=True, name="libvirt")
    thread.start()
    thread.join(_SECONDS)
    answer = answers[0] if answers else f"{uri} did not answer within {_SECONDS:g} s"
    if isinstance(answer, Guests):
        return answer
    if _is_elsewhere(uri):
        return nothing(str(answer), "see whether virsh -c reaches it")
    return _without_daemon(places, netns, str(answer))


def read_files(places: Places, netns: tuple[int, int]) -> Guests:
    """What libvirt's files tell where no daemon of it is meant to run."""
    found = _without_daemon(places, netns, "libvirt is not meant to run here")
    gaps = tuple(
        msgspec.structs.replace(gap, help="nothing is missing", expected=True) for gap in found.gaps
    )
    return replace(found, gaps=gaps)


def not_asked() -> Guests:
    """What is known of guests when the scope leaves libvirt out."""
    return nothing("libvirt was not asked", "it has no part in what is looked at", expected=True)


def _without_daemon(
    places: Places, netns: tuple[int, int], why: str, *, absent: bool = False
) -> Guests:
    """What libvirt's files and QEMU's processes tell; ``absent`` when nobody expected a daemon."""
    try:
        domains = {domain.name: domain for domain in files.domains(places)}
        networks = files.networks(places)
        for guest in read_processes(netns):
            known = domains.get(guest.name)
            if known is None or known.state == "shutoff":
                domains[guest.name] = guest
    except (OSError, ValueError) as error:
        return nothing(f"{why}, and its files cannot be read: {error}", "run as root (sudo)")
    if not domains and not networks:
        return nothing(why, "start libvirt if this host has guests of it", expected=absent)
    gap = Gap(
        stack=None,
        fact="libvirt",
        why=f"{why}: guests and networks are from its files and from QEMU's processes",
        help="start libvirt: systemctl start libvirtd, or virtqemud and virtnetworkd",
    )
    found = tuple(domains[name] for name in sorted(domains))
    return Guests(domains=found, networks=networks, gaps=(gap,))


def _listens(uri: str) -> bool:
    """Whether there can be an answer: who names a machine or a socket is taken at his word."""
    parts = urlsplit(uri)
    if _is_elsewhere(uri) or "socket" in parse_qs(parts.query):
        return True
    if parts.path == "/session":
        folder = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "libvirt"
    else:
        folder = Path("/run/libvirt")
    try:
        return any((folder / name).exists() for name in _SOCKETS)
    except PermissionError:
        return True  # libvirt itself says what may not be done


def _is_elsewhere(uri: str) -> bool:
    """Whether the files of this machine say nothing about it."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return parts.scheme == "test" or bool(parts.netloc) or transport not in ("", "unix")
