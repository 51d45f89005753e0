"""A walk as a table: one row for each link the packet passes, request first, then the reply."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kvmdiag.model.owner import owner_of
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import NO_ANSWER, Hop, Stage, Trace, Walk
from kvmdiag.reports import kernel_text, words
from kvmdiag.reports.escape import safe
from kvmdiag.reports.layout import Lines
from kvmdiag.reports.probe_notes import ProbeNotes

_LINKS = {Stage.INGRESS: "in", Stage.EGRESS: "out", Stage.BRIDGE: "bridge"}
_MARKS = {True: ("✓ ", "bold green"), False: ("✗ ", "bold red"), None: ("? ", "bold yellow")}


def render_trace(
    walk: Walk,
    *,
    verbose: int = 0,
    notes: ProbeNotes | None = None,
    unprobed: str | None = None,
) -> RenderableType:
    """The verdict, the table, and what must be known to read it.

    ``verbose`` adds the steps between the links, and at each hook the rules that matched.
    Without ``notes`` no probe was sent, and the columns of the observation are left out;
    ``unprobed`` says why none could be.
    """
    lines = Lines()
    lines.prose((_verdict(walk, notes), "bold"), lead=_MARKS[None if unprobed else walk.works])
    if unprobed is not None:
        lines.prose((unprobed, "bold yellow"), lead=("not probed  ", "yellow"))
        lines.prose("what stands here is only what the facts that could be read let expect")
    if notes is not None and notes.disagreement is not None:
        parted = notes.kernel.diverged_at if notes.kernel is not None else None
        where = f"; they part at {parted}" if parted is not None else ""
        lines.prose((notes.disagreement + where, "bold yellow"), lead=("model  ", "yellow"))
    if notes is not None and notes.doubt is not None:
        lines.prose((notes.doubt, "bold yellow"), lead=("doubt  ", "yellow"))
    if notes is not None:
        kernel_text.account(lines, walk)
    return Group(
        lines, "", _table(walk, verbose, notes is not None), _remarks(walk, notes, verbose)
    )


def render_verdict(
    walk: Walk, *, notes: ProbeNotes | None = None, unprobed: str | None = None
) -> RenderableType:
    """The verdict line alone."""
    lines = Lines()
    lines.prose((_verdict(walk, notes), "bold"), lead=_MARKS[None if unprobed else walk.works])
    return lines


def _verdict(walk: Walk, notes: ProbeNotes | None) -> str:
    path = words.path(walk.question)
    if notes is None:
        how = {True: "predicted to work", False: "predicted to fail", None: "cannot be told"}
        why = words.success(walk) if walk.works else words.ending(walk.decisive)
        return f"{path}: {how[walk.works]}: {why}"
    if notes.reached:
        return f"{path}: reached; the reply came back after {notes.waited * 1000:.1f} ms"
    state = "not reached" if walk.works is False else "no answer"
    end = walk.decisive.end
    if end.decision == NO_ANSWER:
        return f"{path}: {state}: {end.because} ({end.place})"
    return f"{path}: {state}: {words.ending(walk.decisive)}"


def _table(walk: Walk, verbose: int, probed: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("", "stack", "link", "way", "packet"):
        table.add_column(name, no_wrap=True)
    if probed:
        table.add_column("seen", no_wrap=True)
        table.add_column("µs", justify="right", no_wrap=True)
    table.add_column("decision", overflow="fold")
    for trace in walk.traces:
        before: Packet | None = None
        for hop in _rows(trace, verbose):
            row: list[Text | str] = [
                Text("→" if hop.direction == "request" else "←", style="dim"),
                safe(hop.stack),
                safe(hop.link or "-"),
                Text(_LINKS.get(hop.stage, hop.stage.value), style="dim"),
                _addresses(hop.packet, before),
            ]
            if probed:
                row += [_seen(hop), "" if hop.time_us is None else f"{hop.time_us:.0f}"]
            table.add_row(*row, _decision(hop, trace, verbose))
            before = hop.packet
        if trace is not walk.traces[-1]:
            table.add_section()
    return table


def _rows(trace: Trace, verbose: int) -> Iterator[Hop]:
    """The hops that show a link, the one where it ends, and those that decide anything."""
    for hop in trace.hops:
        ends_here = hop is trace.end and not trace.arrived
        if verbose or hop.stage in _LINKS or ends_here:
            yield hop


def _addresses(packet: Packet, before: Packet | None) -> Text:
    """``src > dst``, what NAT has just rewritten standing out."""
    text = Text()
    for part, old in (
        (packet.src, before.src if before else packet.src),
        (packet.dst, before.dst if before else packet.dst),
    ):
        if text:
            text.append(" > ", style="dim")
        text.append(str(part), style="bold magenta" if part != old else "")
    return text


def _seen(hop: Hop) -> Text:
    if hop.seen is None:
        return Text("")
    if hop.seen:
        return Text("✓" if hop.predicted else "✓ not predicted", style="green")
    return Text("✗", style="bold red")


def _decision(hop: Hop, trace: Trace, verbose: int) -> Text:
    ends_here = hop is trace.end and not trace.arrived
    why = hop.because if ends_here or verbose or not hop.predicted else ""
    text = Text(safe(hop.decision + (f": {why}" if why else "")), "bold red" if ends_here else "")
    if hop.decider is not None and (ends_here or verbose):
        text.append(f"  {safe(str(hop.decider))}", style="dim")
    for rule in hop.matched if verbose else ():
        owner = owner_of(rule)
        by = f", of {owner}" if owner is not None else ""
        text.append(f"\n· {safe(rule.text)}", style="not bold")
        text.append(f"  {safe(str(rule))}{by}", style="dim")
    return text


def _remarks(walk: Walk, notes: ProbeNotes | None, verbose: int) -> Lines:
    lines = Lines()
    for text in dict.fromkeys(text for trace in walk.traces for text in trace.assumptions):
        lines.prose(text, lead=("assumed  ", "dim"))
    if notes is None:
        return lines
    for text in notes.remarks:
        lines.prose(text, lead=("sending  ", "dim"))
    if notes.insiders:
        names = ", ".join(notes.insiders)
        lines.prose(
            f"what passed inside {names} is what tcpdump there says", lead=("inside  ", "dim")
        )
    for why in dict.fromkeys(why for _, why in notes.unwatched):
        names = ", ".join(name for name, reason in notes.unwatched if reason == why)
        lines.prose(f"{names}: {why}", lead=("not watched  ", "dim"))
    if notes.truncated:
        lines.prose("more of it was seen than is shown", lead=("note  ", "dim"))
    if notes.kernel is not None:
        kernel_text.details(lines, notes.kernel, verbose)
    return lines
