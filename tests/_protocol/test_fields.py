"""Field metadata: wire names, aliases, wire formats and interned strings."""

from __future__ import annotations

import json

import attrs
import orjson
import pytest
from hypothesis import example, given, strategies as st

from wxtcb import BadReply, Endpoint, Repeat, Reply, Secret
from wxtcb._protocol.codec import encode_body, read_reply
from wxtcb._protocol.fields import (
    JSON_IN_STRING,
    NUMBER_IN_STRING,
    WireFormat,
    aliases,
    interned,
    wire_format,
    wire_name,
    wire_name_of,
)
from wxtcb._protocol.structuring import structure_lists_in_slices
from wxtcb.errors import InvalidArgument
from wxtcb.secret import redact

PATH = "/tcb/scale"
SHOUT = WireFormat("shout", str.upper, lambda text: text.lower())


@attrs.frozen(kw_only=True)
class Rule:
    """A nested object."""

    min_num: int = attrs.field(metadata=wire_name("minnum"))
    password: Secret | None = None


@attrs.frozen(kw_only=True)
class Scale(Reply):
    """A class with every kind of metadata, as a request and as a reply."""

    service_name: str = attrs.field(metadata=wire_name("server_name"))
    cpu: float = attrs.field(default=0.25, metadata=wire_format(NUMBER_IN_STRING))
    port: int | None = attrs.field(default=None, metadata=wire_name("Port") | wire_format(NUMBER_IN_STRING))
    rule: Rule | None = attrs.field(default=None, metadata=wire_format(JSON_IN_STRING))
    rules: tuple[Rule, ...] = attrs.field(default=(), metadata=wire_format(JSON_IN_STRING))
    region: str | None = attrs.field(default=None, metadata=aliases("regoin", "Region"))
    status: str = attrs.field(default="", metadata=wire_name("Status") | aliases("state") | interned())
    cry: str | None = attrs.field(default=None, metadata=wire_format(SHOUT))


SCALE = Endpoint(PATH, Scale, Repeat.READ)


def sent(value):
    """Return the JSON of *value* in a request."""
    return orjson.loads(encode_body({"value": value}, endpoint=PATH).data)["value"]


def read(**fields):
    """Read a reply with *fields* and a name."""
    return read_reply(SCALE, orjson.dumps({"server_name": "s"} | fields))


def test_field_is_sent_under_its_wire_name():
    """This applies at the top level, in a nested object and in JSON inside of a string."""
    value = sent(Scale(service_name="s", port=80, rule=Rule(min_num=1), rules=[Rule(min_num=2)], cry="ah"))
    assert value.pop("rule") == '{"minnum":1}'
    assert value.pop("rules") == '[{"minnum":2}]'
    assert value == {"server_name": "s", "cpu": "0.25", "Port": "80", "Status": "", "cry": "AH"}


def test_field_is_read_from_its_wire_name():
    """The attribute's name is not read."""
    reply = read(Port="80", rule='{"minnum": 1}', rules='[{"minnum": 2}]', cry="AH", service_name="other", cpu="2")
    assert reply == Scale(service_name="s", cpu=2, port=80, rule=Rule(min_num=1), rules=(Rule(min_num=2),), cry="ah")


@pytest.mark.parametrize("name", ["region", "regoin", "Region"])
def test_field_is_read_from_each_of_its_aliases(name):
    """The result is the same."""
    assert read(**{name: "ap-shanghai"}).region == "ap-shanghai"


def test_documented_name_takes_precedence_over_aliases():
    """A reply may contain both."""
    assert read(regoin="wrong", region="right").region == "right"
    assert read(state="old", Status="new").status == "new"
    assert read(state="old").status == "old"


def test_interned_string_is_stored_once():
    """Equal strings of several replies are one object; a value of another type is still rejected."""
    assert read(Status="RUN" + "NING").status is read(Status="RUNN" + "ING").status
    assert isinstance(read(Status=5), BadReply)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Port": 80}, "expected number in a string @ $.Port"),
        ({"Port": "eighty"}, "@ $.Port"),
        ({"Port": "8.5"}, "expected int | None @ $.Port"),
        ({"cpu": 2}, "expected number in a string @ $.cpu"),
        *(({"cpu": text}, "@ $.cpu") for text in ("nan", "-inf", "1e400", "1_000", "")),
        ({"rule": {"minnum": 1}}, "expected JSON in a string @ $.rule"),
        ({"rule": "{"}, "@ $.rule"),
        ({"rule": '{"minnum": "1"}'}, "expected int @ $.rule.minnum"),
        ({"rules": '[{"minnum": 1}, {}]'}, "required field missing @ $.rules[1].minnum"),
    ],
)
def test_value_in_another_format_is_rejected_with_its_path(fields, words):
    """The message contains the name of the format, and the path also inside of the string."""
    error = read(**fields)
    assert isinstance(error, BadReply)
    assert words in error.reason


def test_missing_field_is_named_by_its_wire_name():
    """This is the name that is missing in the response."""
    error = read_reply(SCALE, b"{}")
    assert "required field missing @ $.server_name" in error.reason


def test_null_in_a_wire_format_is_the_default():
    """This is the same as without a wire format."""
    assert (read(cpu=None).cpu, read(Port=None).port) == (0.25, None)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_empty_string_instead_of_json_is_none(text):
    """An optional field accepts it."""
    assert read(rule=text).rule is None


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(-(2**53), 2**53))
@example(2**-24)  # a tie: the digits of its exact value round to another number
def test_number_in_a_string_is_read_back_unchanged(number):
    """It is written without an exponent, which the platform does not read."""
    text = NUMBER_IN_STRING.encode(number)
    assert NUMBER_IN_STRING.decode(text) == number
    assert set(text) <= set("-.0123456789")


def test_secret_in_json_in_a_string_is_redacted_in_every_encoding():
    """It is found plain, escaped once and escaped twice."""
    password = 'pa"ss\\word'
    body = encode_body(
        {"value": Scale(service_name="s", rule=Rule(min_num=1, password=Secret(password)))}, endpoint=PATH
    )
    once = orjson.loads(body.data)["value"]["rule"]
    for echo in (password, once, json.dumps(once)):
        redacted = redact(echo, *body.secrets)
        assert "***" in redacted
        assert "ss" not in redacted.replace("password", "")


def test_wire_name_defaults_to_the_attribute():
    """Metadata may override it."""
    names = {field.name: wire_name_of(field) for field in attrs.fields(Scale)}
    assert (names["service_name"], names["cpu"], names["status"]) == ("server_name", "cpu", "Status")


def test_value_that_json_cannot_represent_is_rejected_inside_a_string():
    """No request is sent."""
    with pytest.raises(InvalidArgument, match="JSON has no nan"):
        sent(Scale(service_name="s", cpu=float("nan")))


def test_list_in_json_in_a_string_is_not_structured_in_slices():
    """In the response it is a string."""
    assert list(structure_lists_in_slices(Scale, {"server_name": "s", "rules": [{"minnum": 1}] * 3})) == []


def test_notes_of_other_exceptions_are_not_changed():
    """Only cattrs' notes with attribute names are rewritten."""

    def fail(value):
        error = ValueError("no")
        error.add_note("a note of its own")
        raise error

    @attrs.frozen
    class Failing(Reply):
        name: str = attrs.field(metadata=wire_name("Name") | wire_format(WireFormat("failing", str, fail)))

    error = read_reply(Endpoint(PATH, Failing, Repeat.READ), b'{"Name": "x"}')
    assert isinstance(error, BadReply)
    assert "@ $.Name" in error.reason
