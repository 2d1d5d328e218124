"""Secrets are passed around, compared and blotted out, but never shown."""

from __future__ import annotations

import copy
import html
import json
import pickle
import pprint
import traceback
from urllib.parse import quote, unquote

import attrs
import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from wxtcb import Secret
from wxtcb.secret import redact, redact_truncated

PLAIN = "top-secret-value"
WORDS = st.text(st.characters(exclude_characters="*%", exclude_categories=["Cs"]), min_size=1)


@attrs.frozen
class Holder:
    """Something of a caller's that holds a secret."""

    inner: Secret


WAYS_TO_SHOW = {
    "repr": repr,
    "str": str,
    "format": format,
    "percent": "%s".__mod__,
    "ascii": ascii,
    "pprint": pprint.pformat,
    "rich": pretty_repr,
    "list": lambda secret: repr([secret]),
    "attrs": lambda secret: repr(attrs.asdict(Holder(secret))),
    "cattrs": lambda secret: repr(cattrs.unstructure(Holder(secret))),
    "rich-attrs": lambda secret: pretty_repr(Holder(secret)),
}


@pytest.mark.parametrize("show", WAYS_TO_SHOW.values(), ids=WAYS_TO_SHOW)
def test_a_secret_is_not_shown_by_any_common_way_of_showing(show):
    """Neither Python's, attrs', cattrs' nor rich's ways of showing a value show a secret's."""
    assert PLAIN not in show(Secret(PLAIN))


def test_a_secret_shows_as_three_stars():
    """Its repr, str and format are ``***``."""
    assert [repr(Secret(PLAIN)), str(Secret(PLAIN)), f"{Secret(PLAIN)}"] == ["***"] * 3


def test_a_secret_is_not_shown_in_a_traceback_with_locals():
    """A frame that holds a secret shows stars when its locals are captured."""

    def fail():
        held = Secret(PLAIN)
        raise ValueError(len(held.reveal()))

    with pytest.raises(ValueError, match="16") as caught:
        fail()
    story = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "held = ***" in story


def test_the_value_comes_out_by_reveal():
    """`reveal` gives the value back."""
    assert Secret(PLAIN).reveal() == PLAIN


def test_of_wraps_a_text_and_leaves_a_secret():
    """`Secret.of` takes both a text and a Secret, which it gives back as it is."""
    kept = Secret(PLAIN)
    assert Secret.of(kept) is kept
    assert Secret.of(PLAIN) == kept


def test_an_empty_secret_is_false():
    """Whether a secret holds anything can be asked without revealing it."""
    assert not Secret("")
    assert Secret(PLAIN)


@given(st.text(), st.text())
def test_secrets_are_equal_when_their_values_are(one, other):
    """Equality and hash follow the value, whatever characters it holds."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert hash(Secret(one)) == hash(Secret(str(one)))


def test_a_secret_is_not_equal_to_its_bare_value():
    """A secret equals no text, so that a mix-up shows."""
    assert Secret(PLAIN) != PLAIN


@pytest.mark.parametrize("write", [pickle.dumps, json.dumps], ids=["pickle", "json"])
def test_a_secret_cannot_be_written_out(write):
    """Pickle and JSON refuse a secret instead of letting it out."""
    with pytest.raises(TypeError, match=r"Secret") as refused:
        write(Secret(PLAIN))
    assert PLAIN not in str(refused.value)


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_secret_is_the_secret(take):
    """Copying makes no second one."""
    secret = Secret(PLAIN)
    assert take(secret) is secret


@given(st.text(), WORDS, st.text())
def test_redact_leaves_no_occurrence_of_a_secret(before, secret, after):
    """Wherever a secret stands in a text, it stands there no longer after `redact`."""
    redacted = redact(before + secret + after + secret, Secret(secret))
    assert all(secret not in part for part in redacted.split("***"))


@given(st.lists(WORDS, min_size=2))
def test_redact_hides_a_secret_that_is_part_of_another(words):
    """A secret is hidden whole even if another secret is a part of it, in whichever order they are given."""
    whole = "".join(words)
    assert redact(f"<{whole}>", *map(Secret, words), Secret(whole)).count("*") >= 3
    assert redact("<abcdef>", Secret("abc"), Secret("abcdef")) == "<***>"


@given(WORDS, st.data())
def test_redact_finds_a_secret_however_much_of_it_is_url_quoted(secret, data):
    """Each character of a secret may be quoted or not, in either case of hex: it is found all the same."""
    hexes = ["".join(f"%{byte:02x}" for byte in char.encode()) for char in secret]
    ways = [st.sampled_from([char, quoted, quoted.upper()]) for char, quoted in zip(secret, hexes, strict=True)]
    shown = redact("".join(data.draw(st.tuples(*ways))), Secret(secret))
    assert "***" in shown
    assert secret not in unquote(shown)


def test_redact_hides_both_a_plain_and_a_quoted_occurrence():
    """One occurrence in clear does not save a quoted one, nor a secret that looks quoted itself."""
    assert redact("a/b+c a%2Fb%2Bc", Secret("a/b+c")) == "*** ***"
    assert redact("a%20b a%2520b", Secret("a%20b")) == "*** ***"


@given(st.text())
def test_redact_leaves_a_text_without_secrets_alone(text):
    """Nothing is replaced, or unquoted, where no secret is; an empty secret is found nowhere."""
    assert redact(text) == text
    assert redact(text, Secret("")) == text


@pytest.mark.parametrize("write", [str, quote, html.escape, lambda text: json.dumps(text)[1:-1]])
def test_redact_cut_hides_the_beginning_of_a_secret_at_the_end(write):
    """However it is written, a piece of 8 characters or more is not shown; a shorter one tells nothing."""
    secret = 'Ab/中"&cdefghijkl'
    assert redact_truncated(f"<{write(secret)[:-1]}", Secret(secret)) == "<***"
    assert redact_truncated("<abcdefg", Secret("abcdefgh0")) == "<abcdefg"
    assert redact_truncated("<abcdefgh", Secret("abcdefgh0")) == "<***"
