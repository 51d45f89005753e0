"""What a rule sees: the packet, its devices and its connection."""

from __future__ import annotations

from dataclasses import dataclass

from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import Packet
from kvmdiag.simulate.view import StackView


@dataclass(frozen=True, slots=True)
class Context:
    """A packet at a hook.

    ``in_link`` and ``out_link`` are the devices as netfilter names them there (the bridge,
    for a bridged frame), ``in_port`` and ``out_port`` the bridge ports, known only while
    br_netfilter handles the frame. ``state`` is the connection's state as conntrack names
    it, ``None`` where conntrack is not active; ``statuses`` are snat and dnat.
    """

    view: StackView
    hook: HookName
    family: Family
    packet: Packet
    in_link: str | None = None
    out_link: str | None = None
    in_port: str | None = None
    out_port: str | None = None
    bridged: bool = False
    state: str | None = None
    statuses: frozenset[str] = frozenset()
    connection_mark: int = 0
    src_mac: str | None = None
    dst_mac: str | None = None
