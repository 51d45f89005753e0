"""One packet under way: what has been recorded of it, and what its stacks remember."""

from __future__ import annotations

from kvmdiag.model.packet import Direction, IPAddress, Packet
from kvmdiag.model.trace import Decider, Hop, RuleRef, Stage
from kvmdiag.simulate.facts.conntrack import Conntrack
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.forks import Choices
from kvmdiag.simulate.segment.tunnels import Wrapped

OUTSIDE = "outside"
"""The name by which hops beyond the uplinks are told, where no stack is."""


class Connections:
    """What a request leaves behind in the stacks it passes, for its reply to find.

    That is their conntrack tables, and ``neighbours``: MAC addresses by stack, link and
    address of those that asked for the stack's own. ``left_with`` is the VLAN tag with which it
    left by an uplink.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._by_stack: dict[str, Conntrack] = {}
        self.neighbours: dict[tuple[str, str, IPAddress], str] = {}
        self.left_with: int | None = None

    def of(self, stack: str) -> Conntrack:
        """The conntrack table of a stack."""
        found = self._by_stack.get(stack)
        if found is None:
            found = self._by_stack[stack] = Conntrack(self._view.stacks[stack].flows)
        return found

    def settle(self) -> None:
        """Keep what stays when the packets are gone."""
        for conntrack in self._by_stack.values():
            conntrack.forget_unconfirmed()


class Journey:
    """The way of one packet in one direction, as far as it has come.

    ``port_named`` is false when nobody asked for a port and one had to be made up: then it
    does not matter whether anything listens there. ``choices`` are the answers supposed where
    it cannot be told which way the packet goes. ``wrapped`` are the frames that the packet
    carries through tunnels, the outermost first.
    """

    def __init__(
        self,
        view: View,
        direction: Direction,
        connections: Connections,
        choices: Choices | None = None,
        *,
        port_named: bool = True,
    ) -> None:
        self.choices = choices or Choices()
        self.port_named = port_named
        self.view = view
        self.direction = direction
        self.connections = connections
        self.hops: list[Hop] = []
        self.assumptions: list[str] = []
        self.wrapped: list[Wrapped] = []

    def stack(self, name: str) -> StackView:
        """The indexed facts of a stack."""
        return self.view.stacks[name]

    def assume(self, sentence: str) -> None:
        """Note something that is taken for granted."""
        if sentence not in self.assumptions:
            self.assumptions.append(sentence)

    def note(
        self,
        stack: str,
        link: str | None,
        stage: Stage,
        packet: Packet,
        decision: str,
        because: str = "",
        *,
        decider: Decider | None = None,
        in_link: str | None = None,
        out_link: str | None = None,
        matched: tuple[RuleRef, ...] = (),
    ) -> None:
        """Record a hop; ``packet`` is the packet after it."""
        self.hops.append(
            Hop(
                direction=self.direction,
                stack=stack,
                link=link,
                stage=stage,
                packet=packet,
                decision=decision,
                because=because,
                decider=decider,
                in_link=in_link,
                out_link=out_link,
                matched=matched,
                tunnels=len(self.wrapped),
            )
        )
