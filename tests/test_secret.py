"""Secrets: they can be passed on, compared and redacted, but are never shown."""

from __future__ import annotations

import copy
import html
import json
import pickle
import pprint
import traceback
import tracemalloc
from urllib.parse import quote, unquote

import attrs
import cattrs
import pytest
from hypothesis import given, strategies as st
from rich.pretty import pretty_repr

from wxtcb import Secret
from wxtcb.secret import Redactor, live_secrets, redact, redact_truncated

PLAIN = "top-secret-value"
WORDS = st.text(st.characters(exclude_characters="*%", exclude_categories=["Cs"]), min_size=1)


@attrs.frozen
class Holder:
    """An attrs class of a caller that contains a secret."""

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
def test_no_common_representation_shows_a_secret(show):
    """Python, attrs, cattrs and rich do not show the value of a secret."""
    assert PLAIN not in show(Secret(PLAIN))


def test_secret_is_shown_as_three_stars():
    """The repr, str and format of a secret are ``***``."""
    assert [repr(Secret(PLAIN)), str(Secret(PLAIN)), f"{Secret(PLAIN)}"] == ["***"] * 3


def test_traceback_with_locals_shows_no_secret():
    """A local variable that is a secret is shown as stars."""

    def fail():
        held = Secret(PLAIN)
        raise ValueError(len(held.reveal()))

    with pytest.raises(ValueError, match="16") as caught:
        fail()
    story = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "held = ***" in story


def test_reveal_returns_the_value():
    """Only `reveal` returns the value."""
    assert Secret(PLAIN).reveal() == PLAIN


def test_of_wraps_a_string_and_returns_a_secret_unchanged():
    """`Secret.of` accepts both."""
    secret = Secret(PLAIN)
    assert Secret.of(secret) is secret
    assert Secret.of(PLAIN) == secret


def test_empty_secret_is_false():
    """Whether a secret is empty is visible without revealing it."""
    assert not Secret("")
    assert Secret(PLAIN)


@given(st.text(), st.text())
def test_secrets_with_equal_values_are_equal(one, other):
    """Equality and hash follow the value, for all characters."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert hash(Secret(one)) == hash(Secret(str(one)))


def test_secret_is_not_equal_to_its_value():
    """A secret never equals a string, so that a mix-up is noticed."""
    assert Secret(PLAIN) != PLAIN


@pytest.mark.parametrize("write", [pickle.dumps, json.dumps], ids=["pickle", "json"])
def test_secret_cannot_be_serialised(write):
    """Pickle and JSON reject a secret."""
    with pytest.raises(TypeError, match=r"Secret") as caught:
        write(Secret(PLAIN))
    assert PLAIN not in str(caught.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_of_a_secret_is_the_same_object(duplicate):
    """A secret is immutable, so a copy is the secret itself."""
    secret = Secret(PLAIN)
    assert duplicate(secret) is secret


@given(st.text(), WORDS, st.text())
def test_redact_replaces_every_occurrence(before, secret, after):
    """No occurrence of a secret remains, at the start, in the middle or at the end."""
    redacted = redact(before + secret + after + secret, Secret(secret))
    assert all(secret not in part for part in redacted.split("***"))


@given(st.lists(WORDS, min_size=2))
def test_redact_replaces_a_secret_that_contains_another(words):
    """The longer secret is replaced as a whole, in any order of the arguments."""
    whole = "".join(words)
    assert redact(f"<{whole}>", *map(Secret, words), Secret(whole)).count("*") >= 3
    assert redact("<abcdef>", Secret("abc"), Secret("abcdef")) == "<***>"


@given(WORDS, st.data())
def test_redact_finds_a_percent_encoded_secret(secret, data):
    """Each character may be encoded or not, in upper or lower case."""
    hexes = ["".join(f"%{byte:02x}" for byte in char.encode()) for char in secret]
    ways = [st.sampled_from([char, quoted, quoted.upper()]) for char, quoted in zip(secret, hexes, strict=True)]
    shown = redact("".join(data.draw(st.tuples(*ways))), Secret(secret))
    assert "***" in shown
    assert secret not in unquote(shown)


def test_redact_replaces_a_plain_and_an_encoded_occurrence():
    """Both are replaced, also if the secret itself looks encoded."""
    assert redact("a/b+c a%2Fb%2Bc", Secret("a/b+c")) == "*** ***"
    assert redact("a%20b a%2520b", Secret("a%20b")) == "*** ***"


@given(st.text())
def test_redact_does_not_change_a_text_without_secrets(text):
    """Nothing is replaced or decoded; an empty secret is found nowhere."""
    assert redact(text) == text
    assert redact(text, Secret("")) == text


@pytest.mark.parametrize("write", [str, quote, html.escape, lambda text: json.dumps(text)[1:-1]])
def test_redact_truncated_replaces_a_cut_secret_at_the_end(write):
    """A piece of 8 or more characters is replaced, in every encoding; a shorter one is kept."""
    secret = 'Ab/中"&cdefghijkl'
    assert redact_truncated(f"<{write(secret)[:-1]}", Secret(secret)) == "<***"
    assert redact_truncated("<abcdefg", Secret("abcdefgh0")) == "<abcdefg"
    assert redact_truncated("<abcdefgh", Secret("abcdefgh0")) == "<***"


@pytest.mark.parametrize("stride", [1, 12])
def test_a_long_part_of_a_secret_is_redacted(stride):
    """A secret that is cut, or quoted in two parts, is replaced as well; what surrounds it is kept."""
    token = "AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQrrSSttUUvvWWxxYYzz"
    redact_parts = Redactor([Secret(token)], stride=stride)
    assert redact_parts(f"bad token {token[:25]}, rid: 1") == "bad token ***, rid: 1"
    assert redact_parts(f"{token[:26]} {token[26:]}") == "*** ***"
    assert redact_parts(f"<{token[3:40]}>") == "<***>"


@pytest.mark.parametrize("stride", [1, 12])
def test_a_short_part_of_a_secret_is_kept(stride):
    """Fewer than 12 characters may occur by chance."""
    assert Redactor([Secret("abcdefghijklmnop")], stride=stride)("bcdefghijkl") == "bcdefghijkl"


@given(st.text(st.sampled_from("abc"), min_size=12, max_size=60), st.data())
def test_no_part_of_a_secret_remains(secret, data):
    """Also if secrets share parts, no 12 characters of one remain."""
    other = secret[::-1]
    start = data.draw(st.integers(0, len(secret) - 12))
    text = data.draw(st.text(st.sampled_from("abc "))) + secret[start:] + other[:13]
    parts = {whole[index : index + 12] for whole in (secret, other) for index in range(len(whole) - 11)}
    redactor = Redactor([Secret(secret), Secret(other)])
    # Several times, because the secrets are indexed only after some texts.
    redacted = [redactor(text) for _ in range(5)]
    assert not any(part in redacted[0] for part in parts)
    assert redacted == redacted[:1] * 5


def test_few_short_texts_need_little_memory():
    """An error of a call with 20 variables of 4 KiB does not index each part of them; later texts do."""
    secrets = [Secret("".join(f"{number:x}-{index:x}." for index in range(600))) for number in range(20)]
    redactor = Redactor(secrets)
    text = f"invalid args: {secrets[3].reveal()[100:130]}"
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(5):
            tracemalloc.reset_peak()
            assert redactor(text) == "invalid args: ***"
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert max(peaks[:3]) < 100_000
    assert peaks[3] > 5_000_000


def test_text_is_decoded_once_for_all_secrets(monkeypatch):
    """A long percent-encoded text costs the same with ten secrets: it is not decoded for each form of each."""
    decoded = []
    monkeypatch.setattr("wxtcb.secret.unquote", lambda text: decoded.append(text) or unquote(text))
    redact("%41" * 1000, *(Secret(f"secret-number-{number}/x") for number in range(10)))
    assert len(decoded) == 1


def test_secrets_with_lone_surrogates_can_be_compared():
    """An environment variable that is not UTF-8 raises no error that quotes it."""
    assert Secret("pass\ud800") == Secret("pass\ud800")
    assert Secret("pass\ud800") != Secret("pass")


def test_live_secrets_are_those_that_are_referenced():
    """Two equal secrets are listed separately, so that dropping one does not hide the other."""
    first, second = Secret(PLAIN), Secret(PLAIN)
    assert sum(reference() is first or reference() is second for reference in live_secrets()) == 2
    del first
    assert sum(reference() == second for reference in live_secrets()) == 1
