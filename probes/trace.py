"""One live probe, watched at every link it may pass."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterable
from contextlib import ExitStack

from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.capture import Capture, Frame
from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.inject import Sender, source_stack
from kvmdiag.probes.observation import Answer, Observation, Sighting
from kvmdiag.probes.packet import new_probe

__all__ = ["MOST_STACKS", "fuse", "observe"]

MOST_STACKS = 256
_MOST_BRIDGES = 16
_QUIET = 0.4
"""How long nothing may happen within what we see before we call the packet lost (seconds)."""


def observe(snapshot: Snapshot, walk: Walk, *, timeout: float = 1.0) -> Observation:
    """Send one probe for the walk's question and watch it on its way, there and back.

    Ends when the source's socket has an answer; when nothing has happened for a while at a
    place from where the packet could not have gone out of sight; at the latest after
    ``timeout`` seconds.

    Raises:
        NotReadableError: the source cannot be entered, or capturing is not allowed there.
        UsageError: the source has no such link or address.

    """
    question = walk.question
    source = source_stack(snapshot, question)
    with ExitStack() as opened:
        sender = opened.enter_context(Sender(source, question, new_probe(question)))
        sender.prepare()
        captures, blind = _open_captures(snapshot, walk, source, sender, opened)
        watch = _Watch(snapshot, sender, captures)
        opened.callback(watch.close)
        answer = sender.send()
        if answer is None:
            answer = watch.until_settled(timeout)
        watch.drain()
        waited = (time.time_ns() - sender.sent_ns) / 1e9
        sightings = [sighting for capture in captures for sighting in capture.sightings()]
        return Observation(
            probe=sender.probe,
            sent_ns=sender.sent_ns,
            waited=waited,
            sightings=_in_path_order(sightings, snapshot),
            answer=answer,
            watched=frozenset(capture.stack for capture in captures),
            blind=blind,
            truncated=any(capture.truncated for capture in captures),
        )


def _open_captures(
    snapshot: Snapshot, walk: Walk, source: Stack, sender: Sender, opened: ExitStack
) -> tuple[list[Capture], tuple[tuple[str, str], ...]]:
    """A capture in each stack, those of the predicted way first; who cannot be watched, and why.

    Without a capture in the source nothing could be said, so that failure is not survived.
    """
    on_path = [hop.stack for hop in walk.hops]
    rank = {name: place for place, name in reversed(list(enumerate(on_path)))}
    rank[source.name] = -1
    stacks = sorted(snapshot.stacks, key=lambda stack: rank.get(stack.name, len(on_path)))
    captures: list[Capture] = []
    blind: list[tuple[str, str]] = []
    for stack in stacks:
        if len(captures) >= MOST_STACKS:
            blind.append((stack.name, f"only {MOST_STACKS} stacks are watched at once"))
            continue
        try:
            capture = Capture(stack, sender.probe, _bridges(stack, walk))
        except NotReadableError as error:
            if stack is source:
                raise
            blind.append((stack.name, str(error)))
            continue
        captures.append(opened.enter_context(capture))
    return captures, tuple(blind)


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


def _bridges(stack: Stack, walk: Walk) -> Iterable[int]:
    """Indexes of the bridges to be made promiscuous: of the path, or all when that is in doubt."""
    links: dict[str, Link] = {link.name: link for link in stack.links or ()}
    wanted: set[str | None] = set(links)
    if walk.works:
        on_path = {hop.link or "" for hop in walk.hops if hop.stack == stack.name}
        wanted.intersection_update(on_path)
        wanted.update(links[name].master for name in on_path & links.keys())
    found = [link.index for link in links.values() if link.bridge and link.name in wanted]
    return found[:_MOST_BRIDGES]


class _Watch:
    """Waits for the answer while it takes in what the captures see."""

    def __init__(self, snapshot: Snapshot, sender: Sender, captures: list[Capture]) -> None:
        self._sender = sender
        self._captures = captures
        self._selector = selectors.DefaultSelector()
        self._selector.register(sender, selectors.EVENT_READ)
        for capture in captures:
            self._selector.register(capture, selectors.EVENT_READ)
        self._way_out = _ways_out(snapshot, {capture.stack for capture in captures})

    def close(self) -> None:
        self._selector.close()

    def drain(self) -> None:
        """Take in what is left: a link shows a packet before the socket behind it gets it."""
        for capture in self._captures:
            capture.drain()

    def until_settled(self, timeout: float) -> Answer | None:
        """The answer, or ``None`` once none is to be expected any more."""
        now = time.monotonic()
        deadline = now + timeout
        give_up = min(deadline, now + _QUIET)
        while now < give_up:
            for key, _ in self._selector.select(give_up - now):
                if key.fileobj is self._sender:
                    answer = self._sender.receive()
                    if answer is not None:
                        return answer
                elif isinstance(key.fileobj, Capture):
                    frame = key.fileobj.drain()
                    if frame is not None:
                        quiet = timeout if self._out_of_sight(key.fileobj.stack, frame) else _QUIET
                        give_up = min(deadline, time.monotonic() + quiet)
                    if key.fileobj.truncated:
                        self._selector.unregister(key.fileobj)
            now = time.monotonic()
        return None

    def _out_of_sight(self, stack: str, frame: Frame) -> bool:
        return frame.outgoing and (stack, frame.link) in self._way_out


def _ways_out(snapshot: Snapshot, watched: set[str]) -> set[tuple[str, str]]:
    """Links beyond which a packet goes on unseen: uplinks, and taps of guests not watched."""
    found = set()
    for stack in snapshot.stacks:
        for link in stack.links or ():
            hidden = link.guest if link.peer is None else link.peer.stack
            if link.is_uplink or (hidden is not None and hidden not in watched):
                found.add((stack.name, link.name))
    return found
