"""Every fault of the catalogue has a check, and no check is without; the docs say so."""

from pathlib import Path

from kvmdiag.diagnose.catalogue import CATALOGUE, EXTRA, SUSPECTED, render, state
from kvmdiag.diagnose.check import load_checks

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


def test_the_catalogue_and_the_checks_are_the_same_set():
    """Nothing is left out; what is there in addition is named as such."""
    assert {check.id for check in load_checks()} == set(CATALOGUE) | set(EXTRA)
    assert not set(CATALOGUE) & set(EXTRA)
    assert len(CATALOGUE) == len(set(CATALOGUE)) == 124


def test_the_page_is_what_the_docstrings_say():
    """scripts/check-catalogue writes it anew."""
    assert PAGE.read_text() == render(load_checks())


def test_what_can_only_be_suspected_says_what_would_prove_it():
    """A check whose source never gives a proof is decided by facts, and the other way round."""
    folder = Path(__file__).parents[2] / "checks"
    for check in load_checks():
        source = (folder / f"{check.id.replace('-', '_')}.py").read_text()
        if state(check.id) == "suspected only":
            assert "proof=" in source, check.id
    assert set(CATALOGUE) >= SUSPECTED
