"""Each fault of the practice cluster: the plan's own commands make a real ping come back."""

import os
import shlex
import subprocess

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks

from .build import carry_out, judge

pytestmark = pytest.mark.kernel

FAULTS = [fault for fault in networks()["cluster"].faults if fault.check is not None]


@pytest.fixture(scope="module")
def cluster():
    """The cluster, for this module alone."""
    label = f"cured{os.getpid()}"
    manager.up("cluster", label=label)
    yield label
    manager.down(label)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_plan_restores_a_real_ping(fault, cluster, eventually):
    """Broken before, named first as the cause, healthy after its steps."""
    bound = "-I ens3 " if fault.name == "guest-rp-filter-multihomed" else ""
    source = "node1:ens3" if bound else "node1"
    ping = f"ip netns exec kvmdiag-{cluster}-node1 ping -c1 -W1 {bound}10.0.0.9"

    def answered() -> bool:
        done = subprocess.run(shlex.split(ping), capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    manager.break_(cluster, fault.name)
    try:
        assert not answered()
        report = judge(collect(manager.scope(cluster)), source, "10.0.0.9")
        assert (report.findings[0].check, report.findings[0].role) == (fault.check, "cause")
        assert report.plan is not None
        carry_out(report)
        eventually(answered, "the plan does not cure")
    finally:
        manager.mend(cluster)


# What somebody does by hand, and the first cause that is named: machine, command, check.
BY_HAND = [
    ("master", "iptables -P FORWARD DROP", "firewall-drop"),
    ("node1", "ip link set ens6 down", "link-admin-down"),
    ("host", "ip link set eno1 down", "link-admin-down"),
    ("master", "ip addr del 192.168.48.10/24 dev ens6", "guest-no-lease-or-address"),
    ("host", "ip addr del 192.168.122.1/24 dev virbr0", "bridge-without-ip"),
    ("master", "ip link set ens6 address 52:54:00:eb:6c:6a", "duplicate-mac"),
]


@pytest.mark.parametrize(("machine", "command", "check"), BY_HAND)
def test_what_is_broken_by_hand_is_named_and_cured(machine, command, check, cluster, eventually):
    """No fault of the practice network's own: the cause is named, and its plan makes it ping."""
    prefix = f"ip netns exec kvmdiag-{cluster}-"
    ping = shlex.split(f"{prefix}node1 ping -c1 -W1 10.0.0.9")

    def answered() -> bool:
        done = subprocess.run(ping, capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    run = [*shlex.split(f"{prefix}{machine}"), *command.split()]
    subprocess.run(run, check=True, capture_output=True, timeout=20)
    try:
        assert not answered()
        report = judge(collect(manager.scope(cluster)), "node1", "10.0.0.9")
        assert (report.findings[0].check, report.findings[0].role) == (check, "cause")
        assert report.plan is not None
        assert report.plan.works
        carry_out(report)
        eventually(answered, "the plan does not cure")
    finally:
        manager.mend(cluster)
