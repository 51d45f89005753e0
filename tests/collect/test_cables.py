"""Which namespaces belong to a host, and how their cables are tied together."""

from __future__ import annotations

import os

import pytest

from kvmdiag.collect.discovery import known_namespaces, unique
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link import LinkRef
from kvmdiag.model.stack import OWN_NETNS
from kvmdiag.system.namespaces import identity


def _link(snapshot, stack, name):
    return next(link for link in snapshot.stack(stack).links if link.name == name)


def _names(snapshot):
    return [stack.name for stack in snapshot.stacks]


@pytest.fixture
def network(namespaces):
    """The outside === host === guest === nested; beside them a stranger without any cable."""
    made = {name: namespaces(name) for name in ("outside", "host", "guest", "nested", "stranger")}
    # Links made before shift the indexes, so that they are not the same at both ends.
    made["host"].ip("link add br0 type bridge", "link add br1 type bridge")
    made["outside"].cable("eth0", made["host"], "eno1")
    made["guest"].cable("ens3", made["host"], "vnet0")
    made["guest"].cable("vnet0", made["nested"], "ens3")
    return made


def _scope(network, **more):
    names = {network[name].path: name for name in network if name != "host"}
    return Scope(host=network["host"].path, names=names, libvirt=False, **more)


def test_cables_lead_from_the_host_to_all_that_belongs_to_it(network):
    """From guest to nested guest too, and not to a stranger."""
    snapshot = collect(_scope(network))
    assert _names(snapshot)[0] == "host"
    assert set(_names(snapshot)) == {"host", "guest", "nested", "outside"}
    assert _link(snapshot, "host", "vnet0").peer == LinkRef("guest", "ens3")
    assert _link(snapshot, "guest", "ens3").peer == LinkRef("host", "vnet0")
    assert _link(snapshot, "guest", "vnet0").peer == LinkRef("nested", "ens3")
    assert _link(snapshot, "nested", "ens3").peer == LinkRef("guest", "vnet0")
    assert snapshot.stack("guest").netns == network["guest"].path


def test_what_is_excluded_is_beyond_an_uplink(network):
    """The cable ends where the snapshot ends."""
    snapshot = collect(_scope(network, exclude=("kvmdiag-test-*-outside",)))
    assert set(_names(snapshot)) == {"host", "guest", "nested"}
    uplink = _link(snapshot, "host", "eno1")
    assert uplink.peer is None
    assert uplink.is_uplink
    assert not _link(snapshot, "host", "vnet0").is_uplink


def test_what_is_included_belongs_without_a_cable(network):
    """A guest whose cable was pulled is still there to be asked about."""
    network["host"].ip("link del vnet0")
    globs = tuple(f"kvmdiag-test-{os.getpid()}-*-{name}" for name in ("guest", "nested"))
    snapshot = collect(_scope(network, include=globs))
    assert set(_names(snapshot)) == {"host", "guest", "nested"}
    assert _link(snapshot, "guest", "vnet0").peer == LinkRef("nested", "ens3")


def test_a_namespace_without_a_name_is_known_by_its_process(namespaces, eventually):
    """As containers are; the cable to it leads there."""
    host = namespaces("host")
    program = host.start("unshare --net sleep 60")
    path = f"/proc/{program.pid}/ns/net"
    eventually(lambda: _elsewhere(path, host.path), "unshare did not unshare")
    host.ip(f"link add vnet0 type veth peer name eth0 netns {program.pid}")
    eventually(lambda: _command(program.pid) == "sleep", "sleep did not start")
    snapshot = collect(Scope(host=host.path, libvirt=False))
    assert _names(snapshot) == ["host", f"sleep-{program.pid}"]
    assert _link(snapshot, "host", "vnet0").peer == LinkRef(f"sleep-{program.pid}", "eth0")
    assert snapshot.stacks[1].netns == path


def test_practice_networks_do_not_belong_to_the_real_host(namespaces):
    """Unless they are asked for by name."""
    there = namespaces("there")
    assert there.name not in _names(collect(Scope(libvirt=False, exclude=("[!k]*",))))
    asked = collect(Scope(libvirt=False, include=(there.name,)))
    assert _names(asked) == ["host", there.name]
    assert asked.stack("host").netns == OWN_NETNS


def test_a_namespace_is_known_once(namespaces):
    """By its name, although processes run in it."""
    there = namespaces("there")
    there.start("sleep 60")
    known = known_namespaces().namespaces[identity(there.path)]
    assert (known.name, known.path, known.named) == (there.name, there.path, True)


def test_names_of_stacks_are_unique():
    """Whatever people call their namespaces."""
    assert unique("host", ["host", "host-2"]) == "host-3"
    assert unique("guest", ["host"]) == "guest"


def _elsewhere(path, host_path):
    return identity(path) not in (identity(host_path), identity(OWN_NETNS))


def _command(pid):
    with open(f"/proc/{pid}/comm") as comm:
        return comm.read().strip()
