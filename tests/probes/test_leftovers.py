"""Whatever happens to a trace, nothing of it stays."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.errors import NotReadableError, UsageError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.probes.inject import source_stack
from kvmdiag.probes.ping import reaches
from kvmdiag.probes.trace import observe

_FOREVER = """
import sys
from pathlib import Path
import pickle
from kvmdiag.probes import trace, watch
watch.QUIET = 60
snapshot, walk = (pickle.loads(Path(name).read_bytes()) for name in sys.argv[1:])
trace.observe(snapshot, walk, timeout=60)
"""


def state(namespace: Any) -> str:
    """All that a trace could leave: links and their promiscuity, rules, qdiscs, sockets."""
    commands = ("ip -o link", "nft -s list ruleset", "tc qdisc", "ip rule", "ip route")
    text = "".join(namespace.run(command).stdout for command in commands)
    return text + namespace.run("cat /proc/net/packet").stdout.split("\n", 1)[1]


def test_kill_9_leaves_nothing(
    routed: Any, asking: Any, walking: Any, tmp_path: Path, eventually: Any
) -> None:
    """Promiscuity, sockets and rings die with the process."""
    before = {name: state(routed[name]) for name in routed.members}
    assert "promiscuity 0" in _bridge(routed["r"])
    predicted = walking(asking("192.0.2.77"), "a/a0> >r/r0 =r/br0")
    files = tmp_path / "snapshot", tmp_path / "walk"
    for file, content in zip(files, (routed.snapshot(), predicted), strict=True):
        file.write_bytes(pickle.dumps(content))
    program = subprocess.Popen([sys.executable, "-c", _FOREVER, *map(str, files)])
    try:
        eventually(
            lambda: program.poll() is not None or "promiscuity 1" in _bridge(routed["r"]),
            "the bridge was never watched",
        )
        assert program.poll() is None
    finally:
        program.kill()
        program.wait(timeout=10)
    eventually(lambda: "promiscuity 0" in _bridge(routed["r"]), "the bridge stayed promiscuous")
    assert {name: state(routed[name]) for name in routed.members} == before


def _bridge(namespace: Any) -> str:
    return str(namespace.run("ip -d -o link show br0").stdout)


def test_a_ping_that_works_and_one_that_does_not(routed: Any, asking: Any) -> None:
    """A real probe decides; a rule in the way makes it false, within its time."""
    assert reaches(routed.snapshot(), asking("198.51.100.2"))
    assert not reaches(routed.snapshot(), asking("198.51.100.2", proto="tcp", port=9), timeout=0.3)
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    assert not reaches(routed.snapshot(), asking("198.51.100.2"), timeout=0.3)


def test_a_guest_that_cannot_be_entered(asking: Any, walking: Any) -> None:
    """One clear line that says what can be done instead."""
    guest = Stack(name="a", kind="guest", netns=None)
    snapshot = Snapshot(tool="t", taken_at="", kernel="", stacks=(guest,))
    with pytest.raises(NotReadableError, match="--no-probe"):
        observe(snapshot, walking(asking("192.0.2.1"), "a/a0>"), timeout=0.1)


def test_a_source_that_is_no_machine_here(asking: Any) -> None:
    """An address of the outside cannot send for us."""
    snapshot = Snapshot(tool="t", taken_at="", kernel="", stacks=())
    with pytest.raises(UsageError, match="not a machine"):
        source_stack(snapshot, asking("192.0.2.1"))


def test_a_link_that_the_source_does_not_have(routed: Any, asking: Any) -> None:
    """Named in the error."""
    with pytest.raises(UsageError, match="nolink"):
        reaches(routed.snapshot(), asking("198.51.100.2", link="nolink"), timeout=0.1)
