"""Statements: the generated code, and that no value ever becomes code."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given, strategies as st

from wxtcb.api import database
from wxtcb.api.database import and_, collection, eq, gt, or_
from wxtcb.api.database.query import to_literal
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox.services.database.parser import parse
from wxtcb.sandbox.services.database.values import Evaluator

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
GEO = collection("geo")
KEYS = st.text().filter(lambda key: not key.startswith("$") and key != "__proto__")
MOMENTS = st.datetimes(
    min_value=NAIVE - timedelta(days=50_000),
    max_value=NAIVE + timedelta(days=50_000),
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | MOMENTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def parsed_argument(text):
    """Parse a statement with the sandbox's parser, and return the argument of its last step."""
    [chain] = parse(text)
    [value] = Evaluator(lambda: NOW).evaluate_args(chain.steps[-1])
    return value


@given(VALUES)
@example('"}).remove();db.collection("x')
@example("\u2028\u2029</script><!-- `${x}` '\\")
@example({'a": _.remove(), "b': ["*/", "//", ";"]})
def test_value_is_parsed_back_unchanged(value):
    """The parser of the sandbox reads the same value, and one statement alone."""
    assert parsed_argument(f"db.f({to_literal('value', value)})") == value


@given(st.text())
def test_string_literal_has_no_unsafe_character(text):
    """A string literal contains no line end, semicolon or angle bracket."""
    assert not set(to_literal("value", text)) & set("<>;\n\r\u2028\u2029\0")


@given(st.text().filter(str.strip), KEYS.filter(str.strip), VALUES)
def test_names_and_conditions_are_parsed_back_unchanged(name, key, value):
    """The collection name, the field path and the value are parsed back unchanged."""
    [chain] = parse(str(collection(f"c{name}").where({key: eq(value)}).remove()))
    first, where, _ = [(step.name, Evaluator(lambda: NOW).evaluate_args(step)) for step in chain.steps]
    assert first == ("collection", (f"c{name}",))
    [(field, command)] = where[1][0].items()
    assert (field, command.name, command.args) == (key, "eq", (value,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-5, "-5"),
        (1e300, "1e+300"),
        ("é\n", '"é\\n"'),
        (datetime(1970, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), "new Date(0)"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "new Date(-1)"),
        (database.Point(113, 23.5), "new db.Geo.Point(113, 23.5)"),
        (database.ServerDate(), "db.serverDate()"),
        ((1, [2]), "[1, [2]]"),
        ({"a": {"b": 1}}, '{"a": {"b": 1}}'),
    ],
)
def test_value_has_its_literal(value, text):
    """Each type of value has the literal that JavaScript reads as that value."""
    assert to_literal("value", value) == text


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        math.nan,
        math.inf,
        b"bytes",
        NAIVE,
        date(2026, 1, 1),
        Decimal(1),
        {1},
        object(),
        "\ud800",
        {"$gt": 1},
        {"a": [{"$where": "1"}]},
        {"__proto__": 1},
        {1: 1},
        gt(5),
        {"a": gt(5)},
        database.inc(1),
    ],
    ids=lambda each: repr(each).partition(" at ")[0],
)
def test_value_that_would_change_is_rejected(value):
    """Nothing is rounded, guessed or taken for an operator."""
    with pytest.raises(InvalidArgument, match=r"^document\b"):
        GEO.add({"x": value})


def test_nesting_is_limited_to_100_levels():
    """100 levels are accepted, and a list that contains itself is rejected."""
    value = []
    for _ in range(99):
        value = [value]
    to_literal("value", value)
    value.append(value)
    with pytest.raises(InvalidArgument, match="100 levels"):
        to_literal("value", value)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            GEO.where({"done": True, "age": gt(5)}).order_by("age", "desc").skip(1).limit(10).get(),
            '.where({"done": true, "age": _.gt(5)}).orderBy("age", "desc").skip(1).limit(10).get()',
        ),
        (GEO.order_by("a").order_by("b").get(), '.orderBy("a", "asc").orderBy("b", "asc").get()'),
        (GEO.limit(3).field("a", "b.c").get(), '.limit(3).field({"a": true, "b.c": true}).get()'),
        (GEO.get(), ".get()"),
        (GEO.doc('"').get(), '.where({_id: "\\""}).get()'),
        (GEO.doc("1").remove(), '.doc("1").remove()'),
        (GEO.doc("1").set({"a": {"b": 1}}), '.doc("1").set({data: {"a": {"b": 1}}})'),
        (GEO.doc("1").update({"a": 1}), '.doc("1").update({data: {"a": 1}})'),
        (GEO.where({}).remove(), ".where({}).remove()"),
        (GEO.add({"a": 1}), '.add({data: {"a": 1}})'),
        (GEO.add({"a": 1}, {}), '.add({data: [{"a": 1}, {}]})'),
        (
            GEO.aggregate().match({"a": 1}).sort({"b": "desc", "c": "asc"}).skip(1).limit(2000).project("a", "b").end(),
            '.aggregate().match({"a": 1}).sort({"b": -1, "c": 1}).skip(1).limit(2000).project({"a": 1, "b": 1}).end()',
        ),
        (
            GEO.where({"a": 1}).update(
                {
                    "a": database.inc(-1),
                    "b": database.mul(1.5),
                    "c": database.set_([1]),
                    "d": database.remove(),
                    "e": database.push(1, [2]),
                    "f.g": {"h": 1},
                    "i": None,
                }
            ),
            (
                '.where({"a": 1}).update({data: {"a": _.inc(-1), "b": _.mul(1.5), "c": _.set([1]), "d": _.remove(), '
                '"e": _.push([1, [2]]), "f.g": _.set({"h": 1}), "i": null}})'
            ),
        ),
    ],
    ids=str,
)
def test_statement_has_the_documented_form(statement, text):
    """Each step has the platform's name."""
    assert str(statement) == f'db.collection("geo"){text}'


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ({"a": {"b": 1}}, '{"a": _.eq({"b": 1})}'),
        ({"a": [{"b": 1}]}, '{"a": [{"b": 1}]}'),
        ({"a": database.neq(1), "b": database.gte(1)}, '{"a": _.neq(1), "b": _.gte(1)}'),
        ({"a": database.lt(1), "b": database.lte(1)}, '{"a": _.lt(1), "b": _.lte(1)}'),
        ({"a": database.in_([1, "b"]), "b": database.nin(())}, '{"a": _.in([1, "b"]), "b": _.nin([])}'),
        ({"a": database.exists(), "b": database.missing()}, '{"a": _.exists(true), "b": _.exists(false)}'),
        ({"a": and_(gt(1), or_(eq(2), eq(3)))}, '{"a": _.and([_.gt(1), _.or([_.eq(2), _.eq(3)])])}'),
        (or_({"a": 1}, {"b": gt(2)}), '_.or([{"a": 1}, {"b": _.gt(2)}])'),
        (and_({"a": 1}, or_({"b": 1}, {"c": 1})), '_.and([{"a": 1}, _.or([{"b": 1}, {"c": 1}])])'),
    ],
    ids=str,
)
def test_conditions_have_the_documented_form(conditions, text):
    """An object is an exact match with `_.eq`."""
    assert str(GEO.where(conditions).get()) == f'db.collection("geo").where({text}).get()'


@pytest.mark.parametrize(
    "source",
    [
        'collection("")',
        "collection(5)",
        'collection("$geo")',
        "GEO.where([])",
        'GEO.where({"$or": [{"a": 1}]})',
        'GEO.where({"": 1})',
        'GEO.where({"a": {"$gt": ""}})',
        'GEO.where({"a": [{"b": {"$ne": None}}]})',
        'GEO.where({"a": {"b": gt(1)}})',
        'GEO.where({"a": database.inc(1)})',
        "GEO.where(gt(1))",
        'GEO.doc("")',
        'GEO.doc({"$ne": ""})',
        "GEO.add()",
        'GEO.add([{"a": 1}])',
        'GEO.doc("1").set([])',
        "GEO.where({}).update({})",
        'GEO.where({}).update([("a", 1)])',
        'GEO.where({}).update({"$set": {"a": 1}})',
        'GEO.where({}).update({"a": {"$inc": 1}})',
        'GEO.where({}).update({"a": gt(1)})',
        'GEO.order_by("$a")',
        'GEO.order_by("a", "up")',
        'GEO.order_by("a", ["asc"])',
        "GEO.field()",
        'GEO.field("$a")',
        "GEO.skip(-1)",
        "GEO.skip(True)",
        "GEO.limit(0)",
        "GEO.limit(1001)",
        'GEO.limit("1")',
        "GEO.aggregate().sort({})",
        'GEO.aggregate().sort({"a": -1})',
        "GEO.aggregate().limit(0)",
        "GEO.aggregate().project()",
        'GEO.aggregate().match({"$expr": 1})',
        'eq({"$gt": 1})',
        'database.in_("text")',
        'database.in_([{"$gt": 1}])',
        'database.inc("1")',
        "database.mul(True)",
        "database.inc(math.nan)",
        "database.push()",
        "and_()",
        'or_(gt(1), {"a": 1})',
        'or_({"a": 1}, 5)',
        "database.Point(181, 0)",
        'database.Point(0, "1")',
        "database.Point(0, math.nan)",
        "database.Point(0, 90.5)",
        "GEO.aggregate().sort([('a', 'asc')])",
        "database.Query('db.x()')",
    ],
)
def test_invalid_statement_is_rejected(source):
    """A statement is checked when it is built; keys with `$` are rejected everywhere."""
    with pytest.raises(InvalidArgument):
        eval(source)


@pytest.mark.parametrize(
    "name",
    [
        *["Collection", "Filter", "Selection", "Pipeline", "Insert", "Update", "Delete", "Aggregate"],
        *["Comparison", "Combination", "Change"],
    ],
)
def test_statement_class_takes_no_string(name):
    """``Collection(name)`` raises TypeError: otherwise it would take a user's string for code."""
    with pytest.raises(TypeError):
        getattr(database, name)("teas")


def test_statements_are_immutable_values():
    """Equal statements compare equal, and a step returns a new statement."""
    query = GEO.where({"a": 1}).limit(5).get()
    assert query == collection("geo").where({"a": 1}).limit(5).get()
    assert hash(query) == hash(collection("geo").where({"a": 1}).limit(5).get())
    assert query.selection.skip(3).get() != query
    with pytest.raises(AttributeError):
        query.selection.limit_count = 7
