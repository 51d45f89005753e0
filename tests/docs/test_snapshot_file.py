"""The page about the snapshot file is what the source says."""

from __future__ import annotations

import runpy
from pathlib import Path

from kvmdiag.model.codec import LIMIT, MOST_VALUES
from kvmdiag.model.snapshot import SCHEMA

ROOT = Path(__file__).parent.parent.parent


def test_the_page_is_up_to_date():
    """After a change of the model, scripts/docs writes it anew."""
    made = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["page"]()
    assert (ROOT / "docs" / "snapshot-file.md").read_text() == made, "run scripts/docs"


def test_the_limits_are_those_of_the_codec():
    """They are written by hand."""
    text = (ROOT / "docs" / "snapshot-file.md").read_text()
    assert f"{LIMIT >> 20} MiB" in text
    assert f"{MOST_VALUES:,} values" in text
    assert f"`{SCHEMA}`" in text
