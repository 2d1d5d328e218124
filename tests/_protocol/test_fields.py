"""Fields that stand in JSON otherwise than in Python: under another name, in another form, or spelled in many ways."""

from __future__ import annotations

import json

import attrs
import orjson
import pytest
from hypothesis import given, strategies as st

from wxtcb import BadReply, Endpoint, Repeat, Reply, Secret
from wxtcb._protocol.codec import encode_body, read_reply
from wxtcb._protocol.converter import structure_lists_in_slices
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
from wxtcb.errors import InvalidArgument
from wxtcb.secret import redact

PATH = "/tcb/scale"
SHOUT = WireFormat("shout", str.upper, lambda text: text.lower())


@attrs.frozen(kw_only=True)
class Rule:
    """An object inside."""

    min_num: int = attrs.field(metadata=wire_name("minnum"))
    password: Secret | None = None


@attrs.frozen(kw_only=True)
class Scale(Reply):
    """A class with every kind of spelling, as a request and as a reply."""

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
    """Return the JSON that a value becomes."""
    return orjson.loads(encode_body({"value": value}, endpoint=PATH).data)["value"]


def read(**fields):
    """Read a reply that holds *fields* and a name."""
    return read_reply(SCALE, orjson.dumps({"server_name": "s"} | fields))


def test_a_field_goes_out_under_its_name_in_json():
    """At the top, in an object inside and in JSON that is a text."""
    value = sent(Scale(service_name="s", port=80, rule=Rule(min_num=1), rules=[Rule(min_num=2)], cry="ah"))
    assert value.pop("rule") == '{"minnum":1}'
    assert value.pop("rules") == '[{"minnum":2}]'
    assert value == {"server_name": "s", "cpu": "0.25", "Port": "80", "Status": "", "cry": "AH"}


def test_a_field_comes_back_from_its_name_in_json():
    """The name in Python is no name in JSON."""
    made = read(Port="80", rule='{"minnum": 1}', rules='[{"minnum": 2}]', cry="AH", service_name="other", cpu="2")
    assert made == Scale(service_name="s", cpu=2, port=80, rule=Rule(min_num=1), rules=(Rule(min_num=2),), cry="ah")


@pytest.mark.parametrize("name", ["region", "regoin", "Region"])
def test_a_reply_may_spell_a_field_in_all_its_ways(name):
    """What is read is the same."""
    assert read(**{name: "ap-shanghai"}).region == "ap-shanghai"


def test_the_right_spelling_goes_before_the_others():
    """Where a reply has both."""
    assert read(regoin="wrong", region="right").region == "right"
    assert read(state="old", Status="new").status == "new"
    assert read(state="old").status == "old"


def test_a_text_that_repeats_is_kept_once():
    """A thousand entries with one status hold one text; a value of another kind is refused as ever."""
    assert read(Status="RUN" + "NING").status is read(Status="RUNN" + "ING").status
    assert isinstance(read(Status=5), BadReply)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Port": 80}, "expected number in a text @ $.Port"),
        ({"Port": "eighty"}, "@ $.Port"),
        ({"Port": "8.5"}, "expected int | None @ $.Port"),
        ({"cpu": 2}, "expected number in a text @ $.cpu"),
        *(({"cpu": text}, "@ $.cpu") for text in ("nan", "-inf", "1e400", "1_000", "")),
        ({"rule": {"minnum": 1}}, "expected JSON in a text @ $.rule"),
        ({"rule": "{"}, "@ $.rule"),
        ({"rule": '{"minnum": "1"}'}, "expected int @ $.rule.minnum"),
        ({"rules": '[{"minnum": 1}, {}]'}, "required field missing @ $.rules[1].minnum"),
    ],
)
def test_what_is_not_in_its_form_is_refused_by_its_place(fields, told):
    """With the name of the form, and the path inside the text."""
    refused = read(**fields)
    assert isinstance(refused, BadReply)
    assert told in refused.reason


def test_a_field_that_is_missing_is_named_as_in_json():
    """Who looks for it looks in the reply."""
    refused = read_reply(SCALE, b"{}")
    assert "required field missing @ $.server_name" in refused.reason


def test_a_null_in_a_form_is_the_default():
    """As it is without one."""
    assert (read(cpu=None).cpu, read(Port=None).port) == (0.25, None)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_an_empty_text_holds_no_json(text):
    """It is None where that may be."""
    assert read(rule=text).rule is None


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(-(2**53), 2**53))
def test_a_number_in_a_text_is_the_same_number_again(number):
    """Written in full, for the platform reads no exponents."""
    text = NUMBER_IN_STRING.encode(number)
    assert NUMBER_IN_STRING.decode(text) == number
    assert set(text) <= set("-.0123456789")


def test_a_secret_in_json_in_a_text_is_known_as_it_stands_there():
    """It is blotted out of what comes back, plain or escaped once and twice."""
    password = 'pa"ss\\word'
    body = encode_body(
        {"value": Scale(service_name="s", rule=Rule(min_num=1, password=Secret(password)))}, endpoint=PATH
    )
    once = orjson.loads(body.data)["value"]["rule"]
    for echo in (password, once, json.dumps(once)):
        hidden = redact(echo, *body.secrets)
        assert "***" in hidden
        assert "ss" not in hidden.replace("password", "")


def test_the_name_in_json_is_that_in_python_unless_told_otherwise():
    """What the metadata says."""
    names = {field.name: wire_name_of(field) for field in attrs.fields(Scale)}
    assert (names["service_name"], names["cpu"], names["status"]) == ("server_name", "cpu", "Status")


def test_a_value_that_has_no_place_in_json_is_refused_inside_a_text_too():
    """Before anything is sent."""
    with pytest.raises(InvalidArgument, match="JSON has no nan"):
        sent(Scale(service_name="s", cpu=float("nan")))


def test_a_long_list_in_json_in_a_text_is_no_list_to_be_read_ahead():
    """In the reply it is a text."""
    assert list(structure_lists_in_slices(Scale, {"server_name": "s", "rules": [{"minnum": 1}] * 3})) == []


def test_a_note_on_what_a_class_of_ones_own_raises_is_let_be():
    """Only the names of fields are put right."""

    def refuse(value):
        error = ValueError("no")
        error.add_note("a note of its own")
        raise error

    @attrs.frozen
    class Picky(Reply):
        name: str = attrs.field(metadata=wire_name("Name") | wire_format(WireFormat("picky", str, refuse)))

    refused = read_reply(Endpoint(PATH, Picky, Repeat.READ), b'{"Name": "x"}')
    assert isinstance(refused, BadReply)
    assert "@ $.Name" in refused.reason
