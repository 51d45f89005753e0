"""``kvmdiag trace``: the predicted way of a packet beside the way of a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kvmdiag.commands import trace_wishes as wish
from kvmdiag.commands.agents import agents
from kvmdiag.commands.facts import facts, question
from kvmdiag.commands.flows import with_flows
from kvmdiag.commands.options import OUTPUT, QUESTION, SOURCE, Options, takes
from kvmdiag.commands.trace_outcome import INCONCLUSIVE, exit_code, fused_with, keep, rendered
from kvmdiag.commands.trace_wishes import Wishes, with_port
from kvmdiag.errors import NotReadableError, UsageError

if TYPE_CHECKING:
    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.trace import Walk
    from kvmdiag.reports.probe_notes import ProbeNotes

app = typer.Typer()

EXCHANGES = ("arp", "dhcp", "dns")
"""What can stand in place of a destination: messages to be followed."""


@app.command()
@takes((*SOURCE, *QUESTION, "format", *OUTPUT), formats=("text", "json"))
def trace(
    source: wish.Source,
    destination: wish.Destination,
    name: wish.Name = None,
    *,
    no_probe: wish.NoProbe = False,
    tcp: wish.Tcp = None,
    udp: wish.Udp = None,
    on_tap: wish.OnTap = False,
    mtu: wish.Mtu = False,
    count: wish.Count = 1,
    interval: wish.Interval = 1.0,
    watch: wish.Watched = False,
    pcap: wish.Pcap = None,
    server: wish.Server = None,
    options: Options,
) -> int:
    """Follow a packet hop by hop, predicted and observed.

    One probe is sent from inside SRC and watched at every link. With --snapshot nothing is sent.
    """
    wishes = Wishes(
        on_tap=on_tap, mtu=mtu, count=count, interval=interval, watch=watch, pcap=pcap,
        server=server,
    )  # fmt: skip
    silent = no_probe or options.snapshot is not None
    if silent:
        wishes.refuse("nothing is sent with --no-probe or --snapshot")
    options = with_port(options, tcp, udp)
    if destination in EXCHANGES:
        return _exchange(source, destination, name, silent, wishes, options)
    if name is not None or server is not None:
        raise UsageError(
            "a name and --server go with dns only: trace SRC dns NAME (trace SRC arp ADDRESS)"
        )
    return _path(source, destination, silent, wishes, options)


def _exchange(
    source: str, kind: str, name: str | None, silent: bool, wishes: Wishes, options: Options
) -> int:
    from kvmdiag.commands.trace_exchange import arp, dhcp, dns

    if silent:
        raise UsageError(f"{kind} is followed by sending only, never predicted")
    wishes.refuse(f"does not go with {kind}", "server", "on_tap")
    if kind == "dns":
        if name is None:
            raise UsageError("which name shall be asked for? trace SRC dns NAME")
        return dns(source, name, wishes, options)
    if wishes.server is not None:
        raise UsageError(f"--server goes with dns, not with {kind}")
    if kind == "arp":
        return arp(source, name, wishes, options)
    if name is not None:
        raise UsageError("dhcp takes no name: trace SRC dhcp")
    return dhcp(source, wishes, options)


def _path(source: str, destination: str, silent: bool, wishes: Wishes, options: Options) -> int:
    from kvmdiag.commands.terminal import emit
    from kvmdiag.simulate.walk import walk

    snapshot = facts(options, unprivileged=not (wishes.mtu or wishes.watch or wishes.count > 1))
    asked = question(snapshot, source, destination, options)
    snapshot = with_flows(snapshot, asked, options)
    way = walk(snapshot, asked)
    if wishes.mtu:
        from kvmdiag.commands.trace_repeated import largest

        return largest(snapshot, way, wishes, options)
    if wishes.watch or wishes.count > 1:
        from kvmdiag.commands.trace_repeated import repeated

        return repeated(snapshot, way, wishes, options)
    if silent:
        emit(rendered(way, None, options), options)
        return exit_code(way, None)
    try:
        way, notes = _probed(snapshot, way, wishes, options)
    except NotReadableError as error:
        emit(rendered(way, None, options, unprobed=str(error)), options)
        return INCONCLUSIVE
    emit(rendered(way, notes, options), options)
    return exit_code(way, notes)


def _probed(
    snapshot: Snapshot, predicted: Walk, wishes: Wishes, options: Options
) -> tuple[Walk, ProbeNotes]:
    """Send a probe; the walk with what was seen of it, and how it ended.

    Raises:
        NotReadableError: the probe cannot be sent, or capturing is not allowed.

    """
    from kvmdiag.probes.trace import observe

    seen = observe(
        snapshot,
        predicted,
        timeout=options.timeout,
        on_tap=wishes.on_tap,
        enter=agents(snapshot, options),
    )
    way, notes = fused_with(predicted, seen)
    if wishes.pcap is not None:
        keep(wishes.pcap, snapshot, [(way, seen)])
    return way, notes
