"""``kvmdiag trace`` with more than one probe: ``--mtu``, ``--count``, ``--watch``."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kvmdiag.commands.agents import agents
from kvmdiag.commands.facts import facts
from kvmdiag.commands.flows import with_flows
from kvmdiag.commands.options import Options
from kvmdiag.commands.terminal import console, emit, progress
from kvmdiag.commands.trace_outcome import (
    INCONCLUSIVE,
    NOT_REACHED,
    REACHED,
    exit_code,
    fused_with,
    keep,
    rendered,
)
from kvmdiag.commands.trace_wishes import Wishes
from kvmdiag.errors import UsageError
from kvmdiag.reports import measure_json, measure_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.trace import Walk
    from kvmdiag.probes.observation import Observation
    from kvmdiag.reports.probe_notes import ProbeNotes

_KEPT = 1000
"""Of how many probes at most the figures of an endless watch are made."""


def largest(snapshot: Snapshot, way: Walk, wishes: Wishes, options: Options) -> int:
    """``--mtu``: exit code 0 when anything passes, 1 when nothing does."""
    from kvmdiag.probes.mtu import path_mtu

    wishes.refuse("does not go with --mtu", "mtu", "on_tap")
    if options.proto != "icmp":
        raise UsageError("--mtu sends icmp: others have but one size, or need not answer")
    with progress("sending packets of many sizes", options):
        found = path_mtu(
            snapshot,
            way,
            timeout=options.timeout,
            on_tap=wishes.on_tap,
            enter=agents(snapshot, options),
        )
    if options.format == "json":
        emit(measure_json.render_mtu(found), options)
    else:
        emit(measure_text.render_mtu(found, quiet=options.quiet), options)
    return NOT_REACHED if found.largest is None else REACHED


def repeated(snapshot: Snapshot, way: Walk, wishes: Wishes, options: Options) -> int:
    """``--count``: exit code 0 when all were answered, 1 when none was, else 3. ``--watch``."""
    from kvmdiag.probes.series import series

    if wishes.watch:
        return _watched(snapshot, way, wishes, options)
    seen = list(_observations(snapshot, way, wishes, options))
    if wishes.pcap is not None:
        keep(wishes.pcap, snapshot, [(fused_with(way, one)[0], one) for one in seen])
    found = series(way.question, seen)
    if options.format == "json":
        emit(measure_json.render_series(found), options)
    else:
        emit(measure_text.render_series(found, quiet=options.quiet), options)
    if found.answered in (0, found.sent):
        return REACHED if found.answered else NOT_REACHED
    return INCONCLUSIVE


def _observations(
    snapshot: Snapshot, way: Walk, wishes: Wishes, options: Options
) -> Iterator[Observation]:
    """One probe after the other, each at its time as far as the one before has ended."""
    from kvmdiag.probes.trace import observe

    enter = agents(snapshot, options)
    due = time.monotonic()
    for number in range(wishes.count):
        if number:
            time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + wishes.interval, time.monotonic())
        yield observe(snapshot, way, timeout=options.timeout, on_tap=wishes.on_tap, enter=enter)


def _watched(snapshot: Snapshot, way: Walk, wishes: Wishes, options: Options) -> int:
    """Until interrupted, or ``--count`` is reached; the exit code is that of the last probe."""
    if options.format != "text" or options.output is not None:
        raise UsageError("--watch shows text, on the terminal or in a pipe")
    wishes.refuse("does not go with --watch", "watch", "on_tap", "count")
    screen = _Screen(options) if sys.stdout.isatty() and not options.quiet else _Lines(options)
    code = INCONCLUSIVE
    with suppress(KeyboardInterrupt), screen:
        for fused, notes, seen in _rounds(snapshot, way, wishes, options):
            code = exit_code(fused, notes)
            screen.show(fused, notes, seen)
    return code


def _rounds(
    snapshot: Snapshot, way: Walk, wishes: Wishes, options: Options
) -> Iterator[tuple[Walk, ProbeNotes, Observation]]:
    """Probes; after a change the facts are read again, so that the prediction keeps up."""
    from kvmdiag.probes.trace import observe
    from kvmdiag.simulate.walk import walk

    enter = agents(snapshot, options)
    before, number = None, 0
    while wishes.count == 1 or number < wishes.count:
        due = time.monotonic() + wishes.interval
        seen = observe(snapshot, way, timeout=options.timeout, on_tap=wishes.on_tap, enter=enter)
        state = (seen.reached, seen.last_seen)
        if before not in (None, state):
            snapshot = with_flows(facts(options), way.question, options)
            way = walk(snapshot, way.question)
        before = state
        fused, notes = fused_with(way, seen)
        yield fused, notes, seen
        number += 1
        time.sleep(max(0.0, due - time.monotonic()))


class _Lines:
    """One line for each probe; the whole trace whenever the state has changed."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._before: object = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, way: Walk, notes: ProbeNotes, seen: Observation) -> None:
        """Print it at once: somebody waits at the other end of the pipe."""
        state = (seen.reached, seen.last_seen)
        if state != self._before and not self._options.quiet:
            emit(rendered(way, notes, self._options), self._options)
        self._before = state
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        emit(f"{now} {measure_text.one_line(seen.reached, seen.waited, seen.last_seen)}\n",
             self._options)  # fmt: skip


class _Screen:
    """The latest trace, with the figures of all probes so far, in place on the terminal."""

    def __init__(self, options: Options) -> None:
        from rich.live import Live

        self._options = options
        self._live: Any = Live(console=console(options), auto_refresh=False)
        self._seen: deque[Observation] = deque(maxlen=_KEPT)
        self._changes: deque[RenderableType] = deque(maxlen=5)
        self._before: object = None

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(self, *ended: Any) -> None:
        self._live.__exit__(*ended)

    def show(self, way: Walk, notes: ProbeNotes, seen: Observation) -> None:
        """Draw it anew."""
        from rich.console import Group

        from kvmdiag.probes.series import series

        self._seen.append(seen)
        state = (seen.reached, seen.last_seen)
        if state != self._before:
            now = datetime.now().astimezone().strftime("%H:%M:%S")
            line = measure_text.one_line(seen.reached, seen.waited, seen.last_seen)
            self._changes.append(f"{now} {line}")
        self._before = state
        found = series(way.question, self._seen)
        parts = [rendered(way, notes, self._options), "", measure_text.render_series(found)]
        self._live.update(Group(*parts, "", *self._changes), refresh=True)
