"""What libvirt says of its guests and networks, read-only.

Source: libvirt-domain.h (virDomainState), libvirt-network.h, daemons.html of libvirt.org.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from kvmdiag.collect import libvirt_files
from kvmdiag.collect.libvirt_files import Places
from kvmdiag.collect.libvirt_xml import parse_binding, parse_domain, parse_filter, parse_network
from kvmdiag.collect.qemu_processes import read_processes
from kvmdiag.model.libvirt import Domain, GuestNic, Lease, Libvirt, Network
from kvmdiag.model.snapshot import Gap

_T = TypeVar("_T")

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
# virDomainRunningReason, virDomainPausedReason and virDomainShutoffReason, as virsh names them.
_WHY = {
    "running": (
        "booted",
        "migrated",
        "restored",
        "from snapshot",
        "unpaused",
        "migration canceled",
        "save canceled",
        "event wakeup",
        "crashed",
        "post-copy",
    ),
    "paused": (
        "user",
        "migrating",
        "saving",
        "dumping",
        "I/O error",
        "watchdog",
        "from snapshot",
        "shutting down",
        "creating snapshot",
        "crashed",
        "starting up",
        "post-copy",
        "post-copy failed",
        "API error",
    ),
    "shutoff": (
        "shutdown",
        "destroyed",
        "crashed",
        "migrated",
        "saved",
        "failed",
        "from snapshot",
        "daemon",
    ),
}
_REASONS = {
    (state, number): word for state, words in _WHY.items() for number, word in enumerate(words, 1)
}
_SECONDS = 10.0
# Where the daemon of one driver, or the one for all, listens.
_SOCKETS = ("virtqemud-sock-ro", "virtqemud-sock", "libvirt-sock-ro", "libvirt-sock")


@dataclass(frozen=True)
class Guests:
    """Domains and networks; ``None`` with gaps when they could not be read."""

    domains: tuple[Domain, ...] | None = None
    networks: tuple[Network, ...] | None = None
    libvirt: Libvirt | None = None
    gaps: tuple[Gap, ...] = ()


def read_libvirt(uri: str, places: Places, netns: tuple[int, int]) -> Guests:
    """Ask libvirt, if it runs here; waits for it for ten seconds at most.

    Without its daemon its files below ``places`` and QEMU's processes in the host's network
    namespace tell what they can.
    """
    if not _listens(uri):
        return _without_daemon(places, netns, "libvirt does not run here", absent=True)
    answers: list[Guests] = []

    def ask() -> None:
        answers.append(_ask(uri, places))

    # A call into libvirt cannot be interrupted; the thread is left behind if it hangs.
    thread = threading.Thread(target=ask, daemon=True, name="libvirt")
    thread.start()
    thread.join(_SECONDS)
    if not answers:
        why = f"{uri} did not answer within {_SECONDS:g} s"
        return _without_daemon(places, netns, why)
    return answers[0]


def read_files(places: Places, netns: tuple[int, int]) -> Guests:
    """What libvirt's files tell where no daemon of it is meant to run."""
    found = _without_daemon(places, netns, "libvirt is not meant to run here")
    gaps = tuple(
        msgspec.structs.replace(gap, help="nothing is missing", expected=True) for gap in found.gaps
    )
    return replace(found, gaps=gaps)


def not_asked() -> Guests:
    """What is known of guests when the scope leaves libvirt out."""
    return _nothing("libvirt was not asked", "it has no part in what is looked at", expected=True)


def _without_daemon(
    places: Places, netns: tuple[int, int], why: str, *, absent: bool = False
) -> Guests:
    """What libvirt's files and QEMU's processes tell; ``absent`` when nobody expected a daemon."""
    try:
        domains = {domain.name: domain for domain in libvirt_files.domains(places)}
        networks = libvirt_files.networks(places)
        for guest in read_processes(netns):
            known = domains.get(guest.name)
            if known is None or known.state == "shutoff":
                domains[guest.name] = guest
    except (OSError, ValueError) as error:
        return _nothing(f"{why}, and its files cannot be read: {error}", "run as root (sudo)")
    if not domains and not networks:
        return _nothing(why, "start libvirt if this host has guests of it", expected=absent)
    gap = Gap(
        stack=None,
        fact="libvirt",
        why=f"{why}: guests and networks are from its files and from QEMU's processes",
        help="start libvirt: systemctl start libvirtd, or virtqemud and virtnetworkd",
    )
    found = tuple(domains[name] for name in sorted(domains))
    return Guests(domains=found, networks=networks, gaps=(gap,))


def _ask(uri: str, places: Places) -> Guests:
    import libvirt

    # Without this it prints its errors itself.
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.openReadOnly(uri)
    except libvirt.libvirtError as error:
        return _nothing(f"{uri}: {error}", "run as root, or join the group libvirt")
    gaps: list[Gap] = []

    def listed(
        fact: str, list_all: Callable[[], list[Any]], make: Callable[[Any], _T]
    ) -> tuple[_T, ...] | None:
        try:
            return tuple(_each(list_all, make))
        except (libvirt.libvirtError, ValueError) as error:
            help_ = "look at: virsh list --all"
            gaps.append(Gap(stack=None, fact=fact, why=f"{uri}: {error}", help=help_))
            return None

    try:
        domains = listed("domains", connection.listAllDomains, _domain)
        networks = listed("networks", connection.listAllNetworks, lambda net: _network(net, places))
        daemon = Libvirt(
            uri=uri,
            version=_version(connection.getLibVersion()),
            firewall_backend=libvirt_files.firewall_backend(places),
            filters=listed(
                "nwfilters", connection.listAllNWFilters, lambda f: parse_filter(f.XMLDesc(0))
            ),
            bindings=listed(
                "nwfilter bindings",
                connection.listAllNWFilterBindings,
                lambda binding: parse_binding(binding.XMLDesc(0)),
            ),
        )
    except libvirt.libvirtError as error:
        return _nothing(f"{uri}: {error}", "is libvirt healthy?")
    finally:
        connection.close()
    return Guests(domains, networks, daemon, tuple(gaps))


def _each(list_all: Callable[[], list[Any]], make: Callable[[Any], _T]) -> Iterator[_T]:
    """All of a kind; what vanishes while it is read was not there."""
    import libvirt

    gone = (
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_NETWORK,
        libvirt.VIR_ERR_NO_NWFILTER,
        libvirt.VIR_ERR_NO_NWFILTER_BINDING,
    )
    try:
        items = list_all()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return  # a driver without such things has none
        raise
    for item in items:
        try:
            yield make(item)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in gone:
                raise


def _domain(domain: Any) -> Domain:
    import libvirt

    number, why = domain.state()
    state = _STATES[number] if 0 <= number < len(_STATES) else str(number)
    # The live XML of an active domain; it alone has the taps' names.
    live = parse_domain(domain.XMLDesc(0), state)
    persistent = bool(domain.isPersistent())
    stored = None
    if persistent and state != "shutoff":
        stored_xml = _stored(domain, libvirt.VIR_DOMAIN_XML_INACTIVE)
        stored = None if stored_xml is None else parse_domain(stored_xml, "shutoff").nics
        if stored is not None and _comparable(stored) == _comparable(live.nics):
            stored = None
    return msgspec.structs.replace(
        live,
        reason=_REASONS.get((state, why)),
        autostart=bool(domain.autostart()) if persistent else None,
        persistent=persistent,
        stored_nics=stored,
    )


def _stored(item: Any, flag: int) -> str | None:
    """The XML of the next start; ``None`` where a driver has no such thing."""
    import libvirt

    try:
        return str(item.XMLDesc(flag))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
            return None
        raise


def _comparable(nics: tuple[GuestNic, ...]) -> tuple[GuestNic, ...]:
    """Without what a NIC only has while its guest runs."""
    return tuple(msgspec.structs.replace(nic, target=None, bridge=None) for nic in nics)


def _network(network: Any, places: Places) -> Network:
    import libvirt

    active, autostart = bool(network.isActive()), bool(network.autostart())
    live = parse_network(network.XMLDesc(0), active=active, autostart=autostart)
    persistent = bool(network.isPersistent())
    xml = _stored(network, libvirt.VIR_NETWORK_XML_INACTIVE) if active and persistent else None
    leases = _leases(network) if active else ()
    return msgspec.structs.replace(
        live,
        persistent=persistent,
        changes_at_start=() if xml is None else _changes(live, xml),
        leases=libvirt_files.leases(places, live.bridge) if leases is None else leases,
    )


def _changes(live: Network, xml: str) -> tuple[str, ...]:
    """The fields that the stored definition has otherwise."""
    stored = parse_network(xml, active=live.active, autostart=live.autostart)
    # libvirt gives a network its MAC address when it first starts.
    fields = (name for name in live.__struct_fields__ if name != "mac")
    return tuple(name for name in fields if getattr(live, name) != getattr(stored, name))


def _leases(network: Any) -> tuple[Lease, ...] | None:
    import libvirt

    try:
        told = network.DHCPLeases()
    except libvirt.libvirtError:
        return None
    return tuple(
        Lease(
            mac=str(lease.get("mac") or "").lower(),
            address=str(ip_address(lease["ipaddr"])),
            hostname=lease.get("hostname"),
            expires=lease.get("expirytime"),
            client_id=lease.get("clientid"),
        )
        for lease in told or ()
    )


def _version(number: int) -> str:
    """Libvirt writes 9.0.0 as 9000000."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


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
