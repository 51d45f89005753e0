"""Rules deleted, moved and policies set: what is claimed is what the kernel has, both ways."""

import shlex
import subprocess

import pytest

from kvmdiag.actions.libvirt_network import RestartNetworkDaemon, can_restart
from kvmdiag.actions.rule import AppendRule
from kvmdiag.actions.rule_changes import DeleteRule, MoveRule, SetPolicy
from kvmdiag.actions.step import step
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.daemons import Daemon
from kvmdiag.model.libvirt import Libvirt, Network
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack
from kvmdiag.parse.words import arguments

DROP = "-s 192.0.2.0/24 -j DROP"
# As iptables-save prints it.
ODD = r"""-p tcp -m tcp --dport 80 -m comment --comment "it\'s mine; $(reboot) %s" -j ACCEPT"""
RULES = ("-s 10.0.0.0/8 -j ACCEPT", DROP, ODD, DROP)
CHANGES = {
    "delete the first of two alike": (DeleteRule, {"rule": DROP}),
    "delete one with an odd comment": (DeleteRule, {"rule": ODD}),
    "move to the front": (MoveRule, {"rule": ODD}),
    "move the first of two alike": (MoveRule, {"rule": DROP}),
    "a policy": (SetPolicy, {"policy": "drop"}),
}


@pytest.fixture
def host(namespaces):
    """A namespace with a few rules in FORWARD, in either backend; and its reader."""

    def made(backend):
        namespace = namespaces("host")
        program = "iptables-legacy" if backend == "iptables-legacy" else "iptables"
        for rule in RULES:
            namespace.run([program, "-A", "FORWARD", *arguments(rule)])
        return lambda: collect(Scope(host=namespace.path, libvirt=False))

    return made


def forward(snapshot, backend):
    """Policy and rules of FORWARD."""
    for table in snapshot.stack("host").tables:
        if (table.family, table.name, table.backend) == ("ip", "filter", backend):
            chain = table.chain("FORWARD")
            return chain.policy, [rule.text for rule in chain.rules]
    return None


@pytest.mark.kernel
@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_kernel_shows_what_was_claimed_and_undo_restores_it(change, backend, host):
    """The commands are run as they are printed."""
    kind, words = change
    read = host(backend)
    before = read()
    action = kind(stack="host", chain="FORWARD", backend=backend, **words)
    line = step(action, "test", before)
    claimed = forward(action.apply(before), backend)
    assert claimed != forward(before, backend)
    for command, expected in ((line.command, claimed), (line.undo, forward(before, backend))):
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert forward(read(), backend) == expected


def libvirt_host(netns=OWN_NETNS, *, flushed=True):
    """A host with a NAT network of libvirt's whose rules are gone, or there."""
    rules = () if flushed else ("-s 192.168.5.0/24 -i virbr5 -j ACCEPT",)
    chain = Chain(name="FORWARD", hook="forward", type="filter")
    empty = Table(family="ip", name="filter", backend="iptables-nft", chains=(chain,))
    stack = Stack(name="host", kind="host", netns=netns, tables=(empty,))
    snapshot = Snapshot(
        tool="test",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6.1",
        stacks=(stack,),
        networks=(
            Network(
                name="n", active=True, bridge="virbr5", mode="nat", addresses=("192.168.5.1/24",)
            ),
        ),
        libvirt=Libvirt(uri="qemu:///system", version="10.0.0"),
        daemons=(Daemon(name="virtnetworkd", running=True, stack="host"),),
    )
    for rule in rules:
        snapshot = AppendRule(stack="host", chain="FORWARD", rule=rule).apply(snapshot)
    return snapshot


def test_libvirts_daemon_brings_its_rules_back():
    """As measured: after a flush all are there again; where they are, nothing changes."""
    snapshot = libvirt_host()
    restart = RestartNetworkDaemon(stack="host")
    assert step(restart, "x", snapshot).command == "systemctl restart virtnetworkd"
    texts = [
        rule.text
        for table in restart.apply(snapshot).stack("host").tables
        for chain in table.chains
        for rule in chain.rules
    ]
    assert "-A POSTROUTING -s 192.168.5.0/24 ! -d 192.168.5.0/24 -j MASQUERADE" in texts
    intact = libvirt_host(flushed=False)
    assert restart.apply(intact) == intact


def test_the_daemon_of_a_namespace_cannot_be_restarted():
    """It has no systemd: the command would reach that of the machine itself."""
    for snapshot, fits in ((libvirt_host(), True), (libvirt_host("/run/netns/lab"), False)):
        assert can_restart(snapshot, snapshot.stack("host")) is fits
