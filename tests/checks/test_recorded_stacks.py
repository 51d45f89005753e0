"""What a machine as a whole is set to, holds and counts, on recorded facts."""

import pytest

from kvmdiag.model.activity import Conntrack
from kvmdiag.model.guest import Inside, Resolver
from kvmdiag.model.link_kinds import Vxlan
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Address, Neighbour, NextHop, Route

from .build import proved
from .recorded import Proof, every, link, network, plus_routes, prove, snapshot_with, stack, sysctls

V6 = stack(
    "vm0",
    addresses=(
        Address(link="eth0", address="192.168.1.1", prefix_length=16),
        Address(link="eth0", address="fd00::5", prefix_length=64),
    ),
)
RA = Route(destination="::/0", protocol="ra", next_hops=(NextHop(link="eth0", gateway="fe80::1"),))

# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "dns-single-label-resolved": Proof(
        snapshot_with(
            guests=(
                Inside(domain="vm0", access="full", resolver=Resolver(nameservers=("127.0.0.53",))),
            )
        ),
        snapshot_with(
            guests=(
                Inside(
                    domain="vm0",
                    access="full",
                    resolver=Resolver(nameservers=("127.0.0.53",), search=("x",)),
                ),
            )
        ),
    ),
    "guest-no-dns": Proof(
        snapshot_with(guests=(Inside(domain="vm0", access="full", resolver=Resolver()),)),
        snapshot_with(guests=(Inside(domain="vm0", access="none"),)),
    ),
    "kernel-upgraded-modules-gone": Proof(
        snapshot_with(gaps=(Gap(stack="host", fact="mdb", why="No such device", help="x"),)),
        snapshot_with(gaps=(Gap(stack="host", fact="mdb", why="not allowed", help="x"),)),
    ),
    "conntrack-table-full": Proof(
        stack(conntrack=Conntrack(count=100, maximum=100)),
        stack(conntrack=Conntrack(count=99, maximum=100)),
    ),
    "nat-port-exhaustion": Proof(
        stack(conntrack=Conntrack(count=1, maximum=9, stats={"insert_failed": 5000})),
        stack(conntrack=Conntrack(count=1, maximum=9, stats={"insert_failed": 5})),
    ),
    "neigh-table-overflow": Proof(
        every(
            sysctls(net__ipv4__neigh__default__gc_thresh3="1"),
            stack(neighbours=(Neighbour(link="eth0", address="10.0.0.1"),)),
        ),
        every(
            sysctls(net__ipv4__neigh__default__gc_thresh3="1024"),
            stack(neighbours=(Neighbour(link="eth0", address="10.0.0.1"),)),
        ),
    ),
    "ipv6-libvirt-refuses": Proof(
        every(
            network(active=False, addresses=("fd00::1/64",)),
            plus_routes("host", RA),
            sysctls(net__ipv6__conf__eth0__accept_ra="1"),
        ),
        every(
            network(active=False, addresses=("fd00::1/64",)),
            plus_routes("host", RA),
            sysctls(net__ipv6__conf__eth0__accept_ra="2"),
        ),
    ),
    "ipv6-no-egress": Proof(
        every(V6, plus_routes("vm0", RA)),
        every(V6, plus_routes("vm0", RA), plus_routes("host", RA)),
    ),
    "calico-ip-autodetect": Proof(
        link("vxlan.calico", kind="vxlan", vxlan=Vxlan(vni=1, local="192.168.0.1")),
        link("vxlan.calico", kind="vxlan", vxlan=Vxlan(vni=1, local="10.0.0.10")),
    ),
    "duplicate-ip": Proof(
        stack("vm1", addresses=(Address(link="eth0", address="192.168.1.1", prefix_length=16),)),
        stack("vm1", addresses=(Address(link="eth0", address="192.168.1.7", prefix_length=16),)),
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """One finding or more with evidence; none for what merely looks like it."""
    prove(check, CASES[check])
