"""A file is diagnosed to what the live host is, on every practice network of namespaces."""

from __future__ import annotations

import json
import os

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager

pytestmark = pytest.mark.kernel

# A fault of each network, and a path that it breaks or that goes by it.
CASES = [
    ("cluster", "ip-forward-off@master", "node1", "10.0.0.9"),
    ("devstack", "masquerade-pinned-to-wrong-egress", "instance", "8.8.8.8"),
    ("kubevirt", "kubevirt-launcher-nat-missing", "guest", "153.3.238.102"),
    ("models", "masquerade-missing", "web", "10.0.0.9"),
]


def _said(capsys, *words):
    """The exit code and the report of ``check``."""
    capsys.readouterr()
    code = main([*words, "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


def _judged(code, report):
    """All that has no names in it."""
    wanted = ("check", "role", "severity", "verified")
    findings = [[finding[key] for key in wanted] for finding in report["findings"]]
    steps = [step["check"] for step in (report["plan"] or {}).get("steps", ())]
    return code, report["verdict"], findings, steps, len(report["gaps"])


@pytest.mark.parametrize(("net", "fault", "source", "destination"), CASES)
def test_the_same_report_offline(net, fault, source, destination, tmp_path, capsys):
    """Findings, evidence, gaps, walk, plan and exit code; with a path and without."""
    label = f"off{os.getpid()}"
    file = str(tmp_path / "host.kvm")
    manager.up(net, label=label)
    try:
        # So that there is something tracked.
        assert main(["--lab", label, "trace", "-q", source, destination]) == 0
        manager.break_(label, fault)
        path = (source, destination)
        assert main(["--lab", label, "snapshot", "-q", *path, "-o", file]) == 0
        for asked in ((), path):
            live = _said(capsys, "--lab", label, "check", *asked)
            assert _said(capsys, "--snapshot", file, "check", *asked) == live
            assert live[1]["verdict"] == "faulty"
        # Redacted, it can be shown, and is diagnosed to the same.
        redacted = str(tmp_path / "redacted.kvm")
        assert main(["--snapshot", file, "snapshot", "-q", "--redact", "-o", redacted]) == 0
        before, after = (_said(capsys, "--snapshot", one, "check") for one in (file, redacted))
        assert _judged(*after) == _judged(*before)
    finally:
        manager.down(label)
