"""Snapshot files: what is saved is loaded again, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmdiag.errors import InputError
from kvmdiag.model import codec
from kvmdiag.model.codec import load, save
from kvmdiag.model.fields import fields, structs
from kvmdiag.model.link import Link
from kvmdiag.model.meaning import UNORDERED
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, NextHop, Route, Stack

from .strategies import snapshots

EXAMPLE = Snapshot(
    tool="kvmdiag 0",
    taken_at="2026-01-01T00:00:00+00:00",
    kernel="6.1",
    stacks=(
        Stack(
            name="host",
            kind="host",
            netns="/proc/self/ns/net",
            addresses=(Address(link="eno1", address="10.0.0.10", prefix_length=24),),
            routes=(Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="10.0.0.1"),)),),
            sysctls={"net.ipv4.ip_forward": "1"},
        ),
    ),
)


def _changed(**changes: object) -> bytes:
    """The example's file with its JSON changed."""
    return gzip.compress(
        json.dumps({**json.loads(gzip.decompress(save(EXAMPLE))), **changes}).encode()
    )


@settings(max_examples=25, deadline=None)
@given(snapshots())
def test_what_is_saved_is_loaded_again(snapshot):
    """Every fact, and the difference between "not read" and "nothing there"."""
    assert _sorted(load(save(snapshot))) == _sorted(snapshot)


def _sorted(value):
    """What compares alike whatever the order of lists that have none."""
    if not isinstance(value, msgspec.Struct):
        return tuple(map(_sorted, value)) if isinstance(value, tuple) else value
    found = [type(value)]
    for field in fields(type(value)):
        inner = _sorted(getattr(value, field.name))
        found.append(sorted(inner, key=repr) if inner and field.key in UNORDERED else inner)
    return tuple(found)


@given(st.text())
def test_any_text_is_saved(text):
    """Comments and labels hold what somebody thought of."""
    snapshot = msgspec.structs.replace(EXAMPLE, kernel=text)
    assert load(save(snapshot)) == snapshot


def test_the_same_facts_are_the_same_bytes():
    """Neither the time of saving nor the order of a mapping or a set shows."""

    def stack(sysctls, flags):
        hop = NextHop(gateway="10.0.0.1", flags=frozenset(flags))
        route = Route(destination="0.0.0.0/0", next_hops=(hop,))
        return Stack(name="host", kind="host", netns=None, sysctls=sysctls, routes=(route,))

    one = stack({"a": "1", "b": "2"}, ("dead", "onlink", "linkdown"))
    two = stack({"b": "2", "a": "1"}, ("linkdown", "onlink", "dead"))
    assert save(EXAMPLE.with_stack(one)) == save(EXAMPLE.with_stack(two))


@pytest.mark.parametrize("length", range(0, len(save(EXAMPLE)), 7))
def test_a_file_that_is_cut_off_is_refused(length):
    """Wherever it ends."""
    with pytest.raises(InputError):
        load(save(EXAMPLE)[:length])


@settings(max_examples=200, deadline=None)
@given(st.integers(10, len(save(EXAMPLE)) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_never_a_traceback(position, difference):
    """The checksum finds it."""
    data = bytearray(save(EXAMPLE))
    data[position] ^= difference
    with pytest.raises(InputError) as refusal:
        load(bytes(data))
    assert "\n" not in str(refusal.value)


@given(st.binary(max_size=200))
def test_any_other_file_is_refused(data):
    """Packed or not."""
    for candidate in (data, gzip.compress(data)):
        with pytest.raises(InputError):
            load(candidate)


def test_another_version_is_named():
    """So that one knows which kvmdiag reads it."""
    with pytest.raises(InputError, match=r"version kvmdiag\.snapshot/99"):
        load(_changed(schema="kvmdiag.snapshot/99"))


def test_a_wrong_type_is_named():
    """With its place in the file."""
    with pytest.raises(InputError, match=r"Expected `str`, got `int`.*\$\.kernel"):
        load(_changed(kernel=5))


def test_a_fact_that_is_not_known_is_named():
    """It could be the one that decides; a newer kvmdiag may have written it."""
    with pytest.raises(InputError, match=r"written by .*unknown field `weather`") as refusal:
        load(_changed(weather="fine"))
    assert "\n" not in str(refusal.value)
    stack = json.loads(gzip.decompress(save(EXAMPLE)))["stacks"][0]
    with pytest.raises(InputError, match=r"unknown field `weather` - at `\$\.stacks"):
        load(_changed(stacks=[{**stack, "weather": "fine"}]))


def test_every_fact_is_strict():
    """A struct of a new kind that forgot to be would hide what it does not know."""
    lax = [s.__name__ for s in structs(Snapshot) if not s.__struct_config__.forbid_unknown_fields]
    assert lax == []


def test_an_address_that_is_none_is_named():
    """Nothing after loading has to expect it."""
    stack = json.loads(gzip.decompress(save(EXAMPLE)))["stacks"][0]
    stack["addresses"][0]["address"] = "10.0.0.\x1b[31m"
    with pytest.raises(InputError, match="is no network") as refusal:
        load(_changed(stacks=[stack]))
    assert "\x1b" not in str(refusal.value)


def test_a_host_that_is_not_there_is_named():
    """Everything else starts from the host's stack."""
    with pytest.raises(InputError, match="'elsewhere'"):
        load(_changed(host="elsewhere"))


def test_two_stacks_of_one_name_are_refused():
    """Names are how stacks are told apart."""
    stack = json.loads(gzip.decompress(save(EXAMPLE)))["stacks"][0]
    with pytest.raises(InputError, match="same name"):
        load(_changed(stacks=[stack, stack]))


def test_data_behind_the_end_is_refused():
    """It would be ignored, or be a second file."""
    with pytest.raises(InputError, match="behind its end"):
        load(save(EXAMPLE) + b"x")


def test_what_unpacks_to_too_much_is_refused(monkeypatch):
    """Before it fills the memory."""
    monkeypatch.setattr(codec, "LIMIT", 1 << 20)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load(gzip.compress(bytes(2 << 20)))


def test_lists_without_an_order_are_saved_in_one():
    """The kernel lists neighbours and FDB entries as its hash tables have them."""
    known = tuple(Neighbour(link="eno1", address=f"10.0.0.{n}") for n in range(9))
    seen = tuple(FdbEntry(bridge="br0", port=f"vnet{n}", mac="52:54:00:0:0:1") for n in range(9))

    def shuffled(step):
        return msgspec.structs.replace(
            EXAMPLE.stacks[0], neighbours=known[::step], fdb=seen[::step]
        )

    one, two = (EXAMPLE.with_stack(shuffled(step)) for step in (1, -1))
    assert save(one) == save(two)


def test_a_name_that_is_no_text_is_saved():
    """The kernel lets a link have any bytes for a name but spaces and slashes."""
    name = b"eth\xff".decode("utf-8", "surrogateescape")
    stack = msgspec.structs.replace(EXAMPLE.stacks[0], links=(Link(index=2, name=name),))
    again = load(save(EXAMPLE.with_stack(stack))).stacks[0]
    assert again.links == (Link(index=2, name="eth\\udcff"),)


def test_too_many_values_are_refused(monkeypatch):
    """Ten million empty lists are few bytes in a file and gigabytes in memory."""
    monkeypatch.setattr(codec, "MOST_VALUES", 1000)
    with pytest.raises(InputError, match="more than 1000 values"):
        load(_changed(gaps=[{}] * 1001))


def test_a_number_that_fits_no_field_is_refused():
    """Shifting or printing it could take for ever."""
    stack = json.loads(gzip.decompress(save(EXAMPLE)))["stacks"][0]
    stack["routes"][0]["table"] = 10**30
    with pytest.raises(InputError, match="more than 64 bits"):
        load(_changed(stacks=[stack]))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 5000])
def test_what_is_no_number_is_refused(number):
    """JSON has neither NaN nor infinity, whatever some writers think."""
    text = gzip.decompress(save(EXAMPLE)).replace(b'"metric":0', b'"metric":' + number.encode())
    with pytest.raises(InputError, match=r"not understood|not a kvmdiag snapshot"):
        load(gzip.compress(text))


def test_deep_nesting_is_refused():
    """A decoder's stack is not unlimited."""
    with pytest.raises(InputError):
        load(gzip.compress(b'{"schema":"kvmdiag.snapshot/1","x":' + b"[" * 1_000_000))
