"""Tests of the statement language: what the parser accepts and rejects."""

from __future__ import annotations

import contextlib
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.services.database.parser import Chain, ChainStep, parse
from wxtcb.sandbox.services.database.values import Command, Evaluator, require_plain_value

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def meant(text: str) -> Any:
    """Return the value of an expression."""
    [chain] = parse(f"db.f({text})")
    [value] = Evaluator(lambda: NOW).evaluate_args(chain.steps[0])
    return value


def refusal(text: str) -> str:
    """Return the message of a rejected expression."""
    with pytest.raises(PlatformError) as no:
        meant(text)
    assert no.value.errcode == 40097
    return no.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("true", True),
        ("-0.5e+1", -5),
        ("5.0", 5),
        ("1e3", 1000),
        ("9007199254740993", 9007199254740992.0),
        ("1.25E-2", 0.0125),
        ("5.", 5),
        ("'a\"b'", 'a"b'),
        (r'"\u00e9\x41\n\'\/\0"', "éA\n'/\0"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ("[]", []),
        ("[1, [2,],]", [1, [2]]),
        ("{}", {}),
        ("{a: 1, 'b.c': 2, 3: {\"d\": []},}", {"a": 1, "b.c": 2, "3": {"d": []}}),
        ("{a: 1, a: 2}", {"a": 2}),
        ("new Date(0)", datetime(1970, 1, 1, tzinfo=UTC)),
        ("new Date('2026-01-01T08:00:00+08:00')", datetime(2026, 1, 1, tzinfo=UTC)),
        ("new Date('2026-01-01')", datetime(2026, 1, 1, tzinfo=UTC)),
        ("new Date()", NOW),
        ("db.serverDate()", NOW),
        ("new db.Geo.Point(113, 23.5)", {"type": "Point", "coordinates": [113.0, 23.5]}),
        ("db.Geo.Point(113, 23)", {"type": "Point", "coordinates": [113.0, 23.0]}),
        ("_.gt(5)", Command("gt", (5,))),
        ("db.command.in([1])", Command("in", ([1],))),
        ("_.remove()", Command("remove", ())),
        ("_.gt(1).and(_.lt(5))", Command("and", (Command("gt", (1,)), Command("lt", (5,))))),
        ("_.or([_.eq(1), 2])", Command("or", (Command("eq", (1,)), 2))),
        ("_.or(1, 2)", Command("or", (1, 2))),
    ],
)
def test_a_term_has_its_value(text: str, value: object) -> None:
    """Literals are read as in JavaScript."""
    found = meant(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("`a`", "'`'"),
        ("/a/", "'/'"),
        ("a => 1", "a "),
        ("x", "x "),
        ("undefined", "undefined"),
        ("NaN", "NaN"),
        ("function() {}", "function"),
        ("{$gt: 5}", r"\$gt"),
        ("{'$where': 'x'}", r"\$where"),
        ("{__proto__: {}}", "__proto__"),
        ("new Date(true)", "new Date with these arguments"),
        ("new Date(1, 2)", "new Date with these arguments"),
        ("Date()", "Date"),
        ("Date.now()", "Date.now"),
        ("new db.RegExp({})", "db.RegExp"),
        ("db.serverDate({offset: 1})", "db.serverDate"),
        ("db.collection('x').get()", "db.collection.get"),
        ("_.gt(1).then(2)", "_.gt.then"),
        ("new _.gt(1)", "_.gt"),
        ("_", "_ "),
        ("db.f()()", "a call of the result of a call"),
        ("0x10", "the number 0"),
        ("1_000", "the number 1"),
        ("10n", "the number 10"),
        ("$.sum(1)", r"\$ "),
    ],
)
def test_what_is_not_simulated_is_refused_by_its_name(text: str, word: str) -> None:
    """A feature that is not simulated is named in the error."""
    message = refusal(text)
    assert "is not simulated" in message
    assert word.replace("\\", "").strip() in message


@pytest.mark.parametrize(
    "text",
    [
        "1 2",
        "{a}",
        "{a: }",
        "{: 1}",
        "{a: 1",
        "[1",
        "[1 2]",
        "'a",
        "'a\n'",
        r"'\u12'",
        r"'\xzz'",
        r"'\1'",
        "'\\",
        r"'\ud800'",
        "1e",
        "1e400",
        "-",
        "-true",
        "new 5",
        "db.",
        "db.5",
        "_.gt",
        "_.gt(1).and",
        "new Date('x')",
        "new Date(1e300)",
        "new db.Geo.Point(1)",
        "new db.Geo.Point(181, 0)",
        "[" * 200 + "]" * 200,
        "_.gt(1)" + ".and(_.gt(1))" * 200,
        "'" + "x" * 600_000 + "'",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_statement_is_malformed(text: str) -> None:
    """A text that is not a statement is rejected with its position."""
    assert refusal(text).startswith("invalid args: query: ")


@given(st.text(alphabet=string.printable + "é\u2028", max_size=40) | st.text(max_size=20))
def test_anything_is_read_or_refused(text: str) -> None:
    """Every text is either parsed or rejected with a `PlatformError`."""
    for whole in (text, f"db.collection({text}).get()", f"db.f({{a: {text}}})"):
        with contextlib.suppress(PlatformError):
            assert all(isinstance(chain, Chain) for chain in parse(whole))


def test_declared_names_stand_for_what_they_were_declared_to_be() -> None:
    """A declared name is replaced by its value, as in the documented export sample."""
    first, second = parse("const Point = db.Geo.Point; ;let c = db.collection('x');c.get();db.f(new Point(1, 2));")
    assert first == Chain("db", (ChainStep("collection", ("x",)), ChainStep("get", ())))
    assert second.steps[0].args == (Chain("db", (ChainStep("Geo"), ChainStep("Point", (1, 2))), is_new=True),)


def test_what_a_name_stands_for_cannot_double_on_and_on() -> None:
    """Declarations cannot double the size of the expression again and again."""
    doubled = "".join(f"let a{number + 1} = _.and(a{number}, a{number});" for number in range(30))
    with pytest.raises(PlatformError, match="a0 in the declaration of another name is not simulated"):
        parse(f"let a0 = _.gt(1); {doubled} db.f(a30)")


@pytest.mark.parametrize("text", ["const x = 5", "const 5 = db", "const x db", "5", "db.f() db.g()", "const db"])
def test_a_statement_is_a_chain(text: str) -> None:
    """A value alone is not a statement. Statements are separated by semicolons."""
    with pytest.raises(PlatformError):
        parse(text)


@pytest.mark.parametrize("text", ["_.gt(1)", "[_.gt(1)]", "{a: {b: [_.inc(1)]}}"])
def test_a_command_is_no_value(text: str) -> None:
    """A command is rejected where a value is expected."""
    with pytest.raises(PlatformError, match="is not simulated"):
        require_plain_value(meant(text))
