"""Random networks, built for real: the walk says what the kernel does.

bench/differential runs as many as asked; here it is a sample, from a seed of its own, in
parts that run side by side.
"""

from __future__ import annotations

import pytest
from differential.campaign import campaign, drawn
from differential.show import written

pytestmark = pytest.mark.kernel

CASES = 200
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_the_walk_does_what_the_kernel_does(part):
    """Where packets were seen, where they arrived and with which addresses."""
    tally = campaign(CASES // PARTS, 7_000 + part, most=1)
    for case, complaints in tally.disagreements:
        lines = "\n".join(complaints)
        pytest.fail(f"{lines}\n{written(case)}\n(make it smaller with bench/differential)")
    assert not tally.unbuilt, tally.unbuilt[0]
    assert tally.agreed > 10 * tally.unknown


def test_a_seed_draws_the_same_cases_each_time():
    """So that a disagreement found by bench/differential is found again."""

    def five():
        found = []

        def keep(case):
            found.append(case)

        drawn(5, 7, keep)
        return found

    assert five() == five()
    assert len(set(five())) == 5
