"""The base of the attrs classes: it does what attrs does, once for all of them."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs
import pytest

import wxtcb
from wxtcb.noun import Noun

T = TypeVar("T")


def fields():
    """Make the fields of a class, with something of their own to say."""
    return {
        "name": attrs.field(),
        "size": attrs.field(default=0, repr=lambda size: f"<{size}>"),
        "note": attrs.field(default=None, eq=False),
        "hidden": attrs.field(default="h", repr=False),
        "options": attrs.field(default=None, hash=False),
    }


Ours = attrs.make_class("Kind", fields(), bases=(Noun,), frozen=True, slots=True, repr=False, eq=False)
Theirs = attrs.make_class("Kind", fields(), frozen=True, slots=True)
VALUES = [
    {"name": "a"},
    {"name": "b"},
    {"name": "a", "size": 5},
    {"name": "a", "note": "n"},
    {"name": "a", "hidden": "x"},
    {"name": "a", "options": {"k": "v"}},
    {"name": None, "size": float("nan")},
]


@pytest.mark.parametrize("one", VALUES, ids=str)
def test_a_noun_is_shown_and_compared_as_attrs_does(one):
    """Whatever a field says of its repr, and whether it counts."""
    assert repr(Ours(**one)) == repr(Theirs(**one))
    assert [Ours(**one) == Ours(**other) for other in VALUES] == [Theirs(**one) == Theirs(**other) for other in VALUES]
    assert [hash(Ours(**one)) == hash(Ours(**other)) for other in VALUES] == [
        hash(Theirs(**one)) == hash(Theirs(**other)) for other in VALUES
    ]


def test_nouns_of_different_classes_are_different():
    """Even one of a class derived from the other."""
    heir = attrs.make_class("Heir", {}, bases=(Ours,), frozen=True, slots=True, repr=False, eq=False)
    assert heir("a") != Ours("a") != "a"
    assert heir("a") == heir("a")
    assert repr(heir("a", 2)) == "Heir(name='a', size=<2>, note=None, options=None)"


def test_a_generic_class_can_be_a_noun():
    """What it was parametrised with changes nothing."""

    @attrs.frozen(repr=False, eq=False)
    class Box(Noun, Generic[T]):
        content: T

    assert (Box[int](5), hash(Box(5)), repr(Box("a"))) == (Box(5), hash(Box[int](5)), "Box(content='a')")


def heirs(kind):
    """Go through all classes of wxtcb that are derived from *kind*."""
    for heir in kind.__subclasses__():
        if heir.__module__.startswith("wxtcb."):
            yield heir
            yield from heirs(heir)


def test_no_noun_has_a_repr_or_comparison_compiled_for_itself():
    """That is what the base is for, and none asks for what it does not do."""
    assert len(wxtcb.endpoints()) > 50
    nouns = {heir for heir in heirs(Noun) if attrs.has(heir)}
    compiled = {(each.__qualname__, name) for each in nouns for name in ("__repr__", "__eq__") if name in vars(each)}
    keyed = {(each.__qualname__, field.name) for each in nouns for field in attrs.fields(each) if field.eq_key}
    assert (len(nouns) > 100, compiled, keyed) == (True, set(), set())
