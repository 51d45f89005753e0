"""Each check is shown to fire on its fault, and to stay silent on what merely looks like it.

A test says so by a mark, ``fires("check")`` or ``silent("check")``, on itself or on one of its
parameters; here the marks are counted.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from _pytest.mark import Mark, MarkDecorator, ParameterSet

from .build import CHECKS

# The folders with tests that judge snapshots, beside this file and of the practice networks.
FOLDERS = ("checks", "lab")


def test_each_check_is_shown_to_fire():
    """No check that nobody has seen fire."""
    assert {check.id for check in CHECKS} - shown("fires") == set()


def test_each_check_is_shown_to_be_silent_on_its_trap():
    """No check that nobody has tried to deceive."""
    assert {check.id for check in CHECKS} - shown("silent") == set()


def test_the_marks_name_checks_that_are_there():
    """A misspelt name shows nothing."""
    assert shown("fires") | shown("silent") <= {check.id for check in CHECKS}


def shown(mark: str) -> set[str]:
    """The ids of the checks that tests are marked with."""
    return {
        name
        for module in modules()
        for found in marks_of(module)
        if found.name == mark
        for name in found.args
    }


def modules() -> Iterator[ModuleType]:
    """The test modules of the folders."""
    tests = Path(__file__).parents[1]
    package = __name__.rpartition(".")[0].rpartition(".")[0]
    for folder in FOLDERS:
        for path in sorted((tests / folder).glob("test_*.py")):
            yield importlib.import_module(f"{package}.{folder}.{path.stem}".lstrip("."))


def marks_of(module: ModuleType) -> Iterator[Mark]:
    """The marks of a module's tests and of the parameters these are given."""
    for thing in vars(module).values():
        if not callable(thing) or not getattr(thing, "__name__", "").startswith("test_"):
            continue
        for mark in getattr(thing, "pytestmark", ()):
            yield mark
            values = mark.args[1] if mark.name == "parametrize" else ()
            for value in values:
                for each in value.marks if isinstance(value, ParameterSet) else ():
                    yield each.mark if isinstance(each, MarkDecorator) else each
