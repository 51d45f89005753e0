"""Libvirt's NAT network on virbr0 with two guests, as many hosts have it."""

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.spec import Link, Machine

from .parts import BRIDGE_NF, ENO1, FORWARDING, UP, bridge, dhcp, dnsmasq, guest, tap, xml

_FIRST, _LAST = "192.168.122.2", "192.168.122.254"
RULES = libvirt_rules.chains() + libvirt_rules.network_rules(
    NatNetwork("virbr0", "192.168.122.0/24")
)
VIRTUAL = {"default": xml("default", "virbr0", "192.168.122.1", "nat", dhcp(_FIRST, _LAST))}
SERVER = (("host", dnsmasq("virbr0", "192.168.122.1", _FIRST, _LAST)),)
GUESTS = (
    guest("vm1", 1, "192.168.122.11/24", via="192.168.122.1"),
    guest("vm2", 2, "192.168.122.12/24", via="192.168.122.1"),
)


def host(rules: str, nft: str = "", more: tuple[Link, ...] = ()) -> Machine:
    """The host, with an uplink and what else it has beside the network."""
    return Machine(
        name="host",
        links=(
            ENO1,
            bridge("virbr0", 0x20, "192.168.122.1/24"),
            tap(1, "virbr0", "vm1"),
            tap(2, "virbr0", "vm2"),
            *more,
        ),
        routes=(UP,),
        sysctls={**FORWARDING, **BRIDGE_NF},
        rules=rules,
        nft=nft,
    )
