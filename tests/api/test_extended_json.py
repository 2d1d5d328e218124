"""Records as extended JSON: reading and writing."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wxtcb
from wxtcb.api import database
from wxtcb.api.database import Timestamp, read_document, write_document
from wxtcb.api.database.extended_json import DOCUMENTS_FORMAT
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox.services.database.values import decode_record

DEEP = '{"a":' * 1000 + "1" + "}" * 1000
KEYS = st.text().filter(lambda key: not key.startswith("$"))
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | MOMENTS
    | st.builds(Timestamp, st.integers(0, 2**32), st.integers(0, 9)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def reading(value):
    """Read one value of a record."""
    return read_document(json.dumps({"x": value}))["x"]


@settings(max_examples=40)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_written_record_round_trips(document):
    """Every value comes back equal and with the same type, and the text is one line."""
    text = write_document(document)
    assert "\n" not in text
    found = read_document(text)
    assert found == document
    assert repr(found) == repr(document)


@settings(max_examples=40)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_written_record_is_json(document):
    """Every JSON parser can read it."""
    assert isinstance(json.loads(write_document(document)), dict)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ({"$date": "2019-09-09T00:00:00.5Z"}, datetime(2019, 9, 9, 0, 0, 0, 500_000, UTC)),
        ({"$date": "2019-09-09T08:00:00+08:00"}, datetime(2019, 9, 9, tzinfo=UTC)),
        ({"$date": "2019-09-09"}, datetime(2019, 9, 9, tzinfo=UTC)),
        ({"$date": {"$numberLong": "-1"}}, datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        ({"$date": 1000}, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ({"$oid": "5f9a0e8b2c1d3e4f5a6b7c8d"}, "5f9a0e8b2c1d3e4f5a6b7c8d"),
        ({"$numberInt": "-7"}, -7),
        ({"$numberLong": "9223372036854775807"}, 2**63 - 1),
        ({"$numberDouble": "113.0"}, 113.0),
        ({"$numberDouble": "-Infinity"}, -math.inf),
        ({"$numberDecimal": "1.10"}, Decimal("1.10")),
        ({"$binary": {"base64": "AQI=", "subType": "00"}}, b"\1\2"),
        ({"$binary": "AQI=", "$type": "00"}, b"\1\2"),
        ({"$timestamp": {"t": 5, "i": 1}}, Timestamp(5, 1)),
        ({"$undefined": True}, None),
        ([{"a": {"$numberInt": "1"}}], [{"a": 1}]),
        ({"a": 5.0, "$b": 1}, {"a": 5.0, "$b": 1}),
    ],
    ids=str,
)
def test_extended_json_becomes_python_values(form, value):
    """Each form of the database is converted at any depth."""
    found = reading(form)
    assert (found, type(found)) == (value, type(value))


def test_nan_round_trips():
    """NaN has a form too."""
    assert math.isnan(reading({"$numberDouble": "NaN"}))
    assert write_document({"x": math.nan}) == '{"x":{"$numberDouble":"NaN"}}'


@pytest.mark.parametrize(
    "form",
    [
        {"$regularExpression": {"pattern": "a", "options": ""}},
        {"$minKey": 1},
        {"$numberInt": "x"},
        {"$numberInt": 5},
        {"$numberDecimal": "x"},
        {"$date": "yesterday"},
        {"$date": {"$numberLong": "9" * 30}},
        {"$date": True},
        {"$date": {}},
        {"$oid": 5},
        {"$binary": {"base64": "?"}},
        {"$timestamp": 5},
        {"$timestamp": {"t": "5", "i": 1}},
        {"$date": 0, "other": {"$numberInt": "1"}},
    ],
    ids=str,
)
def test_unknown_form_is_unchanged(form):
    """An unknown or malformed form does not make the record unreadable."""
    assert reading(form) == form


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", "{'a': 1}", DEEP], ids=lambda text: repr(text)[:20])
def test_text_that_is_not_a_record_is_rejected(text):
    """A record is a JSON object in a string."""
    with pytest.raises(InvalidArgument, match=r"^text is not a record"):
        read_document(text)


@pytest.mark.parametrize(
    "document",
    [
        {"$set": 1},
        {"a": {"$gt": 1}},
        {1: 1},
        {"a": 2**63},
        {"a": -(2**63) - 1},
        {"a": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)},
        {"a": {1}},
        {"a": "\ud800"},
    ],
    ids=repr,
)
def test_value_without_a_form_is_rejected(document):
    """It is rejected, not changed."""
    with pytest.raises(InvalidArgument, match=r"^document"):
        write_document(document)


def test_recursive_record_is_rejected():
    """Records have at most 100 levels."""
    record = {}
    record["x"] = [record]
    with pytest.raises(InvalidArgument, match="too deeply"):
        write_document(record)


@given(st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), st.integers() | st.text() | MOMENTS, max_size=3))
def test_sandbox_reads_a_written_record(document):
    """The sandbox's own parser understands a record written for an import."""
    bounded = {key: value for key, value in document.items() if not isinstance(value, int) or abs(value) < 2**63}
    assert decode_record(write_document(bounded)) == bounded


@pytest.mark.parametrize(
    "data",
    [["{"], [5], ["[]"], "{}", [None]],
    ids=str,
)
async def test_reply_with_an_invalid_record_is_a_bad_reply(session, platform, data):
    """The error names the endpoint, and is permanent."""
    platform.replies = [{"errcode": 0, "pager": {"offset": 0, "limit": 10, "total": 1}, "data": data}]
    with pytest.raises(wxtcb.BadReply, match="HTTP 200") as caught:
        await database.db_record_query(session, "e-1", "db")
    assert (caught.value.endpoint, caught.value.permanent) == ("/componenttcb/dbrecord", True)


@pytest.mark.parametrize("empty", [{}, {"data": None}, {"data": []}], ids=str)
async def test_reply_without_records_is_empty(session, platform, empty):
    """Missing and null mean that no record matched."""
    platform.replies = [{"errcode": 0, "pager": {"offset": 0, "limit": 10, "total": 0}, **empty}]
    found = await database.db_record_query(session, "e-1", "db")
    assert (found.documents, found.pager.total) == ((), 0)


def test_wire_format_of_documents_round_trips():
    """Decoded records are encoded to the same list of strings."""
    texts = ['{"_id":"1","x":{"$numberLong":"9223372036854775807"}}', "{}"]
    assert DOCUMENTS_FORMAT.encode(DOCUMENTS_FORMAT.decode(texts)) == texts
