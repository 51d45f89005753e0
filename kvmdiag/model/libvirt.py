"""What libvirt says of its guests and networks."""

from __future__ import annotations

from kvmdiag.model.fact import Fact


class GuestNic(Fact, frozen=True, kw_only=True):
    """One ``<interface>`` of a domain. ``source`` is the network, bridge or lower device named.

    ``bridge`` is what a NIC on a network really is plugged into, ``mode`` that of a macvtap,
    ``virtualport`` the type of one (openvswitch, 802.1Qbh ...). ``filter_parameters`` are the
    variables given to its nwfilter. ``inbound`` and ``outbound`` are average rates in KiB/s
    that it is limited to. ``vlans`` are tags, several on a trunk.
    """

    type: str
    mac: str | None = None
    source: str | None = None
    target: str | None = None
    link_state: str = "up"
    filter: str | None = None
    filter_parameters: tuple[tuple[str, str], ...] = ()
    bridge: str | None = None
    mode: str | None = None
    model: str | None = None
    mtu: int | None = None
    inbound: int | None = None
    outbound: int | None = None
    isolated: bool = False
    vlans: tuple[int, ...] = ()
    trunk: bool = False
    virtualport: str | None = None
    port_group: str | None = None


class Domain(Fact, frozen=True, kw_only=True):
    """A guest. ``state`` in libvirt's words: running, paused, shutoff ...

    ``agent`` is the state of the guest agent's channel, connected or disconnected (unknown
    where libvirt does not tell), ``None`` when there is no such channel. ``reason`` says why it
    is in its state. ``stored_nics`` are those of its next start, ``None`` where they are the
    same or nothing is stored. ``autostart`` and ``persistent`` are ``None`` where only files
    or processes could be read.
    """

    name: str
    state: str
    nics: tuple[GuestNic, ...] = ()
    agent: str | None = None
    reason: str | None = None
    uuid: str | None = None
    autostart: bool | None = None
    persistent: bool | None = None
    stored_nics: tuple[GuestNic, ...] | None = None


class Lease(Fact, frozen=True, kw_only=True):
    """An address that a network's DHCP has given away; ``expires`` in seconds since 1970.

    ``client_id`` is by what the server knows the client (RFC 4361), where it named itself.
    """

    mac: str
    address: str
    hostname: str | None = None
    expires: int | None = None
    client_id: str | None = None


class Reservation(Fact, frozen=True, kw_only=True):
    """A ``<host>`` of a network's DHCP."""

    address: str
    mac: str | None = None
    name: str | None = None


class Network(Fact, frozen=True, kw_only=True):
    """A virtual network. ``mode`` is nat, route, open, bridge ..., ``None`` when isolated.

    ``ranges`` are the first and last address of each DHCP range. ``domain`` is its DNS domain;
    ``dns`` tells whether dnsmasq answers DNS for it. ``leases`` are ``None`` when they could
    not be read. ``changes_at_start`` are those of these fields that its stored definition has
    otherwise, and that change when it is started anew.
    """

    name: str
    active: bool
    autostart: bool = False
    bridge: str | None = None
    mode: str | None = None
    forward_link: str | None = None
    addresses: tuple[str, ...] = ()
    dhcp: bool = False
    persistent: bool | None = None
    ranges: tuple[tuple[str, str], ...] = ()
    reservations: tuple[Reservation, ...] = ()
    leases: tuple[Lease, ...] | None = None
    dns: bool = True
    domain: str | None = None
    mtu: int | None = None
    mac: str | None = None
    isolated: bool = False
    changes_at_start: tuple[str, ...] = ()

    def kept_for(self, mac: str) -> tuple[str, ...]:
        """The addresses that DHCP keeps for a MAC address: those reserved, then those leased."""
        reserved = ((entry.mac, entry.address) for entry in self.reservations)
        leased = ((entry.mac, entry.address) for entry in self.leases or ())
        return tuple(
            address
            for owner, address in (*reserved, *leased)
            if owner is not None and owner.lower() == mac.lower()
        )


class FilterRule(Fact, frozen=True, kw_only=True):
    """A rule of an nwfilter, by its XML; ``direction`` in and out are as the guest sees them."""

    action: str
    direction: str
    priority: int = 500
    match: tuple[tuple[str, str], ...] = ()
    protocol: str | None = None


class NwFilter(Fact, frozen=True, kw_only=True):
    """An nwfilter; ``includes`` are the filters it refers to."""

    name: str
    chain: str = "root"
    includes: tuple[str, ...] = ()
    rules: tuple[FilterRule, ...] = ()


class FilterBinding(Fact, frozen=True, kw_only=True):
    """An nwfilter in force on a tap."""

    tap: str
    filter: str
    parameters: tuple[tuple[str, str], ...] = ()


class Libvirt(Fact, frozen=True, kw_only=True):
    """The daemon itself. ``firewall_backend`` is what its configuration says, if anything.

    ``filters`` and ``bindings`` are ``None`` when they could not be read.
    """

    uri: str
    version: str
    firewall_backend: str | None = None
    filters: tuple[NwFilter, ...] | None = None
    bindings: tuple[FilterBinding, ...] | None = None
