"""What libvirt's daemon says of its guests and networks, over a read-only connection.

Source: libvirt-domain.h (virDomainState), libvirt-network.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

import msgspec

from kvmdiag.collect.libvirt import files
from kvmdiag.collect.libvirt.files import Places
from kvmdiag.collect.libvirt.xml import parse_binding, parse_domain, parse_filter, parse_network
from kvmdiag.errors import KvmdiagError
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


class NoDaemonError(KvmdiagError):
    """No daemon of libvirt answers."""


@dataclass(frozen=True)
class Guests:
    """Domains and networks; ``None`` with gaps when they could not be read."""

    domains: tuple[Domain, ...] | None = None
    networks: tuple[Network, ...] | None = None
    libvirt: Libvirt | None = None
    gaps: tuple[Gap, ...] = ()


def nothing(why: str, help_: str, *, expected: bool = False) -> Guests:
    """Neither domains nor networks, and why."""
    gaps = (
        Gap(stack=None, fact=fact, why=why, help=help_, expected=expected)
        for fact in ("domains", "networks")
    )
    return Guests(gaps=tuple(gaps))


def ask_daemon(uri: str, places: Places) -> Guests:
    """What the daemon behind that URI says; it may take as long as it likes.

    Raises:
        NoDaemonError: there is none that lets us in, or it has gone meanwhile.

    """
    try:
        import libvirt
    except ImportError as error:
        raise NoDaemonError(f"libvirt's library cannot be loaded ({error})") from None

    # Without this it prints its errors itself.
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.openReadOnly(uri)
    except libvirt.libvirtError as error:
        raise NoDaemonError(f"{uri}: {error}") from None
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
            firewall_backend=files.firewall_backend(places),
            filters=listed(
                "nwfilters", connection.listAllNWFilters, lambda f: parse_filter(f.XMLDesc(0))
            ),
            bindings=listed(
                "nwfilter bindings",
                connection.listAllNWFilterBindings,
                lambda binding: parse_binding(binding.XMLDesc(0)),
            ),
        )
        if not connection.isAlive():
            raise NoDaemonError(f"{uri}: it went away while it was asked")
    except libvirt.libvirtError as error:
        raise NoDaemonError(f"{uri}: {error}") from None
    finally:
        with suppress(libvirt.libvirtError):
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
        leases=files.leases(places, live.bridge) if leases is None else leases,
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
            address=str(ip_address(lease.get("ipaddr"))),
            hostname=lease.get("hostname"),
            expires=lease.get("expirytime"),
            client_id=lease.get("clientid"),
        )
        for lease in told or ()
    )


def _version(number: int) -> str:
    """Libvirt writes 9.0.0 as 9000000."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
