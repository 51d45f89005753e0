"""Libvirt's guests and networks and what serves them, on recorded facts."""

import pytest

from kvmdiag.model.libvirt import GuestNic, Libvirt
from kvmdiag.model.link import BridgePort
from kvmdiag.model.snapshot import Gap

from .build import proved
from .recorded import (
    MAC0,
    MAC1,
    Proof,
    domain,
    every,
    leases,
    link,
    network,
    prove,
    snapshot_with,
    stack,
)

# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "clone-same-machine-id-same-ip": Proof(
        network(leases=leases((MAC0, "192.168.1.9"), (MAC1, "192.168.1.9"))),
        network(leases=leases((MAC0, "192.168.1.9"), (MAC1, "192.168.1.8"))),
    ),
    "runtime-config-lost-after-reboot": Proof(
        every(domain(), network(persistent=False)),
        every(domain(), network(persistent=True, autostart=True)),
    ),
    "dnsmasq-port-conflict": Proof(network(active=False), network(active=True)),
    "virtnetworkd-down": Proof(
        snapshot_with(gaps=(Gap(stack=None, fact="libvirt", why="refused", help="start it"),)),
        snapshot_with(gaps=(Gap(stack=None, fact="libvirt", why="none", help="", expected=True),)),
    ),
    "libvirt-fw-binary-missing": Proof(
        every(
            network(active=False),
            snapshot_with(gaps=(Gap(stack="host", fact="tables", why="no nft", help="x"),)),
        ),
        snapshot_with(gaps=(Gap(stack="host", fact="tables", why="no nft", help="x"),)),
    ),
    "qemu-user-mode": Proof(domain(type="user"), domain()),
    "qemu-bridge-helper-acl": Proof(
        every(
            domain(state="shutoff", type="bridge", source="br0"),
            snapshot_with(libvirt=Libvirt(uri="qemu:///session", version="9.0.0")),
        ),
        every(
            domain(state="shutoff", type="bridge", source="br0"),
            snapshot_with(libvirt=Libvirt(uri="qemu:///system", version="9.0.0")),
        ),
    ),
    "dhcp-double-or-rogue": Proof(
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        every(
            network(dhcp=False),
            link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        ),
    ),
    "libvirt-vlan-on-linux-bridge": Proof(
        every(domain(vlans=(7,)), snapshot_with(libvirt=Libvirt(uri="x", version="9.0.0"))),
        every(domain(vlans=(7,)), snapshot_with(libvirt=Libvirt(uri="x", version="11.1.0"))),
    ),
    "ovs-virtualport-missing": Proof(
        every(link("ovs0", kind="openvswitch"), domain(type="bridge", source="ovs0")),
        every(
            link("ovs0", kind="openvswitch"),
            domain(type="bridge", source="ovs0", virtualport="openvswitch"),
        ),
    ),
    "dhcp-pool-exhausted": Proof(
        network(ranges=(("192.168.1.2", "192.168.1.2"),), leases=leases((MAC0, "192.168.1.2"))),
        network(ranges=(("192.168.1.2", "192.168.1.3"),), leases=leases((MAC0, "192.168.1.2"))),
    ),
    "dnsmasq-dead": Proof(
        stack(sockets=()), every(network(dhcp=False, dns=False), stack(sockets=()))
    ),
    "live-vs-config-drift": Proof(
        domain(stored=(GuestNic(type="network", source="other"),)),
        domain(stored=None),
    ),
    "libvirt-net-inactive": Proof(
        every(domain(), network(active=False), stack(sockets=())),
        every(domain(), network(active=False)),  # a name server that holds port 53 is the matter
    ),
    "missing-bridge-start-fail": Proof(
        domain(state="shutoff", type="bridge", source="mybr0"),
        domain(state="shutoff", type="bridge", source="virbr0"),
    ),
    "guest-paused-tap-drops": Proof(domain(state="paused"), domain(state="pmsuspended")),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """One finding or more with evidence; none for what merely looks like it."""
    prove(check, CASES[check])
