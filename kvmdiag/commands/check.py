"""``kvmdiag check``: why a path does not work, and what cures it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.facts import facts, question
from kvmdiag.commands.flows import with_flows
from kvmdiag.commands.options import PATH, Options, takes
from kvmdiag.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.question import Question
    from kvmdiag.model.report import Report
    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()

HEALTHY, FAULTY, INCONCLUSIVE = 0, 1, 3
FORMATS = ("text", "json", "junit", "sarif", "html", "markdown")


@app.command()
@takes(PATH, formats=FORMATS)
def check(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SRC",
            help="A guest, a guest's NIC (node1:ens6), host, a namespace, an address or a name.",
            show_default=False,
        ),
    ] = None,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="DST", help="The same, or anything outside.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ignores and severities; without it kvmdiag.toml here, if there is one.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier report (--format json): tell only what is new.",
            show_default=False,
        ),
    ] = None,
    *,
    options: Options,
) -> int:
    """Run the checks; with SRC and DST, judge them by that path.

    With SRC alone, the paths from there that are meant to work are judged.
    """
    from kvmdiag.commands import decisions
    from kvmdiag.commands.terminal import emit

    decided = decisions.read(config)
    told = None if baseline is None else decisions.read_baseline(baseline)
    report = judge(facts(options), source, destination, options)
    report = decisions.applied(report, decided, told)
    emit(rendered(report, options), options)
    fail_on = options.fail_on
    if decided.fail_on is not None and fail_on == "error":
        fail_on = decided.fail_on.value
    return exit_code(report, fail_on)


def judge(
    snapshot: Snapshot, source: str | None, destination: str | None, options: Options
) -> Report:
    """Run all checks over the snapshot, and over the path's connections if it is a live one.

    Raises:
        UsageError: an end of the path is unknown.

    """
    from kvmdiag.diagnose.check import load_checks
    from kvmdiag.diagnose.engine import diagnose

    if source is None:
        return diagnose(snapshot, load_checks())
    if destination is None:
        return diagnose(snapshot, load_checks(), source=_machine(snapshot, source))
    asked = _asked(snapshot, source, destination, options)
    return diagnose(with_flows(snapshot, asked, options), load_checks(), asked)


def _asked(snapshot: Snapshot, source: str, destination: str, options: Options) -> Question:
    """The path; the way back where the destination has no address, which is what ails it then."""
    from msgspec.structs import replace

    from kvmdiag.simulate.endpoints import NoAddressError

    try:
        return question(snapshot, source, destination, options)
    except NoAddressError as error:
        try:
            back = question(snapshot, destination, source, options)
        except UsageError:
            raise error from None
        said = f"{error}: the way from there to {source} is judged in its place"
        return replace(back, source=replace(back.source, assumed=(*back.source.assumed, said)))


def _machine(snapshot: Snapshot, name: str) -> str:
    """The machine that a source without a destination names."""
    known = [stack.name for stack in snapshot.stacks]
    if name not in known:
        raise UsageError(f"no guest or namespace {name!r} (known: {', '.join(known)})")
    return name


def rendered(report: Report, options: Options) -> RenderableType:
    """The report in the format the user chose."""
    if options.format == "text" and options.quiet:
        from kvmdiag.reports import text

        return text.render_verdict(report)
    format_ = import_module(f"kvmdiag.reports.{options.format}")
    made: RenderableType = format_.render(report, verbose=options.verbose)
    return made


def exit_code(report: Report, fail_on: str) -> int:
    """0 healthy, 1 not reached or a fault that counts, 3 too little known to say.

    A cause or a broken path settles the matter whatever else could not be read; a fault off
    the asked path counts as well, as it does without a path.
    """
    from kvmdiag.model.report import Severity
    from kvmdiag.reports.words import worst

    walks = [result.walk for result in report.paths]
    walks += [report.walk] if report.walk is not None else []
    if any(walk.works is False for walk in walks):
        return FAULTY
    found = worst(report.findings)
    counted = {Severity.ERROR, Severity(fail_on)}
    if found in counted:
        return FAULTY
    return INCONCLUSIVE if report.verdict == "unknown" else HEALTHY
