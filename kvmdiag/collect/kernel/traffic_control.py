"""Queueing disciplines and filters of links, from RTM_NEWQDISC and RTM_NEWTFILTER messages.

Source: tc(8), tc-bpf(8), tc-mirred(8), include/uapi/linux/pkt_sched.h, pkt_cls.h,
tc_act/tc_mirred.h; net/sched/sch_api.c, cls_api.c.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kvmdiag.collect.kernel.attributes import Layout, decode, each, number, raw, text
from kvmdiag.model.link_kinds import Qdisc, TcFilter

_HEADER = struct.Struct("=BxxxiIII")
_QDISC: Layout = {1: ("kind", text), 13: ("ingress_block", number), 14: ("egress_block", number)}
_FILTER: Layout = {1: ("kind", text), 2: ("options", raw), 11: ("chain", number)}
_ROOT, _INGRESS_PARENT = 0xFFFFFFFF, 0xFFFFFFF1
_CLSACT_INGRESS, _CLSACT_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_INGRESS = 0xFFFF0000
_MAGIC_BLOCK = -1
# Which attribute of a classifier's options holds its actions (TCA_*_ACT).
_ACTIONS = {"bpf": 1, "matchall": 2, "flower": 3, "basic": 3, "fw": 4, "cgroup": 1, "u32": 7}
_ACTIONS |= {"flow": 9, "route": 6}
_BPF_NAME, _BPF_FLAGS = 7, 8
_BPF_DIRECT_ACTION = 1
_ACTION: Layout = {1: ("kind", text), 2: ("options", raw)}
_MIRRED = 2
_MIRRED_PARMS = struct.Struct("=IIiiiiI")
# Those that drop nothing and that no filter can hang on.
_PLAIN = frozenset(("noqueue", "pfifo_fast", "fq_codel", "fq", "pfifo", "bfifo", "mq", "noop"))


class Hook(NamedTuple):
    """A place filters may hang on: what to ask the kernel for, and where that is."""

    asked: tuple[int, int]
    link: int
    where: str


def qdiscs(
    messages: Sequence[bytes], names: Mapping[int, str]
) -> tuple[dict[int, tuple[Qdisc, ...]], tuple[Hook, ...]]:
    """Disciplines by link index, and the places where filters may hang."""
    found: dict[int, list[tuple[int, Qdisc]]] = {}
    hooks: list[Hook] = []
    for message in messages:
        _, index, handle, parent, _ = _HEADER.unpack_from(message)
        fields = decode(message, _QDISC, _HEADER.size)
        if index not in names or "kind" not in fields:
            continue
        kind = fields["kind"]
        one = Qdisc(kind=kind, handle=_handle(handle), parent=_parent(parent))
        found.setdefault(index, []).append((handle, one))
        if kind not in _PLAIN:
            hooks += _hooks(index, handle, kind, fields)
    ordered = {
        index: tuple(one for _, one in sorted(several, key=lambda pair: pair[0]))
        for index, several in found.items()
    }
    return ordered, tuple(sorted(hooks))


def filters(
    answers: Mapping[tuple[int, int], Sequence[bytes]],
    hooks: Sequence[Hook],
    names: Mapping[int, str],
) -> dict[int, tuple[TcFilter, ...]]:
    """Filters by link index, in the order they are tried."""
    found: dict[int, list[TcFilter]] = {}
    for hook in hooks:
        for message in answers.get(hook.asked, ()):
            one = _filter(message, hook.where, names)
            if one is not None:
                found.setdefault(hook.link, []).append(one)
    return {
        index: tuple(sorted(several, key=lambda f: (f.where, f.chain, f.priority, f.handle)))
        for index, several in found.items()
    }


def _hooks(index: int, handle: int, kind: str, fields: Mapping[str, Any]) -> list[Hook]:
    if kind in ("ingress", "clsact"):
        places = [(_INGRESS if kind == "ingress" else _CLSACT_INGRESS, "ingress")]
        if kind == "clsact":
            places.append((_CLSACT_EGRESS, "egress"))
    else:
        places = [(handle, _handle(handle))]
    hooks = []
    for parent, where in places:
        # Filters of a block are shared by all links that use it, and asked for by its number.
        block = fields.get(f"{where}_block", 0)
        asked = (_MAGIC_BLOCK, block) if block else (index, parent)
        hooks.append(Hook(asked, index, where))
    return hooks


def _filter(message: bytes, where: str, names: Mapping[int, str]) -> TcFilter | None:
    _, _, handle, _, info = _HEADER.unpack_from(message)
    fields = decode(message, _FILTER, _HEADER.size)
    kind, options = fields.get("kind"), fields.get("options", b"")
    # Some classifiers tell of a head without any options first.
    if kind is None or not handle:
        return None
    program, direct_action = _program(options) if kind == "bpf" else (None, False)
    kinds, redirects = _actions(kind, options, names)
    return TcFilter(
        where=where,
        kind=kind,
        priority=info >> 16,
        protocol=int.from_bytes(struct.pack("=H", info & 0xFFFF), "big"),
        handle=handle,
        chain=fields.get("chain", 0),
        program=program,
        direct_action=direct_action,
        actions=kinds,
        redirects=redirects,
    )


def _program(options: bytes) -> tuple[str | None, bool]:
    found = decode(options, {_BPF_NAME: ("name", text), _BPF_FLAGS: ("flags", number)})
    return found.get("name"), bool(found.get("flags", 0) & _BPF_DIRECT_ACTION)


def _actions(
    kind: str, options: bytes, names: Mapping[int, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The kinds of a filter's actions in order, and the links that frames are sent to."""
    kinds: list[str] = []
    redirects: list[str] = []
    for attribute, data in each(options):
        if attribute != _ACTIONS.get(kind):
            continue
        for _, packed in each(data):
            action = decode(packed, _ACTION)
            kinds.append(action.get("kind", "unknown"))
            parms = decode(action.get("options", b""), {_MIRRED: ("parms", raw)}).get("parms", b"")
            if kinds[-1] == "mirred" and len(parms) >= _MIRRED_PARMS.size:
                index = _MIRRED_PARMS.unpack_from(parms)[-1]
                redirects.append(names.get(index, str(index)))
    return tuple(kinds), tuple(redirects)


def _handle(handle: int) -> str:
    """``8001:`` or ``8001:2`` in tc's hexadecimal."""
    minor = handle & 0xFFFF
    return f"{handle >> 16:x}:{minor:x}" if minor else f"{handle >> 16:x}:"


def _parent(parent: int) -> str:
    words = {_ROOT: "root", _INGRESS_PARENT: "ingress"}
    return words.get(parent) or _handle(parent)
