"""``kvmdiag explain``: what a check looks for and why."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvmdiag.commands.options import OUTPUT, Options, takes
from kvmdiag.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.diagnose.check import Check

app = typer.Typer()


@app.command()
@takes(("format", *OUTPUT), formats=("text", "json"))
def explain(
    check: Annotated[
        str | None,
        typer.Argument(metavar="[CHECK]", help="The id of a check.", show_default=False),
    ] = None,
    *,
    options: Options,
) -> int:
    """Tell what a check looks for and why; without CHECK, list them."""
    from kvmdiag.commands.terminal import emit
    from kvmdiag.diagnose.check import load_checks

    checks = load_checks()
    chosen = checks if check is None else (_find(checks, check),)
    if options.format == "json":
        emit(_json(chosen), options)
    elif check is None:
        emit(_listing(chosen), options)
    else:
        emit(_page(chosen[0]), options)
    return 0


def _find(checks: Sequence[Check], name: str) -> Check:
    """The check of that id.

    Raises:
        UsageError: there is none; the message names those that are spelled alike.

    """
    known = {check.id: check for check in checks}
    if name in known:
        return known[name]
    close = get_close_matches(name.replace("_", "-"), known, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "kvmdiag explain lists them"
    raise UsageError(f"no check is called {name!r}; {hint}")


def _json(checks: Sequence[Check]) -> str:
    import json

    listed: list[dict[str, Any]] = [
        {
            "check": check.id,
            "severity": check.severity.value,
            "needs": sorted(fact.value for fact in check.needs),
            "summary": check.explanation.summary,
            **{
                heading.lower().replace(" ", "_"): text
                for heading, text in check.explanation.sections
            },
        }
        for check in checks
    ]
    document = {"schema": "kvmdiag.checks/1", "checks": listed}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _listing(checks: Sequence[Check]) -> RenderableType:
    from kvmdiag.reports.layout import Lines

    lines = Lines()
    width = max(len(check.id) for check in checks)
    for check in checks:
        lines.prose(check.explanation.summary, lead=(f"{check.id:<{width}}  ", "bold"))
    return lines


def _page(check: Check) -> RenderableType:
    from kvmdiag.reports.layout import Lines

    lines = Lines()
    lines.prose((f"{check.id} ({check.severity.value})", "bold"))
    lines.prose(check.explanation.summary)
    for heading, text in check.explanation.sections:
        lines.blank()
        lines.prose((heading, "bold"))
        lines.prose(text, indent=2)
    return lines
