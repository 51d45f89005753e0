"""Commands on snapshots that nobody has ever had: an answer, or one line and an exit code."""

from __future__ import annotations

import gzip
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import as_file, mutated

from kvmdiag.commands.main import main
from kvmdiag.lab import manager

pytestmark = pytest.mark.kernel

COMMANDS = (
    "check",
    "check node1",
    "check node1 10.0.0.9 --format json",
    "check --format junit -v",
    "graph",
    "graph --format dot",
    "graph --format mermaid",
    "trace --no-probe node1 10.0.0.9",
    "trace --no-probe 10.0.0.9 host --format json",
)


@dataclass(frozen=True, repr=False)
class Real:
    """A snapshot's file and what is in it, which is too long to be shown."""

    path: Path
    data: Any


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The cluster with everything in it that can be there without a fault, as JSON."""
    label = f"fuzz{os.getpid()}"
    path = tmp_path_factory.mktemp("real") / "snapshot"
    manager.up("cluster", label=label)
    try:
        for fault in ("decoys", "second-nic"):
            manager.break_(label, fault)
        assert main(["--lab", label, "snapshot", "-q", "-o", str(path)]) == 0
    finally:
        manager.down(label)
    return Real(path, json.loads(gzip.decompress(path.read_bytes())))


def _run(capsysbinary, arguments: list[str]) -> None:
    began = time.monotonic()
    code = main(arguments)
    said = capsysbinary.readouterr()
    assert code in (0, 1, 2, 3), said.err
    assert b"bug in kvmdiag" not in said.err
    assert said.err.count(b"\n") <= 1
    assert b"\x1b" not in said.out + said.err
    assert time.monotonic() - began < 10


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), command=st.sampled_from(COMMANDS))
def test_changed_snapshots_have_an_answer(seed, command, real, tmp_path, capsysbinary):
    """Links in circles, chains that call themselves, names that lead nowhere, hostile names."""
    random = Random(seed)
    file = tmp_path / "changed"
    file.write_bytes(as_file(mutated(real.data, random, changes=random.randint(1, 5))))
    _run(capsysbinary, ["--snapshot", str(file), *command.split()])


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_changed_snapshots_can_be_compared_and_redacted(seed, real, tmp_path, capsysbinary):
    """``diff`` with the original either way, and ``snapshot --redact``."""
    random = Random(seed)
    file = tmp_path / "changed"
    file.write_bytes(as_file(mutated(real.data, random, changes=random.randint(1, 5))))
    _run(capsysbinary, ["diff", str(real.path), str(file)])
    _run(capsysbinary, ["diff", str(file), str(real.path), "--format", "markdown"])
    out = str(tmp_path / "out")
    _run(capsysbinary, ["snapshot", "-q", "--snapshot", str(file), "--redact", "-o", out])
