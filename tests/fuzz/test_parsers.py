"""Whatever programs, guests and files say: parsers read it or refuse it, and do not hang."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_themselves_are_read(name):
    """Else nothing but refusals would be tested."""
    for seed in TARGETS[name].seeds:
        assert TARGETS[name].run(seed) is not None


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=2000)
@given(seed=st.integers(0, 2**32))
def test_nothing_but_a_refusal(name, seed):
    """Each of a parser's inputs, changed at a few places."""
    TARGETS[name].check(TARGETS[name].variant(Random(seed)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=20, deadline=2000)
@given(text=st.text())
def test_any_text(name, text):
    """Of which nobody would make sense."""
    TARGETS[name].check(text)


# What a fuzzer found once, so that it stays found.
FOUND = [("qemu", '-netdev {"type":"tap","fd":"33","id":"\udcc5"}')]


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_found_before(name, text):
    """Each of these ended in a traceback."""
    TARGETS[name].check(text)
