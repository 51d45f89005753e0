"""Reads ``kvmdiag.toml`` and the baseline, and carries them out on a report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

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


def read_baseline(path: Path) -> bytes:
    """The bytes of an earlier report.

    Raises:
        InputError: it cannot be read.

    """
    return _read(path)


def applied(report: Report, decisions: Decisions, baseline: bytes | None) -> Report:
    """The report as decisions and baseline leave it."""
    report = decide(report, decisions, datetime.now(tz=UTC).date())
    return report if baseline is None else only_new(report, baseline)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise InputError(f"{path} is too large")
    return data
