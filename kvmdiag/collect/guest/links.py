"""Links of a guest that has no full ``ip``: what its agent and its ``/sys/class/net`` tell.

As in ``guest_iproute``, what is not as expected raises ValueError, LookupError or TypeError, and
nothing else. Source: Documentation/ABI/testing/sysfs-class-net; net/bridge/br_sysfs_br.c,
br_sysfs_if.c; drivers/net/tun.c (tun_flags); net/8021q/vlanproc.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from kvmdiag.collect.guest.agent import AgentNic
from kvmdiag.collect.guest.values import checked_mac, checked_name
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef, Tap, Vlan

_UP = 0x1
_TAP = 0x2
_CLASS = "/sys/class/net"
_OWN = ("ifindex", "iflink", "mtu", "flags", "carrier", "operstate", "uevent", "tun_flags")
# Behind the link to the master stands what the master says of itself.
_MASTER = "master/uevent"
_BRIDGE = {
    "stp": "stp_state",
    "forward_delay": "forward_delay",
    "vlan_filtering": "vlan_filtering",
    "nf_call_iptables": "nf_call_iptables",
    "nf_call_ip6tables": "nf_call_ip6tables",
    "nf_call_arptables": "nf_call_arptables",
    "multicast_snooping": "multicast_snooping",
}
_PORT = {
    "isolated": "isolated",
    "hairpin": "hairpin_mode",
    "learning": "learning",
    "flood": "unicast_flood",
    "multicast_flood": "multicast_flood",
    "broadcast_flood": "broadcast_flood",
}
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
# Hardware, as far as paths are concerned.
_NO_KIND = ("wlan", "wwan", "gadget", None)


def files(names: Sequence[str]) -> Iterator[str]:
    """The files that are read of links with these names; most have but some of them."""
    for name in names:
        below = (
            *_OWN,
            _MASTER,
            *(f"bridge/{file}" for file in _BRIDGE.values()),
            *(f"brport/{file}" for file in ("state", *_PORT.values())),
        )
        yield from (f"{_CLASS}/{name}/{file}" for file in below)
        yield f"/proc/net/vlan/{name}"


def links(nics: Sequence[AgentNic], content: Mapping[str, str], guest: str) -> tuple[Link, ...]:
    """Links from what the agent tells of NICs, with what /sys adds; ``guest`` is their stack."""
    read = [_Read(number, nic, content) for number, nic in enumerate(nics, 1)]
    by_index = {one.index: one for one in read}
    return tuple(one.link(by_index, guest) for one in read)


class _Read:
    """What the files say of one link."""

    def __init__(self, number: int, nic: AgentNic, content: Mapping[str, str]) -> None:
        self._nic = nic
        self._content = content
        self.name = checked_name(nic.name)
        self.index = int(self._told("ifindex", str(number)))
        self._far = int(self._told("iflink", str(self.index)))

    def _told(self, file: str, default: str = "") -> str:
        return self._content.get(f"{_CLASS}/{self.name}/{file}", default).strip()

    def _said(self, file: str, key: str) -> str | None:
        """The value behind ``KEY=`` in a file of such lines."""
        for line in self._told(file).splitlines():
            name, _, value = line.partition("=")
            if name == key and value:
                return checked_name(value.strip())
        return None

    def _kind(self) -> str | None:
        told = self._said("uevent", "DEVTYPE")
        if told not in _NO_KIND:
            return told
        if self._told("tun_flags"):
            return "tun"
        # Only the end of a pair has a link elsewhere and no type.
        return "veth" if told is None and self._far not in (0, self.index) else None

    def link(self, by_index: Mapping[int, _Read], guest: str) -> Link:
        kind = self._kind()
        far = by_index.get(self._far) if self._far != self.index else None
        # In another namespace the same number is another link.
        paired = far is not None and far._far == self.index and far._kind() == "veth"
        peer = LinkRef(guest, far.name) if kind == "veth" and far and paired else None
        hardware = self._nic.hardware_address
        return Link(
            index=self.index,
            name=self.name,
            kind=kind,
            type="loopback" if self.name == "lo" else "ether",
            mac=checked_mac(hardware) if hardware else None,
            mtu=int(self._told("mtu", "1500")),
            up=bool(int(self._told("flags", "0x1"), 16) & _UP),
            carrier=self._told("carrier", "1") != "0",
            operstate=checked_name(self._told("operstate", "unknown")),
            master=self._said(_MASTER, "INTERFACE"),
            lower=far.name if far and kind != "veth" else None,
            peer=peer,
            # The far end of a container's cable is in a namespace that was not looked into.
            guest=f"a namespace in {guest}" if kind == "veth" and peer is None else None,
            bridge=self._bridge() if kind == "bridge" else None,
            port=self._port(),
            tap=self._tap() if kind == "tun" else None,
            vlan=self._vlan() if kind == "vlan" else None,
        )

    def _settings(self, folder: str, wanted: Mapping[str, str]) -> dict[str, int]:
        told = {key: self._told(f"{folder}/{file}") for key, file in wanted.items()}
        return {key: int(value) for key, value in told.items() if value}

    def _bridge(self) -> Bridge:
        found = self._settings("bridge", _BRIDGE)
        return replace(
            Bridge(),
            **{key: n if key == "forward_delay" else bool(n) for key, n in found.items()},
        )

    def _port(self) -> BridgePort | None:
        state = self._told("brport/state")
        if not state:
            return None
        flags = {key: bool(n) for key, n in self._settings("brport", _PORT).items()}
        return replace(BridgePort(state=_PORT_STATES[int(state)]), **flags)

    def _tap(self) -> Tap:
        return Tap(mode="tap" if int(self._told("tun_flags"), 16) & _TAP else "tun")

    def _vlan(self) -> Vlan | None:
        """``eth0.5  VID: 5  REORDER_HDR: 1 ...``, as the first line says."""
        words = self._content.get(f"/proc/net/vlan/{self.name}", "").split()
        return Vlan(vid=int(words[words.index("VID:") + 1])) if "VID:" in words else None
