"""Links, addresses and routes on the way of a packet, on recorded facts."""

import pytest

from kvmdiag.model.link import Bridge, BridgePort, LinkRef
from kvmdiag.model.link_kinds import Macvlan
from kvmdiag.model.stack import FdbEntry

from .build import proved
from .recorded import (
    MAC1,
    Proof,
    address,
    domain,
    every,
    link,
    network,
    no_address,
    no_default_route,
    prove,
    rule,
    snapshot_with,
    stack,
    without_link,
)

OUT = ("vm0", "10.0.0.9")
PEER = ("vm0", "192.168.1.2")
NOBODY = ("vm0", "192.168.9.9")
# Without libvirt, virbr0 is a bridge that somebody made by hand.
BY_HAND = snapshot_with(networks=())
UPLINK = {"mac": "02:00:00:00:00:09"}
PORT = {**UPLINK, "master": "virbr0", "port": BridgePort()}


def port(**flags: object) -> BridgePort:
    """A bridge port with other flags."""
    return BridgePort(**flags)


def routed(*addresses: str):
    """Libvirt means the network to be routed, and nothing translates it."""
    return every(
        network(mode="route"),
        rule("-j RETURN", "POSTROUTING", "nat"),
        *(address("eth0", text) for text in addresses),
    )


# vm1 is on the LAN by a macvtap of its own.
BY_MACVTAP = every(
    without_link("vnet1"),
    no_address("eth0", "vm1"),
    address("eth0", "10.0.0.77/24", "vm1"),
    link("eth0", "vm1", peer=LinkRef("host", "tap9")),
    link(
        "tap9",
        kind="macvtap",
        mac=MAC1,
        lower="eth0",
        peer=LinkRef("vm1", "eth0"),
        macvlan=Macvlan(mode="bridge"),
    ),
)

# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "link-admin-down": Proof(
        link("virbr0", up=False, carrier=False, operstate="down"),
        link("virbr1", kind="bridge", bridge=Bridge(), up=False, carrier=False),
        OUT,
        says="cause",
    ),
    "host-no-default-route": Proof(
        no_default_route(), no_default_route(), ("vm0", "8.8.8.8"), OUT, says="cause"
    ),
    "bridge-uplink-missing": Proof(
        every(BY_HAND, link("eth9", **UPLINK)),
        link("eth9", **UPLINK),
        NOBODY,
        says="cause",
    ),
    "bridge-uplink-no-carrier": Proof(
        every(BY_HAND, link("eth9", **PORT, carrier=False)),
        every(
            BY_HAND,
            link("eth9", **PORT, carrier=False),
            link("eth8", mac="02:00:00:00:00:08", master="virbr0", port=BridgePort()),
        ),
        NOBODY,
        says="cause",
    ),
    "bridge-without-ip": Proof(
        no_address("virbr0"),
        every(
            no_address("virbr0"),
            network(mode=None, addresses=()),
            no_default_route("vm0"),
            no_default_route("vm1"),
        ),
        OUT,
        ("host", "vm0"),
        says="cause",
        trap_says="context",
    ),
    "guest-no-lease-or-address": Proof(
        no_address("eth0", "vm0"),
        link("eth1", "vm0", mac="52:54:00:02:00:00", peer=LinkRef("host", "vnet9")),
        OUT,
        says="cause",
    ),
    "guest-nic-renamed": Proof(
        every(no_address("eth0", "vm0"), link("eth0", "vm0", up=False, carrier=False)),
        link("eth1", "vm0", mac="52:54:00:02:00:00", up=False, carrier=False),
        OUT,
        says="context",
    ),
    "guest-link-state-down": Proof(
        every(domain(link_state="down"), link("eth0", "vm0", carrier=False, operstate="down")),
        domain(link_state="up"),
        OUT,
        says="cause",
    ),
    "tap-no-carrier": Proof(
        link("vnet0", carrier=False, operstate="down"),
        link("vnet9", kind="tun", master="virbr0", carrier=False, port=BridgePort()),
        OUT,
        says="cause",
    ),
    "guest-wrong-bridge": Proof(
        every(
            link("virbr1", kind="bridge", mac="02:00:00:00:00:04", bridge=Bridge()),
            address("virbr1", "172.16.0.1/24"),
            link("vnet0", master="virbr1"),
        ),
        every(
            link("virbr1", kind="bridge", mac="02:00:00:00:00:04", bridge=Bridge()),
            address("virbr1", "172.16.0.1/24"),
            address("virbr0", "172.16.9.1/24"),
        ),
        OUT,
        says="cause",
    ),
    "stp-forward-delay": Proof(
        every(
            link("virbr0", bridge=Bridge(stp=True)),
            link("vnet0", port=port(state="listening")),
        ),
        link("virbr0", bridge=Bridge(stp=False, forward_delay=1500)),
        OUT,
        says="cause",
    ),
    "fdb-arp-stale-after-migration": Proof(
        every(
            link("vnet1", port=port(learning=False)),
            stack(fdb=(FdbEntry(bridge="virbr0", port="vnet0", mac=MAC1, static=True),)),
        ),
        stack(fdb=(FdbEntry(bridge="virbr0", port="vnet1", mac=MAC1, static=True),)),
        PEER,
    ),
    "macvtap-host-guest-isolated": Proof(
        BY_MACVTAP, BY_MACVTAP, ("host", "10.0.0.77"), ("vm1", "10.0.0.9"), says="context"
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """Asked about a path: what decides it is named, and what does not is not."""
    prove(check, CASES[check])
