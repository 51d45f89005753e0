"""A snapshot as the walk asks it: its stacks by name, and what lies between them.

A view of a stack is made when it is first asked for, and reused for every later snapshot
in which that stack is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar, TypeVarTuple

from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.facts.whereabouts import Uppers, Whereabouts, uppers_of

T = TypeVar("T")
Asked = TypeVarTuple("Asked")

_REMEMBERED = 1 << 12
"""Answers to one kind of question; when there are more all are forgotten."""


class _Stacks(dict[str, "StackView"]):
    """Stacks by name; one that is not in the snapshot ends the walk."""

    def __missing__(self, name: str) -> StackView:
        raise NotUnderstood(name, f"nothing is known of {name}")


class View:
    """A snapshot, indexed. ``base`` is a view whose unchanged stacks are taken over.

    ``answers`` are those that functions gave which are :func:`remembered`.
    """

    def __init__(self, snapshot: Snapshot, base: View | None = None) -> None:
        self.snapshot = snapshot
        self.answers: dict[object, dict[tuple[object, ...], Any]] = {}
        old = base.stacks.values() if base is not None else ()
        known = {id(view.stack): view for view in old}
        self.stacks: dict[str, StackView] = _Stacks(
            (stack.name, known.get(id(stack)) or StackView(stack)) for stack in snapshot.stacks
        )

    @cached_property
    def whereabouts(self) -> Whereabouts:
        """Machines by address and by port."""
        return Whereabouts(self.stacks, self.uppers)

    @cached_property
    def paused(self) -> frozenset[str]:
        """The guests that stand still, by domain and by stack."""
        names = {d.name for d in self.snapshot.domains or () if d.state == "paused"}
        return frozenset(names | {self.insides.get(name) or name for name in names})

    @cached_property
    def insides(self) -> dict[str, str | None]:
        """The stack of a guest by its domain, ``None`` where the inside could not be seen."""
        return {inside.domain: inside.stack for inside in self.snapshot.guests or ()}

    @cached_property
    def uppers(self) -> Uppers:
        """Links that stand on another one, by the stack and name of that one."""
        return uppers_of(self.stacks)

    def link(self, stack: str, link: str) -> Link:
        """A link that is known to be there."""
        return self.stacks[stack].links[link]


def remembered(answer: Callable[[View, *Asked], T]) -> Callable[[View, *Asked], T]:
    """Let a function of a snapshot answer a question only once for each view; never ``None``."""

    @wraps(answer)
    def asked(view: View, *question: *Asked) -> T:
        known = view.answers.setdefault(answer, {})
        found: T | None = known.get(question)
        if found is None:
            found = answer(view, *question)
            if len(known) >= _REMEMBERED:
                known.clear()
            known[question] = found
        return found

    return asked
