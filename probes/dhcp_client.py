"""Who asks for an address, and what it says: a DHCP client of the briefest kind.

Source: RFC 2131.
"""

from __future__ import annotations

import msgspec

from kvmdiag.errors import UsageError
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.probes.behind_tap import mac_behind, taps_of
from kvmdiag.probes.frame_port import FramePort, Port
from kvmdiag.probes.scapy_quiet import layers, services
from kvmdiag.probes.tap import injector

_BROADCAST = 0x8000


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: ``place`` is where offers arrive; they go out there when it is a tap."""

    name: str
    stack: Stack
    link: Link
    mac: str
    on_tap: bool
    remarks: tuple[str, ...]

    @property
    def place(self) -> LinkRef:
        """The stack and link."""
        return LinkRef(self.stack.name, self.link.name)


def client_of(snapshot: Snapshot, source: str, on_tap: bool) -> Client:
    """The client that asks for ``node1`` or ``node1:ens6``.

    Raises:
        NotReadableError: its MAC address is not known.
        UsageError: there is no such guest or NIC.

    """
    name, _, wanted = source.partition(":")
    stack = next((s for s in snapshot.stacks if s.name == name), None)
    if stack is not None and stack.netns is not None and not on_tap:
        link = _nic(stack, wanted or None)
        return Client(
            name=source, stack=stack, link=link, mac=link.mac or "", on_tap=False, remarks=()
        )
    found = next(taps_of(snapshot, name, wanted or None), None)
    if found is None:
        raise UsageError(f"no guest {source!r} with a tap on this host")
    assumed: list[str] = []
    mac = mac_behind(snapshot, *found, assumed)
    said = f"sent into {found[0].name}/{found[1].name}, as if {name} had sent it, from {mac}"
    return Client(
        name=source, stack=found[0], link=found[1], mac=mac, on_tap=True,
        remarks=(said, *assumed),
    )  # fmt: skip


def _nic(stack: Stack, wanted: str | None) -> Link:
    """The named NIC, else the first that could ask for an address."""
    for link in stack.links or ():
        usable = link.type == "ether" and link.mac and link.bridge is None
        if usable and link.name == (wanted or link.name):
            return link
    raise UsageError(f"{stack.name} has no NIC {wanted or ''}".rstrip())


def port_of(client: Client) -> Port:
    """What its frames are put on."""
    return (
        injector(client.stack, client.link)
        if client.on_tap
        else FramePort(client.stack, client.link)
    )


def discover(mac: str, transaction: int) -> bytes:
    """DISCOVER, to be answered by broadcast: the address offered is nobody's yet."""
    scapy, service = layers(), services()
    hardware = bytes.fromhex(mac.replace(":", ""))
    asked = [("message-type", "discover"), ("param_req_list", [1, 3, 6, 51]), "end"]
    return bytes(
        scapy.Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / scapy.IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 - no address yet
        / scapy.UDP(sport=68, dport=67)
        / service.BOOTP(chaddr=hardware, xid=transaction, flags=_BROADCAST)
        / service.DHCP(options=asked)
    )
