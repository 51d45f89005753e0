"""A network while it is being drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from differential.plan import Cable, Link, Stack

NETWORKS = [
    "10.0.1.0/24",
    "10.0.2.0/24",
    "10.0.8.0/24",
    "10.0.9.0/24",
    "10.0.7.0/24",
    "10.0.1.2/32",
    "10.0.2.0/25",
    "10.0.0.0/16",
    "192.0.2.0/24",
]
"""Networks of the address plan, and parts of them."""


def one_in(number: int) -> st.SearchStrategy[bool]:
    """True once in so many draws."""
    return st.sampled_from([False] * (number - 1) + [True])


@dataclass
class Sketch:
    """Stacks by name, and the cables between them."""

    stacks: dict[str, Stack]
    cables: list[Cable]

    def stack(self, name: str, **changes: Any) -> None:
        """Add a stack, or change one; tuples are appended to."""
        old = self.stacks.get(name, Stack(name))
        merged = {
            key: (*getattr(old, key), *value) if isinstance(value, tuple) else value
            for key, value in changes.items()
        }
        self.stacks[name] = replace(old, **merged)

    def plug(self, guest: str, link: Link, other: str, other_link: Link) -> None:
        """A cable between two stacks."""
        self.stack(guest, links=(link,))
        self.stack(other, links=(other_link,))
        self.cables.append(Cable((guest, link.name), (other, other_link.name)))

    def addresses(self) -> list[tuple[str, str]]:
        """(stack, address) of all devices."""
        return [
            (stack.name, device.address.partition("/")[0])
            for stack in self.stacks.values()
            for device in (*stack.bridges, *stack.links)
            if device.address
        ]
