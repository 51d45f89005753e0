"""Port forwards that a packet came past, because they are for another incoming link."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.rules import Placed, could_match, destination_nats, links_named
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import DestinationNat
from kvmdiag.simulate.facts.addresses import parse_address


class Forward(NamedTuple):
    """A rule of iptables that would forward the packet, had it come in by ``link``."""

    placed: Placed
    link: str
    target: IPAddress
    port: int

    @property
    def text(self) -> str:
        """The rule without its chain."""
        return self.placed.rule.text.removeprefix(f"-A {self.placed.chain.name} ")

    def is_back_into(self, stack: Stack, link: str | None) -> bool:
        """Whether it leads back into the network that the packet came from."""
        return link is not None and any(self.target in net for net in connected(stack, link))


def forwards_elsewhere(case: Case, stack: Stack) -> Iterator[Forward]:
    """The rules for the packet's port that name another incoming link than it came by."""
    end = case.end
    if end.packet.dport is None or end.in_link is None:
        return
    for placed in destination_nats(stack):
        wanted = links_named(placed.rule, "in")
        if not wanted or end.in_link in wanted or placed.table.backend == "nft":
            continue
        if not could_match(placed.rule, end.packet, wanted[0], None):
            continue
        for part in placed.rule.body:
            if isinstance(part, DestinationNat) and part.first is not None:
                port = part.ports[0] if part.ports else end.packet.dport
                yield Forward(placed, wanted[0], parse_address(part.first), port)
