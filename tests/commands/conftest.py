"""The practice cluster for the tests of one file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kvmdiag.lab import manager


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """A cluster of this file, in this test run, alone; its label."""
    file = request.path.stem.removeprefix("test_").replace("_", "")
    label = manager.up("cluster", label=f"{file}{os.getpid()}")
    try:
        yield label
    finally:
        manager.down(label)
