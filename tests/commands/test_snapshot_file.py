"""Snapshot files of one state: the same but for what passes, and the same diagnosis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.model.codec import load, save
from kvmdiag.model.fields import fields
from kvmdiag.model.meaning import PASSING

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def label(cluster):
    """A practice network with a fault."""
    manager.break_(cluster, "bridge-nf-forward-drop")
    return cluster


def _still(value: Any) -> Any:
    """The facts without what passes by itself."""
    if isinstance(value, msgspec.Struct):
        kind: type = type(value)
        return {
            field.name: _still(getattr(value, field.name))
            for field in fields(kind)
            if field.key not in PASSING
        }
    if isinstance(value, tuple):
        return [_still(inner) for inner in value]
    return dict(value) if isinstance(value, Mapping) else value


def test_one_state_is_one_file(label):
    """Two readings differ in times and counters at most."""
    one, two = (load(save(collect(manager.scope(label)))) for _ in range(2))
    assert _still(one) == _still(two)


def test_a_file_has_the_connections_of_a_path_that_is_named(label, tmp_path, capsys):
    """With both sides of their translation; a file cannot be asked for more later."""
    assert main(["--lab", label, "trace", "-q", "master", "10.0.0.9"]) == 0
    file = str(tmp_path / "path.kvm")
    assert main(["--lab", label, "snapshot", "-q", "master", "10.0.0.9", "-o", file]) == 0
    taken = load(Path(file).read_bytes())
    assert set(taken.flows_between) == {"192.168.122.236", "10.0.0.10", "10.0.0.9"}
    (flow, *_) = taken.stack("host").flows
    assert (flow.original.source, flow.reply.destination) == ("192.168.122.236", "10.0.0.10")
    assert main(["--lab", label, "snapshot", "node1", "-o", file]) == 2
    assert main(["--snapshot", file, "snapshot", "node1", "10.0.0.9", "-o", file]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_redacting_a_file_is_redacting_the_host(label, tmp_path, capsys):
    """Either way what comes out is diagnosed to the same, and tells no name."""
    plain, first, second = (str(tmp_path / name) for name in ("plain", "first", "second"))
    assert main(["--lab", label, "snapshot", "-q", "-o", plain]) == 0
    assert main(["snapshot", "-q", "--snapshot", plain, "--redact", "-o", first]) == 0
    assert main(["--lab", label, "snapshot", "-q", "--redact", "-o", second]) == 0
    for file in (first, second):
        capsys.readouterr()
        assert main(["--snapshot", file, "check", "--format", "json"]) == 1
        out = capsys.readouterr().out
        found = json.loads(out)["findings"]
        assert [(f["check"], f["role"]) for f in found] == [("bridge-nf-forward-drop", "cause")]
        assert "mybr0" not in out
        assert "192.168.48" not in out
