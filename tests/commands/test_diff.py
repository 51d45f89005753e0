"""``kvmdiag diff``: two snapshots of a practice network, before and after a fault."""

from __future__ import annotations

import json
import os

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Snapshots of the cluster by the fault it had; ``healthy`` twice, with traffic between."""
    folder = tmp_path_factory.mktemp("snapshots")
    label = f"diff{os.getpid()}"
    manager.up("cluster", label=label)
    try:

        def save(name):
            path = folder / name
            assert main(["--lab", label, "snapshot", "-q", "-o", str(path)]) == 0
            return str(path)

        files = {"healthy": save("healthy")}
        main(["--lab", label, "trace", "-q", "node1", "10.0.0.9"])
        files["later"] = save("later")
        for fault in ("bridge-nf-forward-drop", "masquerade-missing@host"):
            manager.break_(label, fault)
            files[fault] = save(fault.partition("@")[0])
            manager.mend(label)
    finally:
        manager.down(label)
    return files


def test_traffic_is_no_change(taken, capsys):
    """Counters, neighbours, FDB entries: a probe went through, and nothing is told."""
    assert main(["diff", taken["healthy"], taken["later"]]) == 0
    assert capsys.readouterr().out.startswith("✓ no change, ")


@pytest.mark.parametrize("fault", ["bridge-nf-forward-drop", "masquerade-missing@host"])
def test_a_path_that_broke_is_exit_code_1(fault, taken, capsys):
    """The path, the check that explains it, and the change."""
    assert main(["diff", "--format", "json", taken["healthy"], taken[fault]]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "kvmdiag.diff/1"
    broken = {(p["from"], p["to"], *p["causes"]) for p in said["paths"] if p["effect"] == "broken"}
    assert ("node1", "10.0.0.1", fault.partition("@")[0]) in broken
    assert {change["stack"] for change in said["changes"]} >= {"host"}


def test_a_path_that_was_cured_is_no_fault(taken, capsys):
    """The other way round."""
    assert main(["diff", taken["bridge-nf-forward-drop"], taken["healthy"]]) == 0
    out = capsys.readouterr().out
    assert "Cured" in out
    assert "net.bridge.bridge-nf-call-iptables: 1 → 0" in out


def test_markdown(taken, capsys):
    """For a ticket: a heading for each stack, names that do not format by accident."""
    both = [taken["healthy"], taken["masquerade-missing@host"]]
    assert main(["diff", "--format", "markdown", *both]) == 1
    out = capsys.readouterr().out
    assert "### host" in out
    assert r"LIBVIRT\_PRT" in out


def test_a_file_that_is_missing(taken, capsys):
    """One line, and exit code 2."""
    assert main(["diff", taken["healthy"], "/nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
