"""Nothing of a practice network with real guests outlives it, also when it fails half-way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmdiag.errors import LabError
from kvmdiag.lab import manager, real, real_daemon, state


def mine(label):
    """Processes, namespaces and files under a label."""
    namespaces = list(Path("/run/netns").glob(f"kvmdiag-{label}-*"))
    running = list(real_daemon._processes(label))
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
    assert {real_daemon._name(pid) for pid in running} >= {"libvirtd", "dnsmasq"}
    assert mine(label) == ([], [], False, False)
