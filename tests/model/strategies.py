"""Snapshots of every shape, made from the structs themselves: new fields are in at once."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from kvmdiag.model.fields import FieldInfo, fields
from kvmdiag.model.meaning import Meaning
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack

# Nobody's vocabulary has these, so that one finds them again wherever they were left.
NAMES = ("acme-prod", "Kwasi-db7", "zyx.corp", "böse7", "fremd9 web9", "qqq*q", "xk€")
ADDRESSES = ("198.7.77.201", "10.61.17.9", "192.168.219.33", "2a0b:77:1:9:1c3:8dff:fe77:a1b2")
NETWORKS = ("198.7.77.0/24", "10.61.0.0/16", "192.168.219.32/28", "2a0b:77:1::/48", "0.0.0.0/0")
MACS = ("3c:ec:ef:77:a1:b2", "fe:54:00:77:a1:b2", "52:54:00:77:a1:b2")
SECRETS = (*NAMES, *ADDRESSES, *MACS, "10.61.0.0", "192.168.219.32")

_name = st.sampled_from(NAMES)
_rule = st.builds(
    "-A {} -i {} -s {} -m comment --comment {} -j ACCEPT".format,
    _name.filter(str.isalnum),
    st.sampled_from(("acme-prod", "vnet3", "acme+")),
    st.sampled_from((*ADDRESSES, *NETWORKS)),
    st.sampled_from(('"fremd9 web9 at 10.61.17.9"', "böse7", '"xk€ {qqq}"')),
)
_BY_MEANING: Mapping[Meaning, st.SearchStrategy[str]] = {
    Meaning.WORD: st.sampled_from(("up", "tcp", "running")),
    Meaning.ADDRESS: st.sampled_from(ADDRESSES),
    Meaning.NETWORK: st.sampled_from(NETWORKS),
    Meaning.MAC: st.sampled_from(MACS),
    Meaning.LINK: st.sampled_from((*NAMES, "vnet3", "vnet*", "acme*", "lo")),
    Meaning.CHAIN: st.sampled_from((*NAMES, "FORWARD", "cali-tw-acme-prod")),
    Meaning.NAME: _name,
    Meaning.PATH: st.builds("/run/netns/{}".format, _name),
    Meaning.SYSCTLS: st.builds("net.ipv4.conf.{}.rp_filter".format, st.sampled_from(("zyx/corp",))),
    Meaning.RULE: _rule | _name | st.sampled_from((*ADDRESSES, *NETWORKS, *MACS)),
    Meaning.TEXT: _rule | _name,
    Meaning.PROSE: st.builds("{0} of '{0}' at {1} cannot be read".format, _name, _rule),
    Meaning.UNKNOWN: _name,
}


def snapshots() -> st.SearchStrategy[Snapshot]:
    """Snapshots full of secrets, whose host is there and whose stacks have names of their own."""

    def named(snapshot: Snapshot, stacks: list[Stack]) -> Snapshot:
        own = [
            msgspec.structs.replace(stack, name=name)
            for stack, name in zip(stacks, ("acme-prod", "Kwasi-db7"), strict=False)
        ]
        return msgspec.structs.replace(snapshot, host=own[0].name, stacks=tuple(own))

    stacks = st.lists(of_struct(Stack), min_size=1, max_size=2)
    return st.builds(named, of_struct(Snapshot, stacks=st.just(())), stacks)


def of_struct(struct: type, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A struct with values that its annotations and the meanings of its fields allow."""
    return st.builds(
        struct,
        **{
            field.name: known[field.name] if field.name in known else _of_type(field, field.type)
            for field in fields(struct)
        },
    )


def _of_type(field: FieldInfo, hint: Any) -> st.SearchStrategy[Any]:
    if field.key == "Address.prefix_length":
        return st.integers(8, 32)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(inner)
    if origin is typing.Union or isinstance(hint, types.UnionType):
        return st.one_of([_of_type(field, option) for option in inner])
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(_of_type(field, inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(_of_type(field, option) for option in inner))
    if origin is frozenset:
        return st.frozensets(_of_type(field, inner[0]), max_size=2)
    if origin is not None and issubclass(origin, Mapping):
        values = st.just("1") if inner[1] is str else _of_type(field, inner[1])
        return st.dictionaries(_of_type(field, inner[0]), values, max_size=2)
    return _of_leaf(field, hint)


def _of_leaf(field: FieldInfo, hint: Any) -> st.SearchStrategy[Any]:
    if hint is str:
        return _BY_MEANING[field.meaning]
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.sampled_from((0, 1, 80, 2**32 - 1))
    if hint is float:
        return st.floats(0, 1e9)
    if hint is type(None):
        return st.none()
    return st.deferred(lambda: of_struct(hint))  # some hold another of their own kind
