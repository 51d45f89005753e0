"""Changing bridges, their ports and their forwarding tables."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from kvmdiag.actions.keep import keep
from kvmdiag.actions.link_change import LinkChange
from kvmdiag.actions.link_effects import with_link, with_ports_settled
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import FdbEntry, Stack

Flag = Literal["isolated", "hairpin", "learning", "flood", "mcast_flood", "bcast_flood"]

# What the facts call the flags that they do not call as bridge(8) does.
_FIELDS: dict[str, str] = {"mcast_flood": "multicast_flood", "bcast_flood": "broadcast_flood"}

# As bridge(8) takes them: BR_STATE_* in include/uapi/linux/if_bridge.h.
_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")


class _PortChange(LinkChange, frozen=True, kw_only=True):
    """Something that bridge(8) sets of a port."""

    @property
    def _program(self) -> Literal["ip", "bridge"]:
        return "bridge"


class SetPortFlag(_PortChange, frozen=True, kw_only=True):
    """``bridge link set dev PORT FLAG on|off``."""

    flag: Flag
    on: bool

    @property
    def disruptive(self) -> bool:
        """An isolated port that no longer is lets others in."""
        return self.flag == "isolated" and not self.on

    @property
    def _words(self) -> tuple[str, ...]:
        return (self.flag, "on" if self.on else "off")

    def _before(self, link: Link) -> tuple[str, ...]:
        was = self.on if link.port is None else getattr(link.port, self._field)
        return (self.flag, "on" if was else "off")

    def persist(self, snapshot: Snapshot) -> str:
        """Libvirt sets isolation; the rest is the bridge's owner's."""
        how = "what made the port must set it so"
        if self.flag == "isolated":
            value = "yes" if self.on else "no"
            how = f"<port isolated='{value}'/> in the guest's interface XML"
        return keep(snapshot.stack(self.stack), how)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The port with the flag."""
        if link.port is None:
            return snapshot
        port = replace(link.port, **{self._field: self.on})
        return snapshot.with_stack(with_link(stack, replace(link, port=port)))

    @property
    def _field(self) -> str:
        return _FIELDS.get(self.flag, self.flag)


class SetPortForwarding(_PortChange, frozen=True, kw_only=True):
    """``bridge link set dev PORT state 3``; refused where the kernel runs STP itself.

    A port that forwards nothing carries nobody's traffic.
    """

    disruptive: bool = False

    @property
    def _words(self) -> tuple[str, ...]:
        return _state("forwarding")

    def _before(self, link: Link) -> tuple[str, ...]:
        return _state("forwarding" if link.port is None else link.port.state)

    def persist(self, snapshot: Snapshot) -> str:
        """Without STP a port forwards as soon as it is up, unless something sets it otherwise."""
        how = f"find what sets the state of {self.link} (mstpd, a script of the NIC's vendor)"
        return keep(snapshot.stack(self.stack), how)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The port in that state, and its bridge's carrier (br_set_port_state)."""
        if link.port is None or not (link.up and link.carrier):
            return snapshot
        port = replace(link.port, state="forwarding")
        changed = with_link(stack, replace(link, port=port))
        return snapshot.with_stack(with_ports_settled(changed, self.link))


def _state(name: str) -> tuple[str, ...]:
    """By number: older versions of bridge(8) take no names."""
    return ("state", str(_STATES.index(name)) if name in _STATES else name)


class AddFdbEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``bridge fdb replace MAC dev PORT master static``; takes the place of another entry."""

    stack: str
    bridge: str
    port: str
    mac: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``bridge fdb replace ...``."""
        del snapshot
        return ("bridge", "fdb", "replace", self.mac, "dev", self.port, "master", "static")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The static entry that was there, or none."""
        for entry in snapshot.stack(self.stack).fdb or ():
            if (entry.bridge, entry.mac) == (self.bridge, self.mac) and entry.static:
                line = ("bridge", "fdb", "replace", self.mac, "dev", entry.port)
                return (*line, "master", "static")
        return ("bridge", "fdb", "del", self.mac, "dev", self.port, "master")

    def persist(self, snapshot: Snapshot) -> str:
        """Whoever switched learning off has to feed the table."""
        return keep(
            snapshot.stack(self.stack),
            "<bridge macTableManager='libvirt'/> in the network XML makes libvirt keep the table; "
            "else a libvirt hook",
        )

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The table with the entry."""
        stack = snapshot.stack(self.stack)
        if stack.fdb is None:
            return snapshot
        entry = FdbEntry(bridge=self.bridge, port=self.port, mac=self.mac, static=True)
        others = tuple(e for e in stack.fdb if (e.bridge, e.mac) != (self.bridge, self.mac))
        return snapshot.with_stack(replace(stack, fdb=(*others, entry)))
