"""What libvirt says of its guests and networks."""

from __future__ import annotations

import msgspec


class GuestNic(msgspec.Struct, frozen=True, kw_only=True):
    """One ``<interface>`` of a domain. ``source`` is the network, bridge or lower device named."""

    type: str
    mac: str | None = None
    source: str | None = None
    target: str | None = None
    link_state: str = "up"
    filter: str | None = None


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A guest. ``state`` in libvirt's words: running, paused, shutoff ...

    ``agent`` is the state of the guest agent's channel, connected or disconnected (unknown
    where libvirt does not tell), ``None`` when there is no such channel.
    """

    name: str
    state: str
    nics: tuple[GuestNic, ...] = ()
    agent: str | None = None


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual network. ``mode`` is nat, route, open, bridge ..., ``None`` when isolated."""

    name: str
    active: bool
    autostart: bool = False
    bridge: str | None = None
    mode: str | None = None
    forward_link: str | None = None
    addresses: tuple[str, ...] = ()
    dhcp: bool = False
