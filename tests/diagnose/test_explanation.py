"""A check's docstring is its explanation, or the check is refused."""

import pytest

from kvmdiag.diagnose.explanation import HEADINGS, parse_explanation

GOOD = """A tap is down.

    Symptom: one guest
        is dead.
    Cause: somebody: perhaps you.
    Harmless when: nobody uses it.
    Evidence: its flags.
    Fix: set it up.
    Sources: ip-link(8).
"""


def test_lines_of_a_section_are_joined():
    """A colon within a line begins no section."""
    parsed = parse_explanation(GOOD)
    assert parsed.summary == "A tap is down"
    assert parsed.symptom == "one guest is dead."
    assert parsed.cause == "somebody: perhaps you."
    assert tuple(heading for heading, _ in parsed.sections) == HEADINGS


@pytest.mark.parametrize(
    "damaged",
    [
        GOOD.replace("Evidence: its flags.", ""),
        GOOD.replace("set it up.", ""),
        GOOD.replace("Fix:", "Cause:"),
        GOOD.replace("Symptom:", "Fix:").replace("Fix: set", "Symptom: set"),
        "",
    ],
    ids=["missing", "empty", "twice", "out of order", "nothing"],
)
def test_a_damaged_docstring_is_refused(damaged):
    """So that explain and the docs pages never show half a page."""
    with pytest.raises(ValueError, match=r"must have|twice"):
        parse_explanation(damaged)
