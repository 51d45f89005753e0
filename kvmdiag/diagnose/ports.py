"""Bridge ports at which a frame, or the question for its next hop, ended."""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.diagnose.case import Case, link_of
from kvmdiag.model.link import BridgePort, Link
from kvmdiag.model.report import Evidence
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import LinkStateRef, Reason


class StoppedAt(NamedTuple):
    """A link of ``stack`` that is a port of ``bridge``, and how the port is set."""

    stack: Stack
    link: Link
    port: BridgePort
    bridge: Link

    @property
    def waits(self) -> bool:
        """Whether it is on its way to forwarding, as spanning tree has it."""
        return self.port.state in ("listening", "learning")

    def flag_fact(self, setting: str) -> Evidence:
        """What bridge(8) shows of the port, as evidence: ``isolated on``."""
        name = self.link.name
        origin = f"bridge -d link show dev {name} in {self.stack.name}"
        return Evidence(f"{name} {setting}", origin)


def stopped_at_port(case: Case, reason: Reason) -> StoppedAt | None:
    """The port that was found in the way, when the walk ended for this reason."""
    ref = case.decider
    if case.reason is not reason or not isinstance(ref, LinkStateRef):
        return None
    stack = case.stack(ref.stack)
    link = None if stack is None else link_of(stack, ref.link)
    bridge = None if stack is None or link is None else link_of(stack, link.master)
    if stack is None or link is None or link.port is None or bridge is None:
        return None
    return StoppedAt(stack, link, link.port, bridge)
