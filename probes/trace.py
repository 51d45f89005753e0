"""One live probe, watched at every link it may pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import msgspec

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.probes import bpf
from kvmdiag.probes.bridges import watched_bridges
from kvmdiag.probes.capture import Capture
from kvmdiag.probes.captures import Captures, open_captures
from kvmdiag.probes.datagram import tunnel_ports
from kvmdiag.probes.doubt import doubt
from kvmdiag.probes.evidence.gather import Gathering, gathering
from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.guest_looks import Looks, looking_inside
from kvmdiag.probes.guest_programs import Enter
from kvmdiag.probes.observation import Observation, Sighting
from kvmdiag.probes.packet import Probe, new_probe
from kvmdiag.probes.sender import Sender
from kvmdiag.probes.sources import sender_for
from kvmdiag.probes.watch import EXPECTED_SILENCE, Watch, longest
from kvmdiag.simulate.facts.addresses import parse_address

__all__ = ["fuse", "observe", "observe_all"]


def observe(
    snapshot: Snapshot,
    walk: Walk,
    *,
    timeout: float = 1.0,
    on_tap: bool = False,
    enter: Enter | None = None,
) -> Observation:
    """Send one probe for the walk's question and watch it on its way, there and back.

    Ends when the source's socket has an answer; when nothing has happened for a while at a
    place from where the packet could not have gone out of sight; at the latest after
    ``timeout`` seconds. With ``on_tap`` the probe enters the host on the source's tap, as it
    does anyway when the source cannot be entered; ``enter`` gives the agents of guests.

    Raises:
        NotReadableError: the probe cannot be sent, or capturing is not allowed.
        UsageError: the source has no such link or address.

    """
    probes = (new_probe(walk.question),)
    return observe_all(snapshot, walk, probes, timeout=timeout, on_tap=on_tap, enter=enter)[0]


def observe_all(
    snapshot: Snapshot,
    walk: Walk,
    probes: Sequence[Probe],
    *,
    timeout: float = 1.0,
    on_tap: bool = False,
    enter: Enter | None = None,
    look: bool = True,
) -> tuple[Observation, ...]:
    """The same with several probes at once, each with a mark of its own; in their order.

    Without ``look`` nothing is started in guests only to see what passes there.
    """
    tunnels = tunnel_ports(snapshot)
    probes = [msgspec.structs.replace(probe, tunnels=tunnels) for probe in probes]
    with ExitStack() as opened:
        senders = [
            opened.enter_context(sender_for(snapshot, walk, probe, on_tap=on_tap, enter=enter))
            for probe in probes
        ]
        for sender in senders:
            sender.prepare()
        sent = [sender.probe for sender in senders]
        kernel = opened.enter_context(gathering(snapshot, walk, sent))
        inside = enter if look else None
        looks = opened.enter_context(
            looking_inside(snapshot, walk, sent, inside, longest(timeout, senders))
        )
        captures = _open_captures(snapshot, walk, sent, opened, kernel)
        watch = Watch(snapshot, senders, captures.opened, kernel)
        opened.callback(watch.close)
        watch.send()
        silent = walk.works is False and walk.decisive.direction == "reply"
        watch.until_settled(timeout, hidden=EXPECTED_SILENCE if silent else None)
        looks.finish()
        seen = [
            _observation(snapshot, walk, sender, watch, number, captures, looks)
            for number, sender in enumerate(senders)
        ]
        evidence = kernel.evidence([one.sightings for one in seen])
        return tuple(
            msgspec.structs.replace(one, evidence=said, bridges_shown=kernel.knows_copies)
            for one, said in zip(seen, evidence, strict=True)
        )


def _observation(
    snapshot: Snapshot,
    walk: Walk,
    sender: Sender,
    watch: Watch,
    number: int,
    captures: Captures,
    looks: Looks,
) -> Observation:
    """What was seen of one of the probes."""
    outside = _sightings(captures.opened, sender.probe)
    inside = looks.sightings(sender.probe, sorted(outside, key=lambda one: one.time_ns))
    insiders = tuple(dict.fromkeys(one.stack for one in inside))
    watched = captures.watched | looks.watched & frozenset(insiders)
    # Where a probe went that was answered, or never set out, is not asked of guests beside its way.
    missing = watch.answers.get(number) is None and bool(outside or inside)
    found = Observation(
        probe=sender.probe,
        sent_ns=sender.sent_ns,
        waited=(watch.ended_ns[number] - sender.sent_ns) / 1e9,
        sightings=_in_path_order([*outside, *inside], snapshot),
        answer=watch.answers.get(number),
        watched=watched - {sender.bypassed},
        blind=tuple(
            (name, looks.why_blind(name) or why)
            for name, why in captures.blind
            if name not in watched and (missing or name not in looks.off_the_way)
        ),
        truncated=any(capture.truncated for capture in captures.opened),
        remarks=sender.remarks,
        insiders=insiders,
    )
    return msgspec.structs.replace(found, doubt=doubt(snapshot, walk, found))


def _sightings(captures: Iterable[Capture], probe: Probe) -> list[Sighting]:
    """All of a probe; a second look finds UDP replies to the ports that NAT gave to it."""
    found = [sighting for capture in captures for sighting in capture.sightings(probe)]
    if probe.proto != "udp":
        return found
    ports = {s.own.sport or 0 for s in found if s.direction == "request"} - {probe.ident}
    if not ports:
        return found
    return [s for capture in captures for s in capture.sightings(probe, ports)]


def _open_captures(
    snapshot: Snapshot,
    walk: Walk,
    probes: Sequence[Probe],
    opened: ExitStack,
    kernel: Gathering,
) -> Captures:
    """A capture in each stack, the source's and those of the predicted way first."""
    by_port = probes[0].proto == "udp"
    return open_captures(
        snapshot,
        opened,
        bpf.program(probes, _answerers(walk) if by_port else ()),
        first=[walk.question.source.stack or "", *(hop.stack for hop in walk.hops)],
        marks=[probe.mark for probe in probes] if by_port else (),
        bridges=partial(watched_bridges, walk) if kernel.knows_copies else lambda _: (),
    )


def _answerers(walk: Walk) -> tuple[IPAddress, ...]:
    """Where an answer may come from: whatever the destination is called along the way."""
    asked = parse_address(walk.question.destination.address or "::")
    return tuple(dict.fromkeys([asked, *(hop.packet.dst for hop in walk.request.hops)]))


def _in_path_order(sightings: Iterable[Sighting], snapshot: Snapshot) -> tuple[Sighting, ...]:
    """By time; at equal times in the order in which one namespace's socket got them.

    What a promiscuous bridge shows of bridged frames are copies that the kernel makes after it
    has forwarded the frame (``br_handle_frame_finish``); they belong behind the port of entry.
    """
    bridges = {
        (stack.name, link.name)
        for stack in snapshot.stacks
        for link in stack.links or ()
        if link.bridge
    }
    ordered: list[Sighting] = []
    for sighting in sorted(sightings, key=lambda s: s.time_ns):
        at = len(ordered)
        bridged = sighting.direction_on_link == "otherhost"
        if bridged and (sighting.stack, sighting.link) in bridges:
            entries = (
                index
                for index in range(at - 1, -1, -1)
                if ordered[index].direction_on_link != "out"
                and (ordered[index].stack, ordered[index].direction)
                == (sighting.stack, sighting.direction)
            )
            at = next(entries, at - 1) + 1
        ordered.insert(at, sighting)
    return tuple(ordered)
