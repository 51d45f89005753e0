"""A snapshot as the walk asks it: its stacks by name, and what lies between them.

A view of a stack is made when it is first asked for, and reused for every later snapshot
in which that stack is unchanged.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.stack_view import StackView
from kvmdiag.simulate.unread import NotUnderstood
from kvmdiag.simulate.whereabouts import Whereabouts

if TYPE_CHECKING:
    from kvmdiag.simulate.neighbour import Resolved, Silent

K = TypeVar("K")
T = TypeVar("T")

# Of a bridge (stack and name): the port a frame came by, its MAC address, VLAN and tag.
_Towards = tuple[str, str, str | None, str | None, int | None, int | None]


class _Stacks(dict[str, "StackView"]):
    """Stacks by name; one that is not in the snapshot ends the walk."""

    def __missing__(self, name: str) -> StackView:
        raise NotUnderstood(name, f"nothing is known of {name}")


_REMEMBERED = 1 << 12


class Remembered(dict[K, T]):
    """Answers to questions about one snapshot; when there are too many all are forgotten."""

    def keep(self, asked: K, answer: T) -> T:
        """Remember an answer, and give it."""
        if len(self) >= _REMEMBERED:
            self.clear()
        self[asked] = answer
        return answer


class Upper(NamedTuple):
    """A link that stands on another one, and the stack it is in."""

    stack: str
    link: Link


class View:
    """A snapshot, indexed. ``base`` is a view whose unchanged stacks are taken over."""

    def __init__(self, snapshot: Snapshot, base: View | None = None) -> None:
        self.snapshot = snapshot
        self.resolved: Remembered[tuple[str, str, IPAddress, IPAddress], Resolved | Silent]
        self.resolved = Remembered()
        self.ports_towards: Remembered[_Towards, tuple[tuple[Link, LinkRef], ...]] = Remembered()
        old = base.stacks.values() if base is not None else ()
        known = {id(view.stack): view for view in old}
        self.stacks: dict[str, StackView] = _Stacks(
            (stack.name, known.get(id(stack)) or StackView(stack)) for stack in snapshot.stacks
        )

    @cached_property
    def whereabouts(self) -> Whereabouts:
        """Machines by address and by port."""
        return Whereabouts(self)

    @cached_property
    def paused(self) -> frozenset[str]:
        """The guests that stand still, by domain and by stack."""
        stacks = {inside.domain: inside.stack for inside in self.snapshot.guests or ()}
        names = {d.name for d in self.snapshot.domains or () if d.state == "paused"}
        return frozenset(names | {stacks.get(name) or name for name in names})

    @cached_property
    def uppers(self) -> dict[tuple[str, str], tuple[Upper, ...]]:
        """Links that stand on another one, by the stack and name of that one."""
        found: dict[tuple[str, str], list[Upper]] = {}
        for name, view in self.stacks.items():
            for lower, link in view.stacked:
                found.setdefault((lower.stack, lower.link), []).append(Upper(name, link))
        return {lower: tuple(uppers) for lower, uppers in found.items()}

    def link(self, stack: str, link: str) -> Link:
        """A link that is known to be there."""
        return self.stacks[stack].links[link]
