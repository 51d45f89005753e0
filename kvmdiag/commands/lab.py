"""``kvmdiag lab``: practice networks, and the faults that can be put into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvmdiag.commands.options import OUTPUT, Options, takes
from kvmdiag.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from kvmdiag.lab.manager import Listed
    from kvmdiag.lab.real_spec import RealNetwork
    from kvmdiag.lab.spec import Fault, Network
    from kvmdiag.lab.state import State
    from kvmdiag.reports.layout import Lines

app = typer.Typer()

_Net = Annotated[
    str, typer.Argument(metavar="NET", help="A practice network that stands.", show_default=False)
]


@app.command("list")
@takes(("format", *OUTPUT), formats=("text", "json"))
def list_(
    net: Annotated[
        str | None,
        typer.Argument(metavar="[NET]", help="Only this practice network.", show_default=False),
    ] = None,
    *,
    options: Options,
) -> None:
    """Show the practice networks, which of them stand, and the faults each can have."""
    from kvmdiag.commands.terminal import emit
    from kvmdiag.lab import manager

    listing = manager.listing()
    if net is not None:
        listing = tuple(listed for listed in listing if listed.network.name == net)
        if not listing:
            raise LabError(f"no practice network is called {net!r}; see: kvmdiag lab list")
    emit(_json(listing) if options.format == "json" else _text(listing), options)


@app.command()
@takes(("quiet",))
def up(
    net: Annotated[
        str, typer.Argument(metavar="NET", help="Which one; see lab list.", show_default=False)
    ],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Build it under a name of its own."),
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="With a libvirt of its own and QEMU guests.")
    ] = False,
    *,
    options: Options,
) -> None:
    """Build a practice network from network namespaces, or with virtual machines."""
    from kvmdiag.lab import manager

    label = manager.up(net, label=name, real_guests=real)
    if not options.quiet:
        example = manager.named(net, real_guests=real).example
        print(f"{label} stands. Now: kvmdiag --lab {label} check {example}")


@app.command()
@takes(("quiet",))
def down(net: _Net, *, options: Options) -> None:
    """Remove a practice network."""
    from kvmdiag.lab import manager

    manager.down(net)
    if not options.quiet:
        print(f"{net} is gone.")


@app.command("break")
@takes(("quiet",))
def break_(
    net: _Net,
    fault: Annotated[
        str,
        typer.Argument(metavar="FAULT", help="One that lab list shows.", show_default=False),
    ],
    *,
    options: Options,
) -> None:
    """Inject a fault into a practice network; several may be in it."""
    from kvmdiag.lab import manager

    injected = manager.break_(net, fault)
    if not options.quiet:
        print(f"{net}: {injected.summary}. To undo it: kvmdiag lab mend {net} {injected.name}")


@app.command()
@takes(("quiet",))
def mend(
    net: _Net,
    fault: Annotated[
        str | None,
        typer.Argument(metavar="[FAULT]", help="Only this one.", show_default=False),
    ] = None,
    *,
    options: Options,
) -> None:
    """Undo one fault or all; whatever else was changed in the network goes too."""
    from kvmdiag.lab import manager

    gone = manager.mend(net, fault)
    if not options.quiet:
        what = f"{', '.join(gone)} undone" if gone else "no fault was in it; built anew"
        print(f"{net}: {what}.")


def _json(listing: tuple[Listed, ...]) -> str:
    """One object, schema kvmdiag.lab/1; ``standing`` is null for who may not look.

    ``real`` is null for what cannot be had with real guests.
    """
    import json

    networks = [
        {
            "name": listed.network.name,
            "summary": listed.network.summary,
            "machines": [machine.name for machine in listed.network.machines],
            "faults": [_fault(fault) for fault in listed.network.faults],
            "real": None
            if listed.real is None
            else {
                "guests": [guest.name for guest in listed.real.guests],
                "faults": [_fault(fault) for fault in listed.real.namespaces.faults],
            },
            "standing": None
            if listed.standing is None
            else [{"name": known.label, "faults": known.faults} for known in listed.standing],
        }
        for listed in listing
    ]
    return json.dumps({"schema": "kvmdiag.lab/1", "networks": networks}, indent=2) + "\n"


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "name": fault.name,
        "machine": fault.machine,
        "summary": fault.summary,
        "check": fault.check,
        "harmless": fault.harmless,
    }


def _text(listing: tuple[Listed, ...]) -> RenderableType:
    from kvmdiag.reports.layout import Lines

    lines = Lines()
    for listed in listing:
        network = listed.network
        lines.blank()
        lines.prose((network.name, "bold"), "  ", network.summary)
        lines.prose(_standing(listed.standing))
        _add_faults(lines, network.faults)
        if listed.real is not None:
            _add_real(lines, network, listed.real)
    return lines


def _add_real(lines: Lines, network: Network, real: RealNetwork) -> None:
    """What is otherwise when the guests are virtual machines."""
    guests = ", ".join(guest.name for guest in real.guests)
    known = {fault.name for fault in network.faults}
    faults = real.namespaces.faults
    lines.blank()
    lines.prose(f"With --real its guests are virtual machines: {guests}.")
    lacking = sorted(known - {fault.name for fault in faults})
    if lacking:
        lines.prose(f"Then these faults cannot be had: {', '.join(lacking)}.")
    _add_faults(lines, [fault for fault in faults if fault.name not in known])


def _add_faults(lines: Lines, faults: Sequence[Fault]) -> None:
    """The faults and the decoys among them, each kind under its heading."""
    width = max((len(fault.name) for fault in faults), default=0)
    for title, harmless in (("Faults", False), ("Harmless decoys", True)):
        found = [fault for fault in faults if fault.harmless is harmless]
        if found:
            lines.blank()
            lines.prose((title, "italic"))
        for fault in found:
            lines.prose(fault.summary, indent=2, lead=f"{fault.name:<{width}}  ")


def _standing(standing: tuple[State, ...] | None) -> str:
    if standing is None:
        return "Whether it stands is for root to see: sudo kvmdiag lab list"
    if not standing:
        return "It does not stand."
    described = (f"{known.label} ({', '.join(known.faults) or 'no fault'})" for known in standing)
    return f"Stands: {', '.join(described)}"
