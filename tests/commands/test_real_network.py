"""The whole program on a practice network of its own: the kernel judges."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from defusedxml.ElementTree import fromstring

from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.system import programs
from kvmdiag.system.programs import Completed, ProgramMissing

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces"),
]

PATH = ("node1", "192.168.48.10")


@pytest.fixture
def broken(cluster: str) -> Iterator[str]:
    """The cluster with bridged frames dropped by FORWARD; sound again afterwards."""
    manager.break_(cluster, "bridge-nf-forward-drop")
    try:
        yield cluster
    finally:
        manager.mend(cluster)


def report(cluster: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    """Exit code and JSON report of the path."""
    code = main(["--lab", cluster, "check", *PATH, "--format", "json"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, found


def test_sound_network_is_healthy(cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No finding on a path that works, and exit code 0."""
    code, found = report(cluster, capsys)
    assert (code, found["verdict"], found["findings"], found["plan"]) == (0, "healthy", [], None)


def test_fault_is_named_cured_and_gone(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check names it, fix cures it with a real ping as witness, check agrees."""
    code, found = report(broken, capsys)
    assert code == 1
    causes = [f["check"] for f in found["findings"] if f["role"] == "cause"]  # type: ignore[attr-defined]
    assert causes == ["bridge-nf-forward-drop"]
    assert main(["--lab", broken, "fix", *PATH, "--yes"]) == 0
    assert "Cured: node1 reaches 192.168.48.10" in capsys.readouterr().out
    code, found = report(broken, capsys)
    assert (code, found["verdict"]) == (0, "healthy")


def test_snapshot_tells_the_same_as_the_live_host(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is saved today can be diagnosed anywhere tomorrow."""
    _, live = report(broken, capsys)
    file = tmp_path / "host.snapshot"
    assert main(["--lab", broken, "snapshot", "-q", "-o", str(file)]) == 0
    assert main(["--snapshot", str(file), "check", *PATH, "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"] == live["findings"]


def test_graph_shows_what_hangs_on_what(cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bridge, port, and the guest's NIC at the far end of the cable."""
    assert main(["--lab", cluster, "graph"]) == 0
    out = capsys.readouterr().out
    bridge = out.index("mybr0  bridge  192.168.48.1/24")
    assert bridge < out.index("vnet3  veth ── node1 ens6")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graph_as_a_picture(cluster: str, tmp_path: Path) -> None:
    """Graphviz lays it out; the names stand in the SVG as text."""
    file = tmp_path / "network.svg"
    assert main(["--lab", cluster, "graph", "--format", "svg", "-o", str(file)]) == 0
    words = set(fromstring(file.read_text(), forbid_dtd=False).itertext())
    assert {"host", "mybr0", "vnet3", "192.168.48.20/24"} <= words


def test_graph_as_a_picture_without_graphviz(
    cluster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says what to install."""
    really = programs.run

    def run(argv: Sequence[str], **how: Any) -> Completed:
        if argv[0] == "dot":
            raise ProgramMissing("cannot run dot: No such file or directory")
        return really(argv, **how)

    monkeypatch.setattr(programs, "run", run)
    assert main(["--lab", cluster, "graph", "--format", "svg"]) == 2
    assert "install the package graphviz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "nosuch", "10.0.0.9"], "known: host, master, node1"),
        (["check", "-6", "node1", "master"], "IPv6"),
        (["trace", "nosuch", "10.0.0.9"], "known: host, master, node1"),
    ],
)
def test_questions_that_cannot_be_asked(
    cluster: str, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Unknown guest, address family that is not there: one line, exit code 2."""
    assert main(["--lab", cluster, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
