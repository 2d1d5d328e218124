"""The checks of what a caller gives."""

from __future__ import annotations

import string

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb import InvalidArgument, Secret, validation

ALIAS = st.text(string.ascii_letters + string.digits + "-")


def passes(check, value):
    """Tell whether *check* lets *value* pass; a refusal that does not name the field fails the test."""
    try:
        check("the field", value)
    except InvalidArgument as refusal:
        if str(refusal).startswith("the field"):
            return False
        raise
    return True


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (validation.check_string, ["a", " a ", "环境"], ["", " ", "\n", None, 1, b"a", ["a"], Secret("a")]),
        (
            validation.check_alias,
            ["a", "mytestenv", "aB-9", "a-"],
            ["", "A", "1a", "-a", "a_b", "a b", "a\n", "é", "aé", "a.b", None, 1, b"a"],
        ),
        (
            validation.check_seconds,
            [0.1, 1, 60.5, 1e-9, 10**6],
            [0, -1, 0.0, True, "1", None, float("nan"), float("inf"), -float("inf")],
        ),
        (validation.check_positive_int, [1, 100], [0, -1, 1.0, True, "1", None]),
        (
            validation.check_mapping,
            [{}, {"a": None}],
            [
                None,
                [],
                "a",
                [("a", 1)],
            ],
        ),
        (
            validation.check_number,
            [0, -1, 0.5, 1e300],
            [True, "1", None, float("nan"), float("inf"), -float("inf")],
        ),
        (
            validation.check_variables,
            [{}, {"A": ""}, {"A": Secret("a")}, {"环境": "值"}],
            [None, "A=a", [("A", "a")], {"": "a"}, {1: "a"}, {"A": None}, {"A": 1}, {"A": "\ud800"}],
        ),
        (
            validation.check_query,
            [{}, {"a": "b"}],
            [None, "a=b", {"a": 1}, {"a": None}, {1: "b"}, {"a": "b\udcff"}, {"\udcff": "b"}],
        ),
        (validation.check_secret, ["a", Secret("a")], ["", Secret(""), None, 1, b"a", ["a"], print]),
        (validation.check_strings, [(), ("a", "b")], [None, ["a"], "a", ("a", ""), (1,), (None,), 5]),
        (validation.check_not_empty, [("a",)], [(), None, []]),
    ],
    ids=lambda each: getattr(each, "__name__", "values"),
)
def test_a_check_lets_the_good_pass_and_refuses_the_bad_by_name(check, good, bad):
    """Each check knows what fits its field; what does not is refused with the field's name."""
    assert [value for value in good if not passes(check, value)] == []
    assert [value for value in bad if passes(check, value)] == []


@given(st.sampled_from(string.ascii_lowercase), ALIAS)
def test_an_alias_by_the_documented_rule_passes(first, rest):
    """Whatever starts with a-z and holds only letters, digits and '-' is an alias."""
    assert passes(validation.check_alias, first + rest)


@given(ALIAS, st.characters(exclude_characters=string.ascii_letters + string.digits + "-"), ALIAS)
def test_an_alias_with_any_other_character_is_refused(before, odd, after):
    """One character outside the rule, wherever it stands, is enough."""
    assert not passes(validation.check_alias, f"a{before}{odd}{after}")


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [(1, int, True), (True, int, False), (1, bool, False), (True, bool, True), ("a", str, True), ("1", int, False)],
)
def test_a_kind_is_exact(value, kind, fits):
    """A bool is no int and an int no bool."""
    assert passes(lambda name, each: validation.check_type(name, each, kind), value) is fits


@pytest.mark.parametrize("value", [b"hunter2-in-bytes", ["hunter2-in-bytes"]], ids=["bytes", "list"])
def test_a_refused_secret_is_not_quoted(value):
    """What is no text may be a secret all the same: the message does not show it."""
    with pytest.raises(InvalidArgument) as refused:
        validation.check_secret("component_verify_ticket", value)
    assert "hunter2" not in str(refused.value)


def test_a_bad_entry_of_a_list_is_named_by_its_place():
    """The message says which entry was refused."""
    with pytest.raises(InvalidArgument, match=r"^appids\[1\] must be a text"):
        validation.check_strings("appids", ("wx1", 2))


@attrs.frozen(kw_only=True)
class Form:
    """A class whose fields are checked."""

    must: str = attrs.field(validator=validation.validator(validation.check_string))
    may: str | None = attrs.field(default=None, validator=validation.validator(validation.check_string, optional=True))
    number: int | None = attrs.field(default=None, validator=validation.type_validator(int))
    flag: bool = attrs.field(default=False, validator=validation.type_validator(bool, optional=False))


@pytest.mark.parametrize("fields", [{}, {"may": None, "number": None}, {"may": "a", "number": 0, "flag": True}])
def test_a_class_takes_fields_that_fit(fields):
    """Optional fields also take None."""
    assert Form(must="a", **fields).must == "a"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"must": None}, "must"),
        ({"may": ""}, "may"),
        ({"number": True}, "number"),
        ({"flag": None}, "flag"),
        ({"flag": 1}, "flag"),
    ],
)
def test_a_class_refuses_a_field_that_does_not_fit_by_class_and_name(fields, name):
    """The message begins with the class and the field."""
    with pytest.raises(InvalidArgument, match=f"^Form: {name} must be"):
        Form(**{"must": "a", **fields})


@pytest.mark.parametrize(
    ("value", "converted"),
    [(["a"], ("a",)), (("a",), ("a",)), (iter("ab"), ("a", "b")), ([], ()), (None, None), ("ab", "ab"), (b"a", b"a")],
)
def test_a_list_becomes_a_tuple_and_a_text_is_not_taken_apart(value, converted):
    """What can be gone through is; a text, and what is no list, is left for the check to refuse."""
    assert validation.to_tuple(value) == converted


@pytest.mark.parametrize(
    ("url", "allow_http"),
    [
        ("https://api.weixin.qq.com", False),
        ("https://api.weixin.qq.com:8443/prefix", False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1", False),
        ("http://127.9.8.7:1", False),
        ("http://[::1]:80", False),
        ("http://proxy.internal", True),
    ],
)
def test_a_base_url_that_keeps_the_token_safe_is_taken(url, allow_http):
    """Anywhere by https, plain http to this machine, and elsewhere only when allowed."""
    validation.check_base_url(url, allow_http=allow_http)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.weixin.qq.com",
        "//api.weixin.qq.com",
        "ftp://api.weixin.qq.com",
        "https://",
        "https://host:99999",
        "https://host:0",
        "https://host:x",
        "https://[::1",
        "https://user@host",
        "https://user:password@host",
        "https://host?a=b",
        "https://host#a",
        None,
        5,
    ],
    ids=str,
)
def test_a_base_url_that_is_incomplete_or_holds_too_much_is_refused(url):
    """Whatever is allowed otherwise, it must be http(s) and a host, without user, query or fragment."""
    with pytest.raises(InvalidArgument, match="base_url must") as refused:
        validation.check_base_url(url, allow_http=True)
    assert "password@" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://api.weixin.qq.com", "http://127.0.0.1.evil.com", "http://localhost.evil.com", "http://10.0.0.1"]
)
def test_plain_http_to_elsewhere_is_refused(url):
    """A host that only looks like this machine is elsewhere."""
    with pytest.raises(InvalidArgument, match="would show every token"):
        validation.check_base_url(url, allow_http=False)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("https://localhost", True),
        ("https://a.com", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_elsewhere(url, here):
    """What cannot be read as a URL is not this machine."""
    assert validation.is_loopback(url) is here


@pytest.mark.parametrize("url", ["http://proxy:3128", "https://user:password@proxy.internal"])
def test_a_proxy_may_be_any_http_url(url):
    """A user and a password may stand in a proxy's URL, and plain http is fine."""
    validation.check_proxy(url)


@pytest.mark.parametrize("url", ["", "proxy:3128", "socks5://u:hunter2@proxy", "http://", "http://u:hunter2@p:99999"])
def test_a_proxy_that_cannot_be_one_is_refused_without_quoting_it(url):
    """It must be http(s) and a host; a password in it stays out of the message."""
    with pytest.raises(InvalidArgument, match=r"^proxy must be") as refused:
        validation.check_proxy(url)
    assert "hunter2" not in str(refused.value)


def test_a_token_in_the_query_is_refused_and_not_quoted():
    """It would be overwritten, or shown: a token of the caller's own goes into ``token=``."""
    with pytest.raises(InvalidArgument, match="token=") as caught:
        validation.check_query("the query", {"access_token": "S3CRET"})
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("least", "most", "words", "good", "bad"),
    [
        (0, 100, "to 100", [0, 100], [-1, 101, 50.0, "50", True]),
        (0, None, "on", [0, 10**30], [-1, 1.0, False]),
    ],
)
def test_a_whole_number_is_held_to_its_bounds(least, most, words, good, bad):
    """Both of them belong to it; None passes where the field is optional."""

    @attrs.frozen
    class Share:
        must: object = attrs.field(default=least, validator=validation.int_range(least, most, optional=False))
        may: object = attrs.field(default=None, validator=validation.int_range(least, most))

    assert [Share(must=each, may=each).may for each in good] == good
    for name in ("must", "may"):
        for value in bad:
            with pytest.raises(
                InvalidArgument, match=rf"^Share: {name} must be a whole number from 0 (to 100|on), not"
            ):
                Share(**{name: value})
    with pytest.raises(InvalidArgument, match="must be a whole number"):
        Share(must=None)
