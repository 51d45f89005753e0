"""Choosing how a probe is sent."""

from __future__ import annotations

from kvmdiag.errors import NotReadableError, UsageError
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.behind_tap import behind_tap
from kvmdiag.probes.behind_uplink import behind_uplink
from kvmdiag.probes.connect import Connector
from kvmdiag.probes.guest import GuestSender
from kvmdiag.probes.guest_programs import Enter
from kvmdiag.probes.inject import SocketSender
from kvmdiag.probes.packet import Probe
from kvmdiag.probes.sender import Sender
from kvmdiag.probes.tap import TapSender


def sender_for(
    snapshot: Snapshot,
    walk: Walk,
    probe: Probe,
    *,
    on_tap: bool = False,
    enter: Enter | None = None,
) -> Sender:
    """From inside the source where it can be entered, else on its tap (and so with ``on_tap``).

    A guest is entered by its agent, which ``enter`` gives, if it has a program for the probe.
    For an address outside a probe comes in by the uplink, with ``on_tap`` only.

    Raises:
        NotReadableError: there is no way, or it is not allowed.
        UsageError: the source has no such link or address; or it is the host, behind no tap.

    """
    known = {stack.name: stack for stack in snapshot.stacks}
    source = known.get(walk.question.source.stack or "")
    if walk.question.source.stack is None:
        return _from_outside(snapshot, walk, probe, on_tap)
    if on_tap and source is not None and source.kind == "host":
        raise UsageError(f"--on-tap: {source.name} is behind no tap; without it, it sends itself")
    if source is not None and source.netns is not None and not on_tap:
        return inside(source, walk.question, probe)
    entered = None if on_tap or enter is None else enter(walk.question.source.stack)
    why = None
    if entered is not None:
        try:
            return GuestSender(entered, walk.question, probe)
        except NotReadableError as error:
            why = f"not sent from inside: {error}"
    return TapSender(behind_tap(snapshot, walk), probe, why=why)


def _from_outside(snapshot: Snapshot, walk: Walk, probe: Probe, on_tap: bool) -> TapSender:
    behind = behind_uplink(snapshot, walk)
    if on_tap:
        return TapSender(behind, probe)
    raise NotReadableError(
        f"{behind.guest} is not a machine of this host. --on-tap puts a probe on "
        f"{behind.stack.name}/{behind.link.name} as if it came from there (what answers goes to "
        f"the real {behind.guest}); --no-probe predicts the way without sending"
    )


def inside(stack: Stack, question: Question, probe: Probe) -> SocketSender | Connector:
    """A socket within the source, whose namespace can be entered.

    Raises:
        NotReadableError: the socket is not allowed.
        UsageError: the source has no such link or address.

    """
    kind = Connector if probe.proto == "tcp" else SocketSender
    return kind(stack, question, probe)
