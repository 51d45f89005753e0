"""What libvirt says of its guests and networks, read-only.

Source: libvirt-domain.h (virDomainState), libvirt-network.h, daemons.html of libvirt.org.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kvmdiag.collect.libvirt_xml import parse_domain, parse_network
from kvmdiag.model.libvirt import Domain, Network
from kvmdiag.model.snapshot import Gap

_STATES = (
    "nostate",
    "running",
    "blocked",
    "paused",
    "shutdown",
    "shutoff",
    "crashed",
    "pmsuspended",
)
_SECONDS = 10.0
# Where the daemon of one driver, or the one for all, listens.
_SOCKETS = ("virtqemud-sock-ro", "virtqemud-sock", "libvirt-sock-ro", "libvirt-sock")


@dataclass(frozen=True)
class Guests:
    """Domains and networks; ``None`` with gaps when libvirt does not run or does not answer."""

    domains: tuple[Domain, ...] | None = None
    networks: tuple[Network, ...] | None = None
    gaps: tuple[Gap, ...] = ()


def read_libvirt(uri: str) -> Guests:
    """Ask libvirt, if it runs here. Waits for it for ten seconds at most."""
    if not _listens(uri):
        return _nothing(
            "libvirt does not run here", f"start libvirt if {uri} has guests", expected=True
        )
    answers: list[Guests] = []

    def ask() -> None:
        answers.append(_ask(uri))

    # A call into libvirt cannot be interrupted; the thread is left behind if it hangs.
    thread = threading.Thread(target=ask, daemon=True, name="libvirt")
    thread.start()
    thread.join(_SECONDS)
    if not answers:
        return _nothing(f"{uri} did not answer within {_SECONDS:g} s", "is libvirt healthy?")
    return answers[0]


def not_asked() -> Guests:
    """What is known of guests when the scope leaves libvirt out."""
    return _nothing("libvirt was not asked", "it has no part in what is looked at", expected=True)


def _ask(uri: str) -> Guests:
    import libvirt

    # Without this it prints its errors itself.
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.openReadOnly(uri)
    except libvirt.libvirtError as error:
        return _nothing(f"{uri}: {error}", "run as root, or join the group libvirt")
    try:
        domains, domain_gap = _listed("domains", uri, connection.listAllDomains, _domain)
        networks, network_gap = _listed("networks", uri, connection.listAllNetworks, _network)
    finally:
        connection.close()
    return Guests(domains, networks, (*domain_gap, *network_gap))


def _listed(
    fact: str, uri: str, list_all: Callable[[], list[Any]], make: Callable[[Any], Any]
) -> tuple[tuple[Any, ...] | None, tuple[Gap, ...]]:
    """All of a kind, or ``None`` and why; what vanishes while it is read was not there."""
    import libvirt

    gone = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_NETWORK)
    found = []
    try:
        for item in list_all():
            try:
                found.append(make(item))
            except libvirt.libvirtError as error:
                if error.get_error_code() not in gone:
                    raise
    except (libvirt.libvirtError, ValueError) as error:
        why = f"{uri}: {error}"
        return None, (Gap(stack=None, fact=fact, why=why, help="look at: virsh list --all"),)
    return tuple(found), ()


def _domain(domain: Any) -> Domain:
    state = domain.state()[0]
    name = _STATES[state] if 0 <= state < len(_STATES) else str(state)
    # The live XML of an active domain; it alone has the taps' names.
    return parse_domain(domain.XMLDesc(0), name)


def _network(network: Any) -> Network:
    return parse_network(
        network.XMLDesc(0), active=bool(network.isActive()), autostart=bool(network.autostart())
    )


def _listens(uri: str) -> bool:
    """Whether there can be an answer: a remote one is taken at its word."""
    parts = urlsplit(uri)
    if parts.scheme == "test" or parts.netloc or "+" in parts.scheme:
        return True
    if parts.path == "/session":
        folder = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "libvirt"
    else:
        folder = Path("/run/libvirt")
    return any((folder / name).exists() for name in _SOCKETS)


def _nothing(why: str, help_: str, *, expected: bool = False) -> Guests:
    gaps = (
        Gap(stack=None, fact=fact, why=why, help=help_, expected=expected)
        for fact in ("domains", "networks")
    )
    return Guests(gaps=tuple(gaps))
