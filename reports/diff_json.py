"""A comparison for programs; its keys are part of the command line's contract."""

from __future__ import annotations

import json
from typing import Any

from kvmdiag.model.comparison import Comparison, PathChange, PathFate
from kvmdiag.reports.diff_words import fate


def render(comparison: Comparison) -> str:
    """One JSON object, with a line break at its end."""
    content = {
        "schema": "kvmdiag.diff/1",
        "changes": [
            {
                "stack": change.stack,
                "kind": change.kind,
                "subject": change.subject,
                "text": change.text,
                "before": change.before,
                "after": change.after,
            }
            for change in comparison.changes
        ],
        "paths": [_path(path) for path in comparison.paths],
    }
    return json.dumps(content, indent=2, ensure_ascii=True) + "\n"


def _path(path: PathChange) -> dict[str, Any]:
    return {
        "from": path.question.source.text,
        "to": path.question.destination.text,
        "effect": path.effect,
        "text": fate(path),
        "causes": list(path.causes),
        "before": _outcome(path.before),
        "after": _outcome(path.after),
    }


def _outcome(how: PathFate) -> str | None:
    """The outcome of the decisive direction; ``null`` when the path cannot be asked about."""
    return None if how.walk is None else how.walk.decisive.outcome.value
