"""What changed from one snapshot to another, found by walking their structs by type.

A field is compared unless its value passes by itself (:data:`kvmdiag.model.meaning.PASSING`):
counters, times, handles. Elements of a list are paired by what they are called; rules by their
text and place, so that one that only moved is seen as moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from kvmdiag.diagnose.difference_lists import Move, edits, paired
from kvmdiag.diagnose.difference_words import (
    field_changed,
    label,
    noun,
    of,
    said,
    shown,
    without_common,
)
from kvmdiag.model.comparison import Change, ChangeKind
from kvmdiag.model.fields import FieldInfo, fields
from kvmdiag.model.meaning import PASSING
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, Route, Stack

# Of the snapshot itself: with what it was taken is no change of the host.
_IGNORED = PASSING | {"Snapshot.schema", "Snapshot.tool", "Snapshot.stacks"}

# What is there or not there together with something else that is told: a neighbour's address
# with its state, a port's settings with its bridge.
_WITH_OTHERS = frozenset({"Neighbour.mac", "Link.port", "Link.bond_port"})

_LOCAL_TABLE = 255


def changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """Every difference, the host's own first, then stack by stack."""
    found = list(_Comparer(None).struct(before, after, ""))
    old = {stack.name: stack for stack in before.stacks}
    new = {stack.name: stack for stack in after.stacks}
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            found.append(_stack_change(old[name], "gone", "is gone"))
        elif name not in old:
            found.append(_stack_change(new[name], "new", "is new"))
        else:
            found += _of_stack(old[name], new[name])
    return tuple(found)


def _stack_change(stack: Stack, kind: ChangeKind, words: str) -> Change:
    return Change(
        stack=stack.name, kind=kind, subject=stack.name, text=f"{stack.kind} {stack.name} {words}"
    )


def _of_stack(old: Stack, new: Stack) -> Iterator[Change]:
    """The changes of a stack, without those that follow from others by themselves."""
    links = [{link.name for link in stack.links or ()} for stack in (old, new)]
    remade = links[0] ^ links[1]
    masters = [{link.name: link.master for link in stack.links or ()} for stack in (old, new)]
    moved = {name for name in masters[0] if masters[0][name] != masters[1].get(name)}
    addressed = {address.link for address in set(old.addresses or ()) ^ set(new.addresses or ())}

    def follows(value: Any) -> bool:
        if isinstance(value, Route):
            return value.table == _LOCAL_TABLE and any(
                hop.link in remade | addressed for hop in value.next_hops
            )
        if isinstance(value, str):  # a sysctl
            return any(f".{link.replace('.', '/')}." in value for link in remade)
        return isinstance(value, FdbEntry) and bool({value.port, value.bridge} & (remade | moved))

    yield from _Comparer(old.name, follows).struct(old, new, "")


def _never(_: Any) -> bool:
    return False


class _Comparer:
    """Compares values of one stack. ``follows`` tells which come and go with something else."""

    def __init__(self, stack: str | None, follows: Callable[[Any], bool] = _never) -> None:
        self._stack = stack
        self._follows = follows

    def struct(self, old: Any, new: Any, subject: str) -> Iterator[Change]:
        """Field by field."""
        kind: type = type(old)
        for field in fields(kind):
            before, after = getattr(old, field.name), getattr(new, field.name)
            if field.key in _IGNORED or before == after:
                continue
            if field.key in _WITH_OTHERS and None in (before, after):
                continue
            yield from self._field(field, before, after, subject)

    def _field(self, field: FieldInfo, old: Any, new: Any, subject: str) -> Iterator[Change]:
        lists = [value for value in (old, new) if isinstance(value, tuple | Mapping)]
        if lists and None in (old, new):
            read = "could be read, and no longer can" if new is None else "can be read now"
            words = f"{label(field)}{of(subject)} {read}"
            yield self._change("changed", subject or label(field), words)
        elif isinstance(old, msgspec.Struct) and type(old) is type(new):
            yield from self.struct(old, new, subject or field.name)
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from self._mapping(field, old, new, subject)
        elif any(isinstance(value, tuple) and _has_structs(value) for value in (old, new)):
            yield from self._list(old, new, subject)
        else:
            before, after = without_common(old, new)
            words = field_changed(field, subject, before, after)
            yield self._change("changed", subject or label(field), words, before, after)

    def _mapping(
        self, field: FieldInfo, old: Mapping[str, Any], new: Mapping[str, Any], subject: str
    ) -> Iterator[Change]:
        del field
        for name in sorted({*old, *new}):
            before, after = (shown(m[name]) if name in m else None for m in (old, new))
            if before == after or (None in (before, after) and self._follows(name)):
                continue
            if before is None:
                yield self._change("new", name, f"{name} = {after} is new{of(subject)}")
            elif after is None:
                yield self._change("gone", name, f"{name} = {before} is gone{of(subject)}")
            else:
                words = f"{name}: {before} → {after}"
                yield self._change("changed", name, words, before, after)

    def _list(self, old: Sequence[Any], new: Sequence[Any], subject: str) -> Iterator[Change]:
        if any(isinstance(value, Rule) for value in (*old[:1], *new[:1])):
            yield from self._rules(old, new, subject)
            return
        for before, after in paired(old, new):
            if before is None:
                yield from self._one_sided("new", after, subject, "is new")
            elif after is None:
                yield from self._one_sided("gone", before, subject, "is gone")
            else:
                yield from self.struct(before, after, said(before, subject))
        yield from self._order(old, new)

    def _one_sided(
        self, kind: ChangeKind, value: Any, subject: str, words: str
    ) -> Iterator[Change]:
        if not self._follows(value) and not _comes_and_goes(value):
            name = said(value, subject)
            yield self._change(kind, name, f"{noun(value)}{name} {words}")

    def _rules(self, old: Sequence[Rule], new: Sequence[Rule], subject: str) -> Iterator[Change]:
        for edit in edits([rule.text for rule in old], [rule.text for rule in new]):
            if isinstance(edit, Move):
                words = f"rule {edit.old + 1} is rule {edit.new + 1} now: {edit.text}"
                kind: ChangeKind = "moved"
            elif edit.old is None:
                kind, words = "new", f"rule {(edit.new or 0) + 1} is new: {edit.text}"
            else:
                kind, words = "gone", f"rule {edit.old + 1} is gone: {edit.text}"
            yield self._change(kind, subject, f"{subject}: {words}")

    def _order(self, old: Iterable[Any], new: Iterable[Any]) -> Iterator[Change]:
        """The first address of a link is the one it speaks with; the others' order is nothing."""
        orders: list[dict[str, list[str]]] = [{}, {}]
        for order, values in zip(orders, (old, new), strict=True):
            for value in values:
                if isinstance(value, Address):
                    order.setdefault(value.link, []).append(value.network)
        for link in orders[0].keys() & orders[1].keys():
            before, after = orders[0][link], orders[1][link]
            if before != after and sorted(before) == sorted(after):
                words = f"addresses of {link} in another order"
                yield self._change("moved", link, words, ", ".join(before), ", ".join(after))

    def _change(
        self,
        kind: ChangeKind,
        subject: str,
        text: str,
        before: str | None = None,
        after: str | None = None,
    ) -> Change:
        return Change(
            stack=self._stack, kind=kind, subject=subject, text=text, before=before, after=after
        )


def _has_structs(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], msgspec.Struct)


def _comes_and_goes(value: Any) -> bool:
    """What the kernel learns and forgets by itself."""
    if isinstance(value, Neighbour):
        return value.state not in ("permanent", "noarp") and not value.proxy
    if isinstance(value, FdbEntry):
        return not value.static and not value.local
    return False
