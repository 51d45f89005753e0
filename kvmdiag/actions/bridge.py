"""Changing bridges, their ports and their forwarding tables."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.actions.link import link_named, with_link, with_ports_settled
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import FdbEntry

Flag = Literal["isolated", "hairpin", "learning", "flood", "mcast_flood", "bcast_flood"]

# What the facts call the flags that they do not call as bridge(8) does.
_FIELDS: dict[str, str] = {"mcast_flood": "multicast_flood", "bcast_flood": "broadcast_flood"}

# As bridge(8) takes them: BR_STATE_* in include/uapi/linux/if_bridge.h.
_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")


class SetPortFlag(msgspec.Struct, frozen=True, kw_only=True):
    """``bridge link set dev PORT FLAG on|off``."""

    stack: str
    link: str
    flag: Flag
    on: bool

    @property
    def disruptive(self) -> bool:
        """An isolated port that no longer is lets others in."""
        return self.flag == "isolated" and not self.on

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``bridge link set dev PORT FLAG on``."""
        del snapshot  # the command does not depend on what was there
        return self._line(self.on)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The flag as it was."""
        link = link_named(snapshot.stack(self.stack), self.link)
        port = None if link is None else link.port
        return self._line(self.on if port is None else getattr(port, self._field))

    def persist(self, snapshot: Snapshot) -> str:
        """Libvirt sets isolation; the rest is the bridge's owner's."""
        how = "what made the port must set it so"
        if self.flag == "isolated":
            value = "yes" if self.on else "no"
            how = f"<port isolated='{value}'/> in the guest's interface XML"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The port with the flag."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None or link.port is None:
            return snapshot
        port = msgspec.structs.replace(link.port, **{self._field: self.on})
        return snapshot.with_stack(with_link(stack, msgspec.structs.replace(link, port=port)))

    @property
    def _field(self) -> str:
        return _FIELDS.get(self.flag, self.flag)

    def _line(self, on: bool) -> tuple[str, ...]:
        return ("bridge", "link", "set", "dev", self.link, self.flag, "on" if on else "off")


class SetPortForwarding(msgspec.Struct, frozen=True, kw_only=True):
    """``bridge link set dev PORT state 3``; refused where the kernel runs STP itself."""

    stack: str
    link: str

    @property
    def disruptive(self) -> bool:
        """False: a port that forwards nothing carries nobody's traffic."""
        return False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """By number: older versions of bridge(8) take no names."""
        del snapshot
        return self._line("forwarding")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The state that it had."""
        link = link_named(snapshot.stack(self.stack), self.link)
        return self._line("forwarding" if link is None or link.port is None else link.port.state)

    def persist(self, snapshot: Snapshot) -> str:
        """Without STP a port forwards as soon as it is up, unless something sets it otherwise."""
        how = f"find what sets the state of {self.link} (mstpd, a script of the NIC's vendor)"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The port in that state, and its bridge's carrier (br_set_port_state)."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None or link.port is None or not (link.up and link.carrier):
            return snapshot
        port = msgspec.structs.replace(link.port, state="forwarding")
        changed = with_link(stack, msgspec.structs.replace(link, port=port))
        return snapshot.with_stack(with_ports_settled(changed))

    def _line(self, state: str) -> tuple[str, ...]:
        number = str(_STATES.index(state)) if state in _STATES else state
        return ("bridge", "link", "set", "dev", self.link, "state", number)


class AddFdbEntry(msgspec.Struct, frozen=True, kw_only=True):
    """``bridge fdb replace MAC dev PORT master static``; takes the place of another entry."""

    stack: str
    bridge: str
    port: str
    mac: str

    @property
    def disruptive(self) -> bool:
        """False: it concerns this one guest."""
        return False

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
        return snapshot.with_stack(msgspec.structs.replace(stack, fdb=(*others, entry)))
