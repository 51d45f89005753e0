"""The rules that libvirt's iptables backend makes for its networks.

Source: libvirt, src/network/network_iptables.c. Every network adds its rules to the same
five chains of table filter, and one with NAT to one chain each of nat and mangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_CHAINS = """\
*filter
:LIBVIRT_INP - [0:0]
:LIBVIRT_OUT - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWX - [0:0]
-A INPUT -j LIBVIRT_INP
-A OUTPUT -j LIBVIRT_OUT
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
COMMIT
*nat
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
COMMIT
*mangle
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
COMMIT
"""

_SERVICES = """\
*filter
-A LIBVIRT_INP -i {bridge} -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i {bridge} -p tcp -m tcp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i {bridge} -p udp -m udp --dport 67 -j ACCEPT
-A LIBVIRT_INP -i {bridge} -p tcp -m tcp --dport 67 -j ACCEPT
-A LIBVIRT_OUT -o {bridge} -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_OUT -o {bridge} -p tcp -m tcp --dport 53 -j ACCEPT
-A LIBVIRT_OUT -o {bridge} -p udp -m udp --dport 68 -j ACCEPT
-A LIBVIRT_OUT -o {bridge} -p tcp -m tcp --dport 68 -j ACCEPT
"""

_FORWARDED = """\
-A LIBVIRT_FWO -s {subnet} -i {bridge} -j ACCEPT
-A LIBVIRT_FWI -d {subnet} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
"""

_WITHIN = """\
-A LIBVIRT_FWO -i {bridge} -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWI -o {bridge} -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i {bridge} -o {bridge} -j ACCEPT
COMMIT
"""

_TRANSLATED = """\
*nat
-A LIBVIRT_PRT -s {subnet} -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s {subnet} -d 255.255.255.255/32 -j RETURN
{masquerade}
COMMIT
*mangle
-A LIBVIRT_PRT -o {bridge} -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill
COMMIT
"""

_NETWORK = _SERVICES + _FORWARDED + _WITHIN + _TRANSLATED
_ISOLATED = _SERVICES + _WITHIN
_ROUTED = f"""\
{_SERVICES}\
-A LIBVIRT_FWO -s {{subnet}} -i {{bridge}} -j ACCEPT
-A LIBVIRT_FWI -d {{subnet}} -o {{bridge}} -j ACCEPT
{_WITHIN}"""

_MASQUERADE = (
    "LIBVIRT_PRT -s {subnet} ! -d {subnet} -p tcp -j MASQUERADE --to-ports 1024-65535",
    "LIBVIRT_PRT -s {subnet} ! -d {subnet} -p udp -j MASQUERADE --to-ports 1024-65535",
    "LIBVIRT_PRT -s {subnet} ! -d {subnet} -j MASQUERADE",
)


class NatNetwork(NamedTuple):
    """A libvirt network with ``<forward mode='nat'/>``."""

    bridge: str
    subnet: str


def chains() -> str:
    """The chains and the jumps to them, which all networks share."""
    return _CHAINS


def network_rules(network: NatNetwork) -> str:
    """The rules of one network; the chains must be there."""
    masquerade = "\n".join(f"-A {line}" for line in _masquerade(network))
    return _NETWORK.format(bridge=network.bridge, subnet=network.subnet, masquerade=masquerade)


def routed_rules(network: NatNetwork) -> str:
    """The rules of a network with ``<forward mode='route'/>``: new connections may come in."""
    return _ROUTED.format(bridge=network.bridge, subnet=network.subnet)


def isolated_rules(bridge: str) -> str:
    """The rules of a network without ``<forward>``: guests reach each other and the host."""
    return _ISOLATED.format(bridge=bridge)


def without_masquerade(network: NatNetwork) -> str:
    """What takes the address translation of a network away again."""
    return "\n".join(["*nat", *(f"-D {line}" for line in _masquerade(network)), "COMMIT", ""])


def _masquerade(network: NatNetwork) -> Sequence[str]:
    return [line.format(subnet=network.subnet) for line in _MASQUERADE]
