"""Which namespaces belong to a host, and how their cables are tied together."""

from __future__ import annotations

import os

import pytest

from kvmdiag.collect import stacks
from kvmdiag.collect.cables import UNSEEN
from kvmdiag.collect.discovery import (
    MOST_UNCONNECTED,
    Known,
    Namespace,
    known_namespaces,
    unique,
)
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link import LinkRef
from kvmdiag.model.stack import OWN_NETNS
from kvmdiag.system.namespaces import host_name, identity


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


def test_a_namespace_is_also_known_by_other_names(namespaces):
    """A pod's, which its network plug-in named for itself: by the pod and by that name."""
    made = namespaces("pod")
    known = known_namespaces().namespaces[identity(made.path)]
    assert known.others == ()
    scope = Scope(exclude=("cni-*",))
    assert not scope.takes("pod-web", "cni-0123")
    assert Scope(include=("pod-*",)).takes("pod-web", "cni-0123")
    assert not Scope(include=("host",)).takes("pod-web", "cni-0123")


def test_the_host_name_of_a_process_is_that_of_its_namespace(namespaces, eventually):
    """And the thread that asked is where it was."""
    program = namespaces("ns").start("unshare --uts sh -c 'hostname my-pod; exec sleep 60'")
    eventually(lambda: host_name(program.pid) == "my-pod", "it never had that name")
    assert host_name(os.getpid()) == os.uname().nodename


def test_processes_without_a_cable_belong_to_the_machine(namespaces, eventually):
    """As many as are looked at; they may have taps of their own."""
    host = namespaces("host")
    program = host.start("unshare --net sleep 60")
    path = f"/proc/{program.pid}/ns/net"
    eventually(lambda: _elsewhere(path, host.path), "unshare did not unshare")
    eventually(lambda: _command(program.pid) == "sleep", "sleep did not start")
    known = known_namespaces()
    here = identity(OWN_NETNS)
    taken = {one.name for one in known.belonging(Scope(exclude=("kvmdiag-*",)), here)}
    assert f"sleep-{program.pid}" in taken
    many = {
        (0, number): Namespace(f"/proc/{number}/ns/net", f"p-{number}", (0, number), named=False)
        for number in range(2 * MOST_UNCONNECTED)
    }
    crowd = Known(many, hidden=False)
    assert len(crowd.belonging(Scope(), (9, 9))) == MOST_UNCONNECTED
    assert crowd.left_out(Scope(), (9, 9)) == MOST_UNCONNECTED


def _once_read(monkeypatch, happens):
    """Let something happen as soon as the first stack, the host's, has been read."""
    read, left = stacks.read_stack, [happens]

    def read_stack(*given):
        done = read(*given)
        if left:
            left.pop()()
        return done

    monkeypatch.setattr(stacks, "read_stack", read_stack)


def test_a_namespace_that_goes_while_others_are_read(network, monkeypatch, eventually):
    """The cable to it goes as well: the host is read once more, and has no such link."""

    def gone():
        return network["host"].run("ip link show dev vnet0", check=False).returncode

    def go():
        network["guest"].remove()
        eventually(gone, "the kernel has not taken the cable away", seconds=20)

    _once_read(monkeypatch, go)
    snapshot = collect(_scope(network))
    assert set(_names(snapshot)) == {"host", "outside"}
    assert "vnet0" not in {link.name for link in snapshot.stack("host").links}
    assert not any(gap.fact == "peers" for gap in snapshot.gaps)


def test_a_namespace_that_comes_while_others_are_read(network, namespaces, monkeypatch):
    """It is found from where the cable leads to, be it the host or another."""
    late = []

    def come():
        late.append(namespaces("late"))
        late[0].cable("ens3", network["guest"], "vnet9")

    _once_read(monkeypatch, come)
    snapshot = collect(_scope(network))
    assert set(_names(snapshot)) == {"host", "guest", "nested", "outside", late[0].name}
    assert _link(snapshot, "guest", "vnet9").peer == LinkRef(late[0].name, "ens3")


def test_a_cable_to_a_namespace_that_cannot_be_found_again(network, monkeypatch):
    """It leads to nothing that is known, not out into the world, and a gap says so."""

    def gone(path):
        if path == network["guest"].path:
            raise FileNotFoundError(path)
        return identity(path)

    monkeypatch.setattr(stacks, "identity", gone)
    snapshot = collect(_scope(network))
    assert set(_names(snapshot)) == {"host", "outside"}
    tap = _link(snapshot, "host", "vnet0")
    assert (tap.peer.stack, tap.is_uplink) == (UNSEEN, False)
    (gap,) = (gap for gap in snapshot.gaps if gap.fact == "peers")
    assert (gap.stack, "vnet0" in gap.why) == ("host", True)
