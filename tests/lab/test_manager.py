"""Practice networks come whole or not at all, stand side by side, and can always be mended."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kvmdiag.errors import LabError
from kvmdiag.lab import manager, state
from kvmdiag.lab.networks import networks
from kvmdiag.lab.spec import Fault, Ip

pytestmark = pytest.mark.kernel

CLUSTER = networks()["cluster"]
MACHINES = [machine.name for machine in CLUSTER.machines]

# Builds a network and stops before it is finished, for a signal to end it.
HALF_WAY = """
import sys, time
from kvmdiag.lab import builder, manager

def stop(*_):
    print("half way", flush=True)
    time.sleep(60)

builder.fill = stop
manager.up("cluster", label=sys.argv[1])
"""


def left_of(name):
    """Namespaces and files under a label."""
    found = [*Path("/run/netns").glob(f"kvmdiag-{name}-*"), *state.DIRECTORY.glob(f"*{name}*")]
    return sorted(path.name for path in found)


def picture(lab):
    """All there is in the machines of a network, apart from numbers that always change."""
    seen = {}
    for machine in MACHINES:
        links = [
            (
                link["ifname"],
                link["address"],
                link.get("master"),
                "UP" in link["flags"],
                [(address["local"], address["prefixlen"]) for address in link["addr_info"]],
            )
            for link in json.loads(lab.run(machine, "ip", "-j", "address").stdout)
        ]
        sysctls = lab.run(machine, "sysctl", "-a", "-r", r"^net\.").stdout.splitlines()
        seen[machine] = {
            "links": sorted(links),
            "routes": sorted(
                lab.run(machine, "ip", "route", "show", "table", "all").stdout.split("\n")
            ),
            "policy": lab.run(machine, "ip", "rule").stdout,
            "rules": [
                line.partition(" [")[0]
                for line in lab.run(machine, "iptables-nft-save").stdout.splitlines()
                if not line.startswith("#")
            ],
            "tables": lab.run(machine, "nft", "list", "tables").stdout,
            "sysctls": [line for line in sysctls if "conntrack_count" not in line],
        }
    return seen


def test_mending_undoes_what_others_did_too(healthy):
    """Rules, settings, links, routes and policy rules that no fault made are gone as well."""
    before = picture(healthy)
    manager.break_(healthy.label, "bridge-nf-forward-drop")
    for machine, command in (
        ("host", "iptables-nft -I FORWARD 1 -i mybr0 -o mybr0 -j ACCEPT"),
        ("host", "nft add table inet mine"),
        ("host", "ip link del mybr0"),
        ("host", "ip link add name stray0 type bridge"),
        ("host", "sysctl -qw net.ipv4.ip_default_ttl=3"),
        ("host", "sysctl -qw net.ipv4.conf.default.forwarding=0"),
        ("master", "ip rule add from 192.168.48.20 blackhole"),
        ("master", "ip rule add pref 1000 lookup 7"),
        ("master", "ip rule del pref 0"),
        ("master", "ip address add 192.0.2.1/32 dev lo"),
        ("node1", "ip route add unreachable 10.0.0.9/32"),
        ("node1", "ip link set ens6 mtu 1280 down"),
    ):
        done = healthy.run(machine, *command.split())
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert picture(healthy) != before
    manager.mend(healthy.label)
    assert picture(healthy) == before
    assert healthy.reaches("10.0.0.9")


def test_a_running_ping_notices_the_cure(healthy):
    """A flow begun untranslated would stay so if the connection table were not emptied."""
    manager.break_(healthy.label, "masquerade-missing@host")
    ping = ("-n", "-e", "4711", "-c1", "-W", "0.4", "10.0.0.9")
    assert healthy.run("node1", "ping", *ping).returncode == 1
    manager.mend(healthy.label)
    assert healthy.run("node1", "ping", *ping).returncode == 0


def test_legacy_rules_are_emptied(healthy):
    """A legacy table that somebody made cannot be removed, but lets everything pass again."""
    done = healthy.run("host", "iptables-legacy", "-P", "FORWARD", "DROP")
    if done.returncode:
        pytest.skip("this system has no legacy iptables")
    assert not healthy.reaches("10.0.0.9", wait="0.4")
    manager.mend(healthy.label)
    assert healthy.reaches("10.0.0.9")


def test_two_networks_stand_side_by_side(healthy, label):
    """Two of one kind do not disturb each other, whatever is done to one."""
    other = manager.up("cluster", label=label())
    manager.break_(other, "ip-forward-off")
    assert healthy.reaches("10.0.0.9")
    standing = next(listed for listed in manager.listing() if listed.network.name == "cluster")
    faults = {known.label: known.faults for known in standing.standing}
    assert faults[healthy.label] == ()
    assert faults[other] == ("ip-forward-off@master",)
    manager.down(other)
    assert left_of(other) == []
    assert healthy.reaches("10.0.0.9")


def test_the_scope_hides_the_outside(cluster):
    """The host sees the guests under plain names, and nothing of what lies beyond its uplink."""
    scope = manager.scope(cluster.label)
    taken = [name for name in MACHINES if scope.takes(f"kvmdiag-{cluster.label}-{name}")]
    assert scope.host == f"/run/netns/kvmdiag-{cluster.label}-host"
    assert taken == ["host", "master", "node1"]
    assert not scope.takes(f"kvmdiag-{cluster.label}-2-host")
    assert scope.names[f"/run/netns/kvmdiag-{cluster.label}-node1"] == "node1"
    assert not scope.libvirt


def test_a_network_is_built_once(cluster):
    """A second build says so, and harms nothing."""
    with pytest.raises(LabError, match="stands already"):
        manager.up("cluster", label=cluster.label)
    assert cluster.reaches("10.0.0.9")


@pytest.fixture
def half_built(label):
    """A name under which somebody else is building just now."""
    name = label()
    with subprocess.Popen(
        [sys.executable, "-c", HALF_WAY, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as building:
        assert building.stdout.readline() == "half way\n"
        yield name, building
        building.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing(half_built, number):
    """Ctrl-C, a kill, a closed terminal: what was made so far is removed."""
    name, building = half_built
    assert f"kvmdiag-{name}-host" in left_of(name)
    building.send_signal(number)
    building.wait(timeout=20)
    assert left_of(name) == []


def test_another_network_need_not_wait(half_built, label):
    """A network is built and broken while another is being built."""
    other = manager.up("cluster", label=label())
    manager.break_(other, "ip-forward-off")
    assert half_built[1].poll() is None


def test_one_network_is_changed_by_one_at_a_time(half_built, eventually):
    """Whoever wants it gone waits until the one who builds it is done."""
    name, building = half_built
    down = "import sys; from kvmdiag.lab import manager; manager.down(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", down, name]) as removing:

        def waits():
            waiting = (
                line for line in Path("/proc/locks").read_text().splitlines() if "->" in line
            )
            return any(str(removing.pid) in line.split() for line in waiting)

        eventually(waits, "nobody waits for the lock", seconds=30)
        assert left_of(name) != []
        building.kill()
    assert removing.returncode == 0
    assert left_of(name) == []


def test_a_build_that_was_killed_is_cleared_away(half_built):
    """After SIGKILL nobody cleans up; the next build of that name does."""
    name, building = half_built
    building.kill()
    building.wait(timeout=20)
    with pytest.raises(LabError, match="no practice network"):
        manager.scope(name)
    assert manager.up("cluster", label=name) == name
    assert manager.scope(name).host in map(str, Path("/run/netns").iterdir())


def test_a_build_that_fails_leaves_nothing(label, monkeypatch):
    """A program's refusal becomes one line, and what was made before it goes."""
    *others, last = CLUSTER.machines
    bad = msgspec.structs.replace(last, routes=("default via 203.0.113.1",))
    network = msgspec.structs.replace(CLUSTER, name="bad", machines=(*others, bad))
    monkeypatch.setattr(manager, "networks", lambda: {"bad": network})
    name = label()
    with pytest.raises(LabError, match=r"outside: ip: .*[Nn]exthop"):
        manager.up("bad", label=name)
    assert left_of(name) == []


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("state.os.replace", "cannot write .*: No space left"),
        ("builder.build", "lab up cluster --as"),
    ],
)
def test_a_full_disk_is_one_line(where, says, label, monkeypatch):
    """What the system refuses is told as what it is, and nothing remains."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"kvmdiag.lab.{where}", refuse)
    name = label()
    with pytest.raises(LabError, match=says):
        manager.up("cluster", label=name)
    assert left_of(name) == []


def test_a_fault_that_fails_half_way_is_taken_back(healthy, monkeypatch):
    """The network is as before, with the faults it had."""
    steps = (Ip("node1", "link set ens6 down\n"), Ip("node1", "link set nothing0 up\n"))
    fault = Fault(name="bad", machine="node1", summary="", check="bad", steps=steps)
    network = msgspec.structs.replace(CLUSTER, faults=(*CLUSTER.faults, fault))
    monkeypatch.setattr(manager, "networks", lambda: {"cluster": network})
    manager.break_(healthy.label, "second-nic")
    with pytest.raises(LabError, match="nothing0"):
        manager.break_(healthy.label, "bad")
    assert healthy.reaches("-I", "ens3", "10.0.0.9")
    assert state.read(healthy.label).faults == ("second-nic",)


def test_faults_that_touch_the_same_things_exclude_each_other(healthy):
    """One of the two must be mended first; the same fault twice is refused too."""
    manager.break_(healthy.label, "second-nic")
    with pytest.raises(LabError, match=f"mend {healthy.label} second-nic"):
        manager.break_(healthy.label, "guest-rp-filter-multihomed")
    with pytest.raises(LabError, match="already"):
        manager.break_(healthy.label, "second-nic")
    with pytest.raises(LabError, match="is not in"):
        manager.mend(healthy.label, "decoys")


def test_down_removes_what_is_half_there(label):
    """Somebody deleted one of the namespaces, or the file that knows of the network."""
    name = manager.up("cluster", label=label())
    subprocess.run(["ip", "netns", "del", f"kvmdiag-{name}-node1"], check=True)
    state.forget(name)
    with pytest.raises(LabError, match="left over"):
        manager.up("cluster", label=name)
    manager.down(name)
    assert left_of(name) == []
    with pytest.raises(LabError, match="no practice network"):
        manager.down(name)


def test_a_damaged_file_can_be_got_rid_of(label):
    """It is named in one line that says how to remove the network."""
    name = manager.up("cluster", label=label())
    (state.DIRECTORY / f"{name}.json").write_text("{")
    with pytest.raises(LabError, match=f"kvmdiag lab down {name}"):
        manager.scope(name)
    manager.down(name)
    assert left_of(name) == []


def test_the_scope_without_root(monkeypatch):
    """One line that says what is missing, and not that nothing stands."""

    def refuse(_path):
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(LabError, match="run as root"):
        manager.scope("cluster")


def test_state_is_for_root_only(cluster):
    """Others cannot make the tool remove namespaces by writing there."""
    assert state.DIRECTORY.stat().st_mode & 0o777 == 0o700
    assert (state.DIRECTORY / f"{cluster.label}.json").stat().st_mode & 0o077 == 0
    assert os.stat(state.DIRECTORY).st_uid == 0
