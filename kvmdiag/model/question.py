"""The path somebody asks about."""

from __future__ import annotations

import msgspec

from kvmdiag.model.packet import Protocol


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a path.

    ``text`` is what the user wrote. ``stack`` is ``None`` for an address that no stack of
    the snapshot owns. ``link`` is set when a NIC was named (``node1:ens6``): as a source it
    binds the packet to that link, as ``ping -I`` does. ``address`` is ``None`` for a source
    whose address the kernel selects. ``assumed`` lists what had to be taken for granted.
    """

    text: str
    stack: str | None = None
    link: str | None = None
    address: str | None = None
    assumed: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """From where, to where, with what. ``destination.address`` is always set.

    ``size`` is the length of the whole IP packet in bytes, where it matters. ``source_port``,
    of ICMP the id, is that of a connection that exists already; the packet is then one in the
    midst of it.
    """

    source: Endpoint
    destination: Endpoint
    proto: Protocol = "icmp"
    port: int | None = None
    size: int | None = None
    source_port: int | None = None
