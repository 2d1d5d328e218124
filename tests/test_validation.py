"""Argument validation: checks, converters and attrs validators."""

from __future__ import annotations

import string
from pathlib import Path

import attrs
import pytest
from hypothesis import given, strategies as st

from wxtcb import InvalidArgument, Secret, validation

ALIAS = st.text(string.ascii_letters + string.digits + "-")


def accepts(check, value):
    """Return whether *check* accepts *value*; an error that does not name the argument fails the test."""
    try:
        check("the field", value)
    except InvalidArgument as error:
        if str(error).startswith("the field"):
            return False
        raise
    return True


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (validation.check_string, ["a", " a ", "环境"], ["", " ", "\n", None, 1, b"a", ["a"], Secret("a")]),
        (
            validation.check_appid,
            ["wx0", "wxb11529c136998cb6", "appid_value", "wx-1"],
            ["", "wx0\n", " wx0", "wxé", "ticket@@@1", "x" * 65, None, 1, b"wx0", Secret("wx0")],
        ),
        (
            validation.check_mini_program_appid,
            ["wxb11529c136998cb6", "wx0000000000000001", "wxmjmspz667oquuzeg"],
            ["", "wx1", "wxb11529c136998cb6 ", "wxb11529c136998cB6", "gh_0123456789ab", "wxb11529c136998cb66", None, 1],
        ),
        (
            validation.check_service_name,
            ["a", "ss1", "Web_2-b", "a" * 60],
            ["", "1a", "-a", "a-", "a_", "a b", "a;b", "接口", "a\n", "a" * 61, None, 1, b"a"],
        ),
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
            [None, [], "a", [("a", 1)]],
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
        (validation.require_strings, [("a", "b"), ["a"], {"a": 1}], [(), [], "a", None, 5, ["a", ""], [1]]),
    ],
    ids=lambda each: getattr(each, "__name__", "values"),
)
def test_check_accepts_valid_and_rejects_invalid_values(check, good, bad):
    """Each check follows its rule, and its error names the argument."""
    assert [value for value in good if not accepts(check, value)] == []
    assert [value for value in bad if accepts(check, value)] == []


@given(st.sampled_from(string.ascii_lowercase), ALIAS)
def test_alias_of_the_documented_form_is_accepted(first, rest):
    """An alias starts with a-z and contains only letters, digits and '-'."""
    assert accepts(validation.check_alias, first + rest)


@given(ALIAS, st.characters(exclude_characters=string.ascii_letters + string.digits + "-"), ALIAS)
def test_alias_with_another_character_is_rejected(before, odd, after):
    """One other character at any position is enough."""
    assert not accepts(validation.check_alias, f"a{before}{odd}{after}")


@pytest.mark.parametrize(
    ("value", "expected_type", "valid"),
    [(1, int, True), (True, int, False), (1, bool, False), (True, bool, True), ("a", str, True), ("1", int, False)],
)
def test_type_is_compared_exactly(value, expected_type, valid):
    """A bool is not an int, and an int is not a bool."""
    assert accepts(lambda name, each: validation.check_type(name, each, expected_type), value) is valid


@pytest.mark.parametrize("value", [b"hunter2-in-bytes", ["hunter2-in-bytes"]], ids=["bytes", "list"])
def test_rejected_secret_is_not_quoted(value):
    """A value of another type may be a secret too, so the message does not contain it."""
    with pytest.raises(InvalidArgument) as caught:
        validation.check_secret("component_verify_ticket", value)
    assert "hunter2" not in str(caught.value)


def test_rejected_entry_of_a_list_is_named_by_its_index():
    """The message contains the index of the entry."""
    with pytest.raises(InvalidArgument, match=r"^appids\[1\] must be"):
        validation.check_strings("appids", ("wx1", 2))


@attrs.frozen(kw_only=True)
class Example:
    """A class with validated fields."""

    must: str = attrs.field(validator=validation.validator(validation.check_string))
    may: str | None = attrs.field(default=None, validator=validation.validator(validation.check_string, optional=True))
    number: int | None = attrs.field(default=None, validator=validation.type_validator(int))
    flag: bool = attrs.field(default=False, validator=validation.type_validator(bool, optional=False))


@pytest.mark.parametrize("fields", [{}, {"may": None, "number": None}, {"may": "a", "number": 0, "flag": True}])
def test_class_accepts_valid_fields(fields):
    """An optional field accepts None."""
    assert Example(must="a", **fields).must == "a"


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
def test_class_rejects_an_invalid_field_by_class_and_name(fields, name):
    """The message begins with the class and the field."""
    with pytest.raises(InvalidArgument, match=f"^Example: {name} must be"):
        Example(**{"must": "a", **fields})


@pytest.mark.parametrize(
    ("value", "converted"),
    [(["a"], ("a",)), (("a",), ("a",)), (iter("ab"), ("a", "b")), ([], ()), (None, None), ("ab", "ab"), (b"a", b"a")],
)
def test_list_becomes_a_tuple_and_a_string_is_not_split(value, converted):
    """A string, and a value that is not iterable, stay unchanged for the check that follows."""
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
def test_base_url_that_does_not_expose_the_token_is_accepted(url, allow_http):
    """A URL with https may name any host; plain http is for this machine, or others if allowed."""
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
        "http://[::1].evil.com",
        "http://[::1]evil.com",
        "https://evil[::1]",
        "http://evil.com\\@127.0.0.1",
        "https://user@host",
        "https://user:password@host",
        "https://host?a=b",
        "https://host#a",
        None,
        5,
    ],
    ids=str,
)
def test_incomplete_base_url_is_rejected(url):
    """A base URL consists of http or https and a host, without user, query or fragment."""
    with pytest.raises(InvalidArgument, match="base_url must") as caught:
        validation.check_base_url(url, allow_http=True)
    assert "password@" not in str(caught.value)
    # An exception of the parser would quote the whole URL.
    assert caught.value.__context__ is None


def test_error_about_a_base_url_says_what_a_path_does():
    """A path is allowed, and the message says that it is put before the path of every call."""
    validation.check_base_url("https://gateway.example/tcb", allow_http=False)
    with pytest.raises(InvalidArgument, match="before the path of every call"):
        validation.check_base_url("gateway.example/tcb", allow_http=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.weixin.qq.com",
        "http://127.0.0.1.evil.com",
        "http://localhost.evil.com",
        "http://10.0.0.1",
        # aiohttp resolves these as names.
        "http://127.\u0660.\u0660.\u0661",
        "http://127.999.999.999",
        "http://127.0.0.256",
        "http://%31%32%37.0.0.1",
    ],
    ids=ascii,
)
def test_plain_http_to_another_machine_is_rejected(url):
    """A host name that only resembles this machine is another machine."""
    with pytest.raises(InvalidArgument, match="allow_http"):
        validation.check_base_url(url, allow_http=False)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("https://localhost", True),
        ("https://LOCALHOST", True),
        ("http://\uff11\uff12\uff17.0.0.1", True),
        ("https://a.com", False),
        ("http://127.0.0.256", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_loopback_urls_are_recognised(url, loopback):
    """An invalid URL is not on this machine; the host is read as aiohttp reads it."""
    assert validation.is_loopback(url) is loopback


@pytest.mark.parametrize("url", ["http://proxy:3128", "https://user:password@proxy.internal"])
def test_proxy_may_be_any_http_url(url):
    """The URL of a proxy may contain a user and a password, and may be plain http."""
    validation.check_proxy(url)


@pytest.mark.parametrize("url", ["", "proxy:3128", "socks5://u:hunter2@proxy", "http://", "http://u:hunter2@p:99999"])
def test_rejected_proxy_is_not_quoted(url):
    """A password in the URL is not in the message."""
    with pytest.raises(InvalidArgument, match=r"^proxy must") as caught:
        validation.check_proxy(url)
    assert "hunter2" not in str(caught.value)


def test_token_in_the_query_is_rejected_and_not_quoted():
    """The message points to ``token=`` and does not contain the value."""
    with pytest.raises(InvalidArgument, match="token=") as caught:
        validation.check_query("the query", {"access_token": "S3CRET"})
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("minimum", "maximum", "good", "bad"),
    [
        (0, 100, [0, 100], [-1, 101, 50.0, "50", True]),
        (0, None, [0, 10**30], [-1, 1.0, False]),
    ],
)
def test_integer_is_limited_to_its_range(minimum, maximum, good, bad):
    """Both bounds are inclusive; an optional field accepts None."""

    @attrs.frozen
    class Share:
        must: object = attrs.field(default=minimum, validator=validation.int_range(minimum, maximum, optional=False))
        may: object = attrs.field(default=None, validator=validation.int_range(minimum, maximum))

    assert [Share(must=each, may=each).may for each in good] == good
    for name in ("must", "may"):
        for value in bad:
            with pytest.raises(InvalidArgument, match=rf"^Share: {name} must be an integer"):
                Share(**{name: value})
    with pytest.raises(InvalidArgument, match="integer"):
        Share(must=None)


def test_list_of_a_type_checks_each_entry():
    """The error contains the index of the invalid entry."""
    validation.check_list_of("the flags", (True, False), bool)
    with pytest.raises(InvalidArgument, match=r"^the flags\[1\] must be bool"):
        validation.check_list_of("the flags", (True, 0), bool)


def test_instance_of_a_subclass_is_accepted():
    """An instance of another class is rejected, with the names of the accepted classes."""

    @attrs.frozen
    class Options:
        amount: object = attrs.field(default=None, validator=validation.instance_validator(int, str))

    assert [Options(each).amount for each in (None, True, "a")] == [None, True, "a"]
    with pytest.raises(InvalidArgument, match=r"^Options: amount must be a int or str"):
        Options(1.5)


def test_variables_are_copied():
    """A later change does not reach the copy, and strings become secrets; another type stays for the check."""
    variables = {"A": "a"}
    copied = validation.to_variables(variables)
    variables["B"] = "b"
    assert copied == {"A": Secret("a")}
    assert validation.to_variables(None) is None


@pytest.mark.parametrize("path", ["tokens.db", Path("tokens.db")])
def test_file_path_becomes_absolute(path):
    """A relative path is resolved against the working directory."""
    assert validation.to_file_path(path, memory_hint="") == Path.cwd() / "tokens.db"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (5, "string or a Path"),
        (b"a", "string or a Path"),
        ("", "file path"),
        ("a\0", "file path"),
        (":memory:", "HINT"),
    ],
)
def test_path_that_names_no_file_is_rejected(path, words):
    """For SQLite's ``:memory:`` the message says what to use instead."""
    with pytest.raises(InvalidArgument, match=words):
        validation.to_file_path(path, memory_hint="use HINT")


def test_optional_list_of_strings_accepts_none():
    """A list becomes a tuple, None stays None."""
    assert validation.to_str_tuple_or_none(None) is None
    assert validation.to_str_tuple_or_none(["a"]) == ("a",)
    assert validation.to_str_tuple(["a"]) == ("a",)
