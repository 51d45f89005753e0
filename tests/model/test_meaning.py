"""Every text in a snapshot has a meaning that redaction and comparison can go by."""

from __future__ import annotations

from kvmdiag.model.fields import fields, structs
from kvmdiag.model.meaning import MEANINGS, PASSING, UNORDERED
from kvmdiag.model.snapshot import Snapshot

ALL = [field for struct in structs(Snapshot) for field in fields(struct)]


def test_every_text_is_classified():
    """A new field with text in it needs a line in MEANINGS; until then it counts as secret."""
    nobody = [field.key for field in ALL if field.has_text and field.key not in MEANINGS]
    assert nobody == [], "say in kvmdiag/model/meaning.py what these texts are"


def test_nothing_is_classified_that_is_not_there():
    """Names in the tables are spelled as in the structs."""
    there = {field.key for field in ALL}
    known = {field.struct for field in ALL}
    for key in (*MEANINGS, *PASSING, *UNORDERED):
        assert key in there or key.partition(".")[0] not in known


def test_two_structs_never_share_a_name():
    """The tables tell them apart by it."""
    names = [struct.__name__ for struct in structs(Snapshot)]
    assert sorted(set(names)) == sorted(names)
