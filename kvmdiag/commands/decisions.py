"""Reads ``kvmdiag.toml`` and the baseline, and carries them out on a report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from kvmdiag.diagnose.suppress import Decisions, decide, only_new, parse_decisions
from kvmdiag.errors import InputError
from kvmdiag.model.report import Report

DEFAULT = Path("kvmdiag.toml")
_LARGEST = 64 * 1024 * 1024


def read(path: Path | None) -> Decisions:
    """The decisions in that file; without one, those in ``kvmdiag.toml`` here, if it is there.

    Raises:
        InputError: it cannot be read, or says what makes no sense.

    """
    from kvmdiag.diagnose.check import load_checks

    if path is None:
        if not DEFAULT.exists():
            return Decisions()
        path = DEFAULT
    data = _read(path)
    try:
        text = data.decode()
        return parse_decisions(text, frozenset(check.id for check in load_checks()))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


class Baseline(NamedTuple):
    """An earlier report, as it was read from a file."""

    path: Path
    data: bytes


def read_baseline(path: Path) -> Baseline:
    """The earlier report in that file.

    Raises:
        InputError: it cannot be read.

    """
    return Baseline(path, _read(path))


def applied(report: Report, decisions: Decisions, baseline: Baseline | None) -> Report:
    """The report as decisions and baseline leave it.

    Raises:
        InputError: the baseline is no report.

    """
    report = decide(report, decisions, datetime.now(tz=UTC).date())
    if baseline is None:
        return report
    try:
        return only_new(report, baseline.data)
    except InputError as error:
        raise InputError(f"{baseline.path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise InputError(f"{path} is too large")
    return data
