"""The data of every practice network fits together."""

import re

import pytest

from kvmdiag.lab.networks import networks
from kvmdiag.lab.real_networks import REAL_NETWORKS
from kvmdiag.lab.spec import Shell, is_label

NETWORKS = tuple(networks().values())
FAULTS = [(network, fault) for network in NETWORKS for fault in network.faults]
REAL_FAULTS = [
    (network, fault) for network in REAL_NETWORKS.values() for fault in network.namespaces.faults
]


def test_the_cluster_is_found():
    """Networks are found by their files, not by a list."""
    assert "cluster" in networks()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_links_fit_together(network):
    """Each cable has two declared ends, each master is a bridge of the same machine."""
    veths, ends = set(), []
    for machine in network.machines:
        assert "-" not in machine.name
        bridges = {link.name for link in machine.links if link.kind == "bridge"}
        for link in machine.links:
            assert link.master is None or link.master in bridges
            if link.kind == "veth":
                veths.add(f"{machine.name}:{link.name}")
            if link.peer:
                ends += [f"{machine.name}:{link.name}", link.peer]
    assert sorted(ends) == sorted(veths)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_macs_are_unique(network):
    """Two links with one MAC address would be a fault; only a bridge may bear that of its port."""
    macs = [
        link.mac
        for machine in network.machines
        for link in machine.links
        if (link.mac, link.name) not in {(port.mac, port.master) for port in machine.links}
    ]
    assert len(set(macs)) == len(macs)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_host_and_hidden_machines_exist(network):
    """What a network says of its machines is about machines that it has."""
    names = {machine.name for machine in network.machines}
    assert {network.host, *network.hidden} <= names


@pytest.mark.parametrize(
    ("network", "fault"), FAULTS, ids=[f"{network.name}-{fault.name}" for network, fault in FAULTS]
)
def test_faults_are_well_formed(network, fault):
    """A fault is named after its check and its machine, and excludes others that there are."""
    kind, _, machine = fault.name.partition("@")
    machines = {known.name for known in network.machines}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind)
    assert fault.machine in machines
    assert machine in ("", fault.machine)
    assert fault.check in (None, kind)
    assert fault.steps
    assert {step.machine for step in fault.steps} <= machines
    assert not any(isinstance(step, Shell) for step in fault.steps)
    for other in fault.apart_from:
        assert network.fault(other).excludes(fault)


@pytest.mark.parametrize(
    ("network", "fault"),
    REAL_FAULTS,
    ids=[f"{network.namespaces.name}-{fault.name}" for network, fault in REAL_FAULTS],
)
def test_faults_with_real_guests_are_well_formed(network, fault):
    """They are about namespaces and guests that there are; which exclude others, too."""
    machines = {known.name for known in network.namespaces.machines}
    machines |= {guest.name for guest in network.guests}
    assert {fault.machine, *(step.machine for step in fault.steps)} <= machines
    for other in fault.apart_from:
        assert network.namespaces.fault(other).excludes(fault)


@pytest.mark.parametrize("name", sorted({*networks()} & {*REAL_NETWORKS}))
def test_a_fault_is_named_alike_with_real_guests(name):
    """Where both kinds of a network know a fault, it is in the same machine, for the same check."""
    real = {fault.name: fault for fault in REAL_NETWORKS[name].namespaces.faults}
    for fault in networks()[name].faults:
        twin = real.get(fault.name, fault)
        assert (twin.machine, twin.check) == (fault.machine, fault.check)


def test_a_bare_name_means_the_first_of_its_kind():
    """``ip-forward-off`` is ``ip-forward-off@master``, the first in the file."""
    cluster = networks()["cluster"]
    assert cluster.fault("ip-forward-off") is cluster.fault("ip-forward-off@master")
    assert cluster.fault("ip-forward-off@host").machine == "host"
    assert cluster.fault("ip-forward") is None


@pytest.mark.parametrize("text", ["", "-a", "a b", "../x", "a/b", "a\n", "a*", "a" * 41])
def test_bad_labels(text):
    """A label becomes the name of files and namespaces, so only harmless ones are taken."""
    assert not is_label(text)
