"""What a practice network with real guests is made of, as plain data.

The host is a network namespace in which a libvirt of its own runs; its guests are virtual
machines. What lies outside is a namespace, as in the other practice networks.
"""

from __future__ import annotations

import msgspec

from kvmdiag.lab.spec import Network

IP = "/usr/sbin/ip"
"""The ``ip`` of a guest that is not its shell's own, which knows less."""


class RealNic(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC of a guest, by the name it has inside; on a libvirt network or on a bridge.

    One ``by_hand`` is attached after the guests were started, as with virsh attach-interface:
    its tap comes after those of all guests. An ``idle`` one gets no address inside. ``target``
    is the name of its tap, where that is not libvirt's to choose.
    """

    name: str
    mac: str
    network: str | None = None
    bridge: str | None = None
    by_hand: bool = False
    idle: bool = False
    target: str | None = None


class RealGuest(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual machine. ``setup`` is shell, run inside when it boots, with the NICs named."""

    name: str
    nics: tuple[RealNic, ...]
    setup: str


class RealNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """A practice network with real guests.

    ``namespaces`` are the machines that are no guests, the host among them. ``virtual`` holds
    the XML of libvirt's networks by name; all are started. ``libvirt_in`` is the machine that
    libvirt and the guests run in; when that is not the host, nobody on the host can ask it.
    """

    namespaces: Network
    virtual: dict[str, str]
    guests: tuple[RealGuest, ...]
    libvirt_in: str = "host"


def guest_xml(guest: RealGuest, kernel: str, initrd: str, log: str) -> str:
    """The domain as libvirt wants it: emulated, so that it runs wherever QEMU does."""
    nics = "".join(nic_xml(nic) for nic in guest.nics if not nic.by_hand)
    return f"""
<domain type='qemu'>
  <name>{guest.name}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 panic=1 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_crash>destroy</on_crash>
  <devices>{nics}
    <serial type='file'><source path='{log}'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>"""


def nic_xml(nic: RealNic) -> str:
    """A NIC as libvirt wants it."""
    kind, source = ("network", nic.network) if nic.network else ("bridge", nic.bridge)
    target = f"<target dev='{nic.target}'/>" if nic.target else ""
    return f"""
    <interface type='{kind}'>
      <mac address='{nic.mac}'/>{target}
      <source {kind}='{source}'/>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>"""
