"""What several probes found, for people: the path's MTU, loss and latency, an exchange."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kvmdiag.model.link import LinkRef
from kvmdiag.model.measure import Exchange, PathMtu, Series
from kvmdiag.reports import words
from kvmdiag.reports.escape import safe
from kvmdiag.reports.layout import Lines

_MARKS = {True: ("✓ ", "bold green"), False: ("✗ ", "bold red"), None: ("? ", "bold yellow")}


def one_line(reached: bool, waited: float, last: LinkRef | None) -> str:
    """How one probe ended, for a log."""
    if reached:
        return f"reached, {waited * 1000:.1f} ms"
    return f"not reached, last seen at {safe(str(last))}" if last else "not reached, seen nowhere"


def render_mtu(found: PathMtu, *, quiet: bool = False) -> RenderableType:
    """The size, what limits it, and what the walk predicted."""
    lines = Lines()
    path = words.path(found.question)
    if found.largest is None:
        said = f"{path}: not even {found.lost} bytes get there and back"
        lines.prose((said, "bold"), lead=_MARKS[False])
    else:
        said = f"{path}: packets of up to {found.largest} bytes get there and back"
        lines.prose((said, "bold"), lead=_MARKS[True])
    if quiet:
        return lines
    lines.blank()
    if found.lost is None:
        lines.prose(f"the link it is sent by takes no more than {found.ceiling} bytes")
    elif found.largest is not None:
        lines.prose(_loss(found), lead=("limit  ", "dim"))
    lines.prose(_expectation(found), lead=("model  ", "yellow" if _differs(found) else "dim"))
    lines.prose(f"{found.sent} probes of many sizes were sent, DF set", lead=("sent   ", "dim"))
    for text in found.remarks:
        lines.prose(text, lead=("sending  ", "dim"))
    return lines


def _loss(found: PathMtu) -> str:
    way = "" if found.travel == "request" else " on the way back"
    told = "silently" if found.told is None else f"and the sender is told: {found.told}"
    return f"{found.lost} bytes do not pass {found.limit or 'an unknown place'}{way}, {told}"


def _differs(found: PathMtu) -> bool:
    return found.expected is not None and found.expected != found.largest


def _expectation(found: PathMtu) -> str:
    if found.expected is None:
        return "makes no prediction: it does not expect even small packets to get through"
    where = f", limited at {found.expected_limit}" if found.expected_limit else ""
    verb = "expected" if _differs(found) else "agrees:"
    return f"{verb} {found.expected} bytes{where}"


def render_series(found: Series, *, quiet: bool = False) -> RenderableType:
    """How many came back, and what happened between each two hops."""
    lines = Lines()
    lost = found.sent - found.answered
    share = f"{100 * lost / found.sent:.0f} % lost" if found.sent else "none sent"
    times = "" if found.mean is None else f"; {_times(found.best, found.mean, found.worst)}"
    said = (
        f"{words.path(found.question)}: {found.answered} of {found.sent} answered, {share}{times}"
    )
    mark = True if not lost else False if not found.answered else None
    lines.prose((said, "bold"), lead=_MARKS[mark])
    if quiet:
        return lines
    notes = Lines()
    for text in found.remarks:
        notes.prose(text, lead=("sending  ", "dim"))
    return Group(lines, "", _segments(found), notes)


def _times(best: float | None, mean: float | None, worst: float | None) -> str:
    values = " / ".join(f"{(value or 0) / 1000:.2f}" for value in (best, mean, worst))
    return f"{values} ms (best / mean / worst)"


def _segments(found: Series) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("", "from", "to"):
        table.add_column(name, no_wrap=True)
    for name in ("came", "lost", "best µs", "mean", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for segment in found.segments:
        table.add_row(
            Text("→" if segment.travel == "request" else "←", style="dim"),
            safe(str(segment.start)),
            safe(str(segment.end)),
            str(segment.came),
            Text(str(segment.lost), "bold red" if segment.lost else "dim"),
            *("" if v is None else f"{v:.0f}" for v in (segment.best, segment.mean, segment.worst)),
        )
    return table


def render_exchange(found: Exchange, *, quiet: bool = False) -> RenderableType:
    """The messages in their order, which of them is missing, and where each was seen."""
    lines = Lines()
    lines.prose((found.verdict, "bold"), lead=_MARKS[found.works])
    if quiet:
        return lines
    for leg in found.legs:
        lines.blank()
        lines.prose((leg.name, "bold"), f"  {leg.text}", lead=_MARKS[leg.arrived])
        way = " → ".join(str(place) for place, _ in leg.places)
        if way:
            lines.prose(way, indent=2)
    lines.blank()
    for text in found.remarks:
        lines.prose(text, lead=("note  ", "dim"))
    return lines
