"""Practice networks with real guests come quickly, stand side by side, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmdiag.errors import LabError
from kvmdiag.lab import manager, real, real_daemon, state

KVMDIAG = (sys.executable, "-c", "from kvmdiag.commands.main import run; run()")
NOTHING = ([], [], False, False)


def mine(label):
    """Namespaces, names of processes, and files under a label."""
    namespaces = list(Path("/run/netns").glob(f"kvmdiag-{label}-*"))
    running = [real_daemon._name(pid) for pid in real_daemon._processes(label)]
    return namespaces, running, real_daemon.folder(label).exists(), state.exists(label)


def test_a_network_that_fails_half_way_leaves_nothing(monkeypatch):
    """Its libvirt and its guests were running already."""
    label = f"half{os.getpid()}"
    seen = []

    def fail(_connection, _guests):
        seen.append(mine(label))
        raise LabError("the guests did not come up")

    monkeypatch.setattr(real, "_wait", fail)
    with pytest.raises(LabError, match="did not come up"):
        manager.up("libvirt-nat", label=label, real_guests=True)
    namespaces, running, files, known = seen[0]
    assert (len(namespaces), files, known) == (2, True, True)
    assert set(running) >= {"libvirtd", "dnsmasq"}
    assert mine(label) == NOTHING


def test_one_that_is_interrupted_leaves_nothing(eventually):
    """By a signal, while its guests boot."""
    label = f"interrupted{os.getpid()}"
    command = (*KVMDIAG, "lab", "up", "libvirt-nat", "--real", "--as", label)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as building:
        try:
            eventually(lambda: real_daemon.running(label), "no libvirt was started", seconds=60)
            building.terminate()
            building.communicate(timeout=90)
        finally:
            building.kill()
            if state.exists(label) and building.wait() == 0:
                manager.down(label)
    assert building.returncode == 128 + signal.SIGTERM
    assert mine(label) == NOTHING


def test_two_guests_answer_within_a_minute_beside_another_network(neighbours):
    """From nothing; neither network disturbs the other, nor does the end of one."""
    label = f"second{os.getpid()}"
    started = time.monotonic()
    manager.up("libvirt-nat", label=label, real_guests=True)
    try:
        for guest in ("web", "db"):
            assert real.run_inside(label, guest, "/bin/ping", "-c1", "-W2", "10.0.0.9") == 0
        assert time.monotonic() - started < 60
        assert neighbours.reaches("web", "10.0.0.9")
    finally:
        manager.down(label)
    assert mine(label) == NOTHING
    assert neighbours.reaches("web", "10.0.0.9")
    assert neighbours.check("web", "10.0.0.9").verdict == "healthy"
