"""``kvmdiag fix``: carry out the repair plan; verify it; undo it when it does not help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.check import FAULTY, HEALTHY, INCONCLUSIVE, judge
from kvmdiag.commands.facts import facts
from kvmdiag.commands.options import QUESTION, SOURCE, Options, takes
from kvmdiag.commands.verify import Verified, verify
from kvmdiag.errors import KvmdiagError, UsageError
from kvmdiag.system.interrupts import raised

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.commands.repair import Repair
    from kvmdiag.model.report import Plan, Report, Step
    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()

_NETNS_DIRECTORY = "/run/netns/"


@app.command()
@takes((*SOURCE, *QUESTION, "verbose", "quiet", "no_color"))
def fix(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Where the path begins.", show_default=False)
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where it ends.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, do nothing.")] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to note what is done; by default a file in ~/.local/state/kvmdiag.",
            show_default=False,
        ),
    ] = None,
    *,
    options: Options,
) -> int:
    """Show the repair plan, ask, carry it out, verify it, and undo it if it does not help."""
    from kvmdiag.reports import text

    if options.snapshot is not None and not dry_run:
        raise UsageError("a file cannot be repaired; fix --dry-run shows the plan for a snapshot")
    snapshot = facts(options)
    report = judge(snapshot, source, destination, options)
    show = _printer(options)
    show(text.render_verdict(report))
    if report.verdict == "unknown":
        return INCONCLUSIVE
    if report.walk is not None and report.walk.works:
        show("Nothing to repair on this path.")
        return HEALTHY
    plan = _usable_plan(report)
    if plan is None:
        show("No repair is known that is proved to help; kvmdiag check tells what was found.")
        for line in _by_hand(report):
            show(line)
        return FAULTY
    show("")
    show(text.render_plan(plan))
    show("")
    if dry_run:
        return FAULTY
    return _repair(snapshot, plan, (source, destination), yes, log, options)


def _usable_plan(report: Report) -> Plan | None:
    plan = report.plan
    return plan if plan is not None and plan.steps and plan.works is not False else None


def _by_hand(report: Report) -> Iterator[str]:
    """What people do about the causes that no command is known for which harms nobody."""
    from kvmdiag.diagnose.check import load_checks

    known = {check.id: check.explanation for check in load_checks()}
    causes = (found for found in report.findings if found.role == "cause" and not found.fix)
    for name in dict.fromkeys(found.check for found in causes):
        yield f"What helps against {name}: {known[name].fix}"


def _repair(
    snapshot: Snapshot,
    plan: Plan,
    ends: tuple[str, str],
    yes: bool,
    log: Path | None,
    options: Options,
) -> int:
    from kvmdiag.commands import fix_log, repair

    allowed = _namespaces(snapshot) if options.lab is not None else None
    repair.refuse_unfit(plan, allowed, by_hand=not yes and sys.stdin.isatty())
    if not yes and not _agreed(plan):
        return FAULTY
    show = _printer(options)
    notes = fix_log.FixLog(log or fix_log.default_path())
    notes.plan(ends, plan)

    def tell(line: str) -> None:
        notes.note(line)
        show(line)

    def by_hand(step: Step) -> None:
        show(f"To be typed {step.where}: {step.command}")
        if not typer.confirm("Is it done?", default=True):
            raise repair.StepFailed(f"it was not carried out {step.where}: {step.command}")

    work = repair.Repair(runner=repair.run_program, tell=tell, by_hand=by_hand)
    with raised():
        try:
            work.carry_out(plan)
            verified = verify(ends, options)
        except KvmdiagError as error:
            verified = Verified(failure=str(error))
        except BaseException as error:  # interrupted: leave nothing half done
            with suppress(OSError, ValueError):
                tell(f"Interrupted: {type(error).__name__}")
            _undo(work, options)
            raise
        if verified.failure is not None:
            show("")
            tell(f"Not cured: {verified.failure}")
            _undo(work, options)
            show(f"  log: {notes.path}")
            return FAULTY
    show("")
    tell(_proved(ends, verified))
    _tell_how_to_go_on(plan, show)
    show(f"  log: {notes.path}")
    return HEALTHY


def _namespaces(snapshot: Snapshot) -> set[str]:
    """The names of the namespaces that belong to what was read."""
    paths = [stack.netns for stack in snapshot.stacks if stack.netns is not None]
    return {
        path.removeprefix(_NETNS_DIRECTORY) for path in paths if path.startswith(_NETNS_DIRECTORY)
    }


def _agreed(plan: Plan) -> bool:
    """Ask on the terminal; without one there is nobody to ask.

    Raises:
        UsageError: standard input is no terminal.

    """
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; --yes carries the plan out without asking")
    disruptive = any(step.disruptive for step in plan.steps)
    warning = " It affects the traffic of others." if disruptive else ""
    return typer.confirm(f"Carry this out?{warning}", default=False)


def _proved(ends: tuple[str, str], verified: Verified) -> str:
    """What is known now, and by whom: by the kernel, or by the simulation alone."""
    source, destination = ends
    if verified.unprobed is not None:
        return (
            f"The simulation now says that {source} reaches {destination}; "
            f"no packet could be sent: {verified.unprobed}"
        )
    cured = f"Cured: {source} reaches {destination}; a real packet gets through"
    if verified.against is not None:
        return f"{cured}, though the simulation says otherwise: {verified.against}"
    return f"{cured}."


def _tell_how_to_go_on(plan: Plan, show: Callable[[str], None]) -> None:
    """How to go back, and how to keep what was done."""
    for step in reversed(plan.steps):
        if step.undo:
            show(f"  to undo: {step.undo}")
    for step in plan.steps:
        if step.persist:
            show(f"  to keep: {step.persist}")


def _undo(work: Repair, options: Options) -> None:
    """Roll back, whether or not there is still a terminal to tell it on."""
    done = tuple(work.done)
    stuck = work.roll_back()
    show = _printer(options)
    with suppress(OSError, ValueError):
        for step in stuck:
            show(f"Still in place, undo it by hand: {step.undo}")
        lasting = [step for step in done if not step.undo]
        for step in lasting:
            show(f"This was done, and there is nothing to undo: {step.command}")
        if not done:
            show("Nothing was changed.")
        elif not stuck and len(done) > len(lasting):
            show(f"Everything {'else ' if lasting else ''}that was done is undone.")


def _printer(options: Options) -> Callable[[RenderableType], None]:
    """What prints a line or a report on standard output, in the user's colours."""
    from kvmdiag.commands.terminal import console
    from kvmdiag.reports.layout import Lines

    terminal = console(options)

    def show(content: RenderableType) -> None:
        if isinstance(content, str):
            lines = Lines()
            lines.verbatim(content)
            content = lines
        terminal.print(content, crop=False)

    return show
