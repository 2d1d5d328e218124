"""Codec: requests to bytes, bytes to replies, and what an error may quote."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import traceback
from collections import Counter
from typing import get_args, get_origin
from urllib.parse import quote

import attrs
import cattrs
import orjson
import pytest
from hypothesis import given, settings, strategies as st

import wxtcb
from wxtcb._http.retry import FailureKind, classify
from wxtcb._protocol import codec
from wxtcb._protocol.codec import (
    RequestBody,
    encode_body,
    encode_request,
    excerpt,
    raw,
    read_large_reply,
    read_reply,
)
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import SALVAGE, wire_name_of
from wxtcb._protocol.limits import LIMITS
from wxtcb._protocol.structuring import structure_hook
from wxtcb.api import cloudrun
from wxtcb.api.cloudrun import CREATE_CLOUDBASERUN_SERVER_VERSION
from wxtcb.api.containers import BATCH_CREATE_CS_VERSION
from wxtcb.api.database import DB_RECORD_QUERY
from wxtcb.api.environment import BATCH_GET_ENV_ID, BATCH_SHARE_ENV, CREATE_ENV, DESCRIBE_ENVS, EnvInfo, NewEnv
from wxtcb.api.functions import GET_SCF_LIST, GET_TRIGGERS
from wxtcb.api.storage import BATCH_DELETE_FILE, BATCH_DOWNLOAD_FILE
from wxtcb.api.token import API_COMPONENT_TOKEN, API_START_PUSH_TICKET
from wxtcb.errors import ApiError, BadReply, InvalidAppSecret, InvalidArgument, InvalidRequest, PlatformBusy
from wxtcb.secret import Secret

PATH = "/componenttcb/createenv"
SECRET = Secret("tok/en+with=signs")
GOOD_ENV = {
    "env": "test2-4a89da",
    "alias": "test2",
    "create_time": "2020-04-04 14:10:28",
    "update_time": "2020-04-04 14:10:36",
    "status": "NORMAL",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
INTEGERS = st.integers(-(2**53), 2**53)
SCALARS = TEXTS | INTEGERS | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
OTHER_NAMES = TEXTS.filter(lambda name: name not in {"errcode", "tranid", "env"})
JSONS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)


@attrs.frozen(kw_only=True)
class Inner:
    """A nested object whose field has a default other than None."""

    create_type: int | None = 1
    names: tuple[str, ...] | None = ("a",)


@attrs.frozen(kw_only=True)
class Outer:
    """A body with a field of every type, and names that are irregular on the wire."""

    alias: str | None = None
    EnvType: str | None = None
    regoin: int | None = 0
    is_public: bool | None = False
    weight: float | None = 0.0
    inner: Inner | None = None
    inners: tuple[Inner, ...] | None = ()
    password: Secret | None = None


INNERS = st.builds(Inner, create_type=st.none() | INTEGERS, names=st.none() | st.lists(TEXTS).map(tuple))
OUTERS = st.builds(
    Outer,
    alias=st.none() | TEXTS,
    EnvType=st.none() | TEXTS,
    regoin=st.none() | INTEGERS,
    is_public=st.none() | st.booleans(),
    weight=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    inner=st.none() | INNERS,
    inners=st.none() | st.lists(INNERS).map(tuple),
    password=st.none() | TEXTS.map(Secret),
)


def as_json(value):
    """Return the expected JSON of *value*, without the code under test."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, tuple):
        return [as_json(each) for each in value]
    if isinstance(value, Inner | Outer):
        return {name: as_json(each) for name in value.__annotations__ if (each := getattr(value, name)) is not None}
    return value


def read(reply, *, endpoint=CREATE_ENV, secrets=(SECRET,)):
    """Read a reply, given as bytes or as a JSON value."""
    return read_reply(endpoint, reply if isinstance(reply, bytes) else json.dumps(reply).encode(), secrets)


def listing(**changes):
    """Return a list of one valid environment with *changes*."""
    return {"errcode": 0, "errmsg": "ok", "info_list": [GOOD_ENV | changes]}


def without(name):
    """Return a list of one environment without the field *name*."""
    return {"info_list": [{key: value for key, value in GOOD_ENV.items() if key != name}]}


@settings(deadline=None)
@given(OUTERS)
def test_body_contains_exactly_the_fields_that_are_not_none(body):
    """All other values are sent under their names, including 0, False, "" and defaults."""
    assert orjson.loads(encode_body({"data": body}, endpoint=PATH).data) == {"data": as_json(body)}
    assert orjson.loads(encode_body(attrs.asdict(body, recurse=False), endpoint=PATH).data) == as_json(body)


@pytest.mark.unmeasured
@settings(deadline=None)
@given(st.dictionaries(TEXTS, JSONS, max_size=4))
def test_body_of_json_values_is_sent_unchanged(body):
    """Nested mappings, lists and scalars are written as they are."""
    assert orjson.loads(encode_body(body, endpoint=PATH).data) == body


@pytest.mark.parametrize("value", [0, False, "", 0.0, [], {}, 1, "None"], ids=repr)
def test_empty_value_is_sent(value):
    """Only None is left out."""
    assert orjson.loads(encode_body({"a": value, "b": None}, endpoint=PATH).data) == {"a": value}


def test_fields_are_sent_in_order():
    """The order of the mapping is preserved."""
    assert encode_body({"b": 1, "a": "é"}, endpoint=PATH).data == '{"b":1,"a":"é"}'.encode()


def test_value_equal_to_its_default_is_sent():
    """A default other than None is sent too."""
    body = encode_body({"vpc_info": Inner(create_type=1)}, endpoint=PATH)
    assert orjson.loads(body.data) == {"vpc_info": {"create_type": 1, "names": ["a"]}}


def test_nested_none_is_not_sent():
    """None in nested objects and mappings is left out too."""
    body = {"a": {"b": None, "c": [{"d": None}]}, "e": Inner(create_type=None, names=None)}
    assert orjson.loads(encode_body(body, endpoint=PATH).data) == {"a": {"c": [{}]}, "e": {}}


def test_none_in_a_list_is_rejected():
    """An entry cannot be left out, because the following entries would move."""
    with pytest.raises(InvalidArgument, match="list contains None"):
        encode_body({"a": [1, None, 3]}, endpoint=PATH)


def test_empty_body_is_an_empty_object():
    """A call without parameters sends ``{}``, because the platform rejects an empty body."""
    assert encode_body({}, endpoint=PATH).data == b"{}"


def test_bytes_are_sent_unchanged():
    """A body of bytes is not parsed."""
    assert encode_body(b"{not json", endpoint=PATH) == RequestBody(b"{not json")


def recursive_body():
    """Return a body that contains itself."""
    body = {}
    body["self"] = body
    return body


@dataclasses.dataclass
class Data:
    """A dataclass, whose None orjson would write as null."""

    alias: str | None = None


INVALID_BODIES = {
    "nan": {"a": float("nan")},
    "inf": {"a": [float("inf")]},
    "-inf": {"a": {"b": -float("inf")}},
    "past 64 bits": {"a": 2**64},
    "bytes": {"a": b"bytes"},
    "set": {"a": {"b"}},
    "object": {"a": object()},
    "number as inner key": {"a": {1: 2}},
    "half a surrogate pair": {"a": "\ud800"},
    "dataclass": {"a": Data()},
    "number as key": {1: 2},
    "list": [("a", 1)],
    "text": "alias",
    "None": None,
    "recursive": recursive_body(),
}


@pytest.mark.parametrize("body", INVALID_BODIES.values(), ids=INVALID_BODIES)
def test_body_that_json_cannot_represent_is_rejected(body):
    """The error names the path and has no context, whose frames could contain secrets."""
    with pytest.raises(InvalidArgument, match=f"^{PATH}: the body ") as caught:
        encode_body(body, endpoint=PATH)
    assert caught.value.__context__ is None


@settings(deadline=None)
@given(OUTERS)
def test_secret_is_sent_and_collected(body):
    """The value of a secret is sent, and the secret is collected for the redaction of the response."""
    encoded = encode_body({"data": body}, endpoint=PATH)
    assert encoded.secrets == (() if body.password is None else (body.password,))


def test_repr_of_a_body_shows_only_its_size():
    """Neither the bytes nor the secrets of a body are shown."""
    encoded = encode_body({"password": Secret("hunter2")}, endpoint=PATH)
    assert repr(encoded) == "<body of 22 bytes>"


def test_error_of_a_rejected_body_shows_no_secret_in_its_frames():
    """The traceback with locals contains no value of a secret."""
    with pytest.raises(InvalidArgument) as caught:
        encode_body({"password": Secret("hunter2"), "remark": "\ud800"}, endpoint=PATH)
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    library = text[text.rindex("codec.py") :]
    assert "hunter2" not in library
    assert "body = " in library


def test_reply_is_an_instance_of_its_class():
    """The envelope, errcode and errmsg, is not part of it."""
    reply = read({"errcode": 0, "errmsg": "ok", "tranid": "20201030189770", "env": "e-1"})
    assert reply == NewEnv(tranid="20201030189770", env="e-1")


def test_reply_without_errcode_is_a_success():
    """The response of the token call has no errcode."""
    reply = read({"component_access_token": "t", "expires_in": 7200}, endpoint=API_COMPONENT_TOKEN)
    assert (reply.component_access_token.reveal(), reply.expires_in) == ("t", 7200)


def test_byte_order_mark_is_skipped():
    """`raw` skips it too."""
    reply = read(b"\xef\xbb\xbf" + json.dumps({"tranid": "t", "env": "e"}).encode())
    assert reply == NewEnv(tranid="t", env="e")
    assert raw(reply) == {"tranid": "t", "env": "e"}


@pytest.mark.unmeasured
@settings(deadline=None)
@given(st.dictionaries(OTHER_NAMES, JSONS | st.none(), max_size=4))
def test_unknown_fields_are_ignored(extra):
    """Only the known fields are read."""
    assert read({**extra, "tranid": "t", "env": "e"}) == NewEnv(tranid="t", env="e")


def test_optional_fields_may_be_missing_or_null():
    """Optional fields of an environment are None."""
    reply = read(listing(package_id=None, bucket_id="b"), endpoint=DESCRIBE_ENVS)
    [info] = reply.info_list
    assert info == EnvInfo(**GOOD_ENV, bucket_id="b")
    assert (info.package_id, info.dbinstance_id) == (None, None)


@pytest.mark.parametrize("fields", [{"err_list": None, "msg_info_list": None}, {"err_list": []}, {}], ids=repr)
def test_null_or_missing_list_is_empty(fields):
    """The platform writes an empty list in three ways."""
    reply = read({"errcode": 0, **fields}, endpoint=BATCH_SHARE_ENV)
    assert (reply.err_list, reply.msg_info_list, list(reply.failed)) == ((), (), [])


@pytest.mark.parametrize(
    ("endpoint", "fields", "name"),
    [
        (DESCRIBE_ENVS, {}, "info_list"),
        (BATCH_GET_ENV_ID, {}, "relation_data"),
        (GET_SCF_LIST, {"total_count": 0}, "functions"),
        (GET_TRIGGERS, {"total_count": 0}, "triggers"),
        (BATCH_DELETE_FILE, {}, "delete_list"),
        (BATCH_DOWNLOAD_FILE, {}, "file_list"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_null_list_is_empty_and_an_absent_one_is_an_error(endpoint, fields, name):
    """A Go program writes an empty list as null. An absent list would suggest that an environment does not exist."""
    assert not getattr(read({"errcode": 0, **fields, name: None}, endpoint=endpoint), name)
    error = read({"errcode": 0, **fields}, endpoint=endpoint)
    assert isinstance(error, BadReply)
    assert f"$.{name}" in str(error)


def test_every_list_of_every_reply_accepts_null():
    """The rule holds for lists inside of lists as well."""
    for endpoint in wxtcb.endpoints():
        for cls in classes_of(endpoint.reply):
            for field in attrs.fields(cls):
                if get_origin(field.type) is tuple and field.metadata.get(SALVAGE) is None:
                    assert accepts_null(cls, field), (cls, field.name)


def classes_of(cls):
    """Return *cls* and the attrs classes in its fields."""
    attrs.resolve_types(cls)
    inner = {each for field in attrs.fields(cls) for type_ in (field.type, *get_args(field.type)) for each in [type_]}
    nested = {each for each in inner if isinstance(each, type) and attrs.has(each)}
    return {cls}.union(*map(classes_of, nested))


def accepts_null(cls, field):
    """Return whether a null in *field* is no error; errors of other fields do not count."""
    try:
        structure_hook(cls)({wire_name_of(field): None}, cls)
    except cattrs.ClassValidationError as error:
        return not any(f"$.{wire_name_of(field)}" in line for line in cattrs.transform_error(error))
    return True


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ({"env": "e-odd", "status": "NORMAL"}, EnvInfo(env="e-odd", alias="", status="NORMAL")),
        ({"env": "e-odd", "alias": None}, EnvInfo(env="e-odd", alias="", status="")),
        ({"env": "e-odd", "alias": 5, "status": "NORMAL"}, EnvInfo(env="e-odd", alias="", status="NORMAL")),
        ({"env": "e-odd", "alias": "odd", "status": 5}, EnvInfo(env="e-odd", alias="odd", status="")),
        ({"alias": "odd"}, None),
        ({"alias": "odd", "env": "", "status": 5}, None),
        ({"env": 5}, None),
        ("text", None),
        (None, None),
    ],
    ids=str,
)
def test_odd_row_does_not_hide_the_other_environments(row, kept, size):
    """It is kept with what it has, and reported; this holds for a list that is read in slices, too."""
    rows = [GOOD_ENV | {"env": f"e-{number}"} for number in range(size)]
    rows.insert(1, row)
    data = json.dumps({"errcode": 0, "info_list": rows}).encode()
    for reply in (read_reply(DESCRIBE_ENVS, data), asyncio.run(read_large_reply(DESCRIBE_ENVS, data))):
        assert len(reply.info_list) == size + (kept is not None)
        assert reply.by_env.get("e-odd") == kept
        (report,) = reply.unreadable
        assert "$.info_list[1]" in report.reason
        known = report.env is not None
        assert reply.unknown_rows() == (() if known and report.alias is not None else (report,))
        assert reply.unknown_rows({report.env}) == (() if known else (report,))


@pytest.mark.parametrize(
    ("row", "alias"),
    [({"alias": None}, ""), ({}, ""), ({"alias": 5}, None), ({"alias": ["a"]}, None), ({"alias": "a"}, "a")],
    ids=str,
)
def test_null_or_absent_alias_is_no_alias(row, alias):
    """An environment that was made in the console may have none; only a value of another type is unknown."""
    rows = [GOOD_ENV, {"env": "e-odd", "status": 5, **row}]
    (report,) = read({"info_list": rows}, endpoint=DESCRIBE_ENVS).unreadable
    assert report.alias == alias


@pytest.mark.parametrize(
    ("rows", "unknown"), [([{}], 1), ([{}, {}], 2), ([{"alias": None}], 0), ([{"alias": ""}, {}], 0)]
)
def test_list_in_which_no_row_has_the_field_alias_proves_nothing(rows, unknown):
    """The platform may have renamed the field, and each alias would count as free."""
    rows = [{"env": f"e-{number}", "status": "NORMAL", **row} for number, row in enumerate(rows)]
    reply = read({"info_list": rows}, endpoint=DESCRIBE_ENVS)
    assert len(reply.unknown_rows()) == unknown
    assert len(reply.unknown_rows({"e-0"})) == max(unknown - 1, 0)


def test_row_needs_only_env_alias_and_status():
    """The times are printed and nothing else, so a list without them is read."""
    reply = read({"info_list": [{"env": "e-1", "alias": "a", "status": "NORMAL"}]}, endpoint=DESCRIBE_ENVS)
    assert reply.info_list == (EnvInfo(env="e-1", alias="a", status="NORMAL"),)
    assert reply.unreadable == ()


def test_share_failure_without_its_environment_is_read():
    """The links of the other administrators are not lost."""
    fields = {"err_list": [{"appid": "wx1", "errmsg": "no"}], "msg_info_list": [{"appid": "wx2", "url": "https://x"}]}
    reply = read({"errcode": 0, **fields}, endpoint=BATCH_SHARE_ENV)
    assert [each.env for each in reply.failed] == [None]
    assert [link.url for link in reply.msg_info_list] == ["https://x"]


@attrs.frozen
class Unreadable(Reply):
    """A reply class with a field of a type that JSON cannot represent."""

    when: complex


def test_reply_class_that_cannot_be_read_is_rejected():
    """The error is raised before a request is sent."""
    with pytest.raises(InvalidArgument, match="Unreadable cannot be read"):
        encode_request(Endpoint(PATH, Unreadable, Repeat.ONCE), {})


def test_exception_of_a_reply_class_is_a_permanent_bad_reply():
    """The request was sent, and a retry would give the same result."""

    @attrs.frozen
    class Broken(Reply):
        env: str = attrs.field(validator=lambda *_: 1 / 0)

    error = read({"env": "e"}, endpoint=Endpoint(PATH, Broken, Repeat.ONCE))
    assert isinstance(error, BadReply)
    assert error.permanent


def test_new_environment_with_an_empty_id_is_a_bad_reply():
    """An empty string is not the id of an environment."""
    assert isinstance(read({"tranid": "t", "env": ""}), BadReply)


def test_misspelt_update_time_is_accepted():
    """`update_ime`, as one of WeChat's pages has it, is read if `update_time` is missing."""
    reply = read(
        {"info_list": [without("update_time")["info_list"][0] | {"update_ime": "then"}]}, endpoint=DESCRIBE_ENVS
    )
    assert reply.info_list[0].update_time == "then"


def test_documented_name_takes_precedence():
    """If both names are present, the documented one is read."""
    assert read(listing(update_ime="typo"), endpoint=DESCRIBE_ENVS).info_list[0].update_time == GOOD_ENV["update_time"]


@attrs.frozen
class Numbers(Reply):
    """A reply with numbers and a bool."""

    ratio: float
    count: int
    flag: bool


NUMBERS = Endpoint("/n", Numbers, Repeat.READ)


@pytest.mark.parametrize("ratio", [1, 1.5, 0])
def test_integer_is_accepted_for_a_float(ratio):
    """JSON does not distinguish 1 from 1.0."""
    assert read({"ratio": ratio, "count": 1, "flag": True}, endpoint=NUMBERS).ratio == ratio


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", True),
        ("ratio", "1"),
        ("ratio", None),
        ("count", 1.0),
        ("count", "1"),
        ("count", True),
        ("count", None),
        ("count", 2**64),
        ("flag", 1),
        ("flag", "true"),
        ("flag", None),
    ],
)
def test_value_of_another_type_is_a_bad_reply(name, value):
    """No value is converted: "1" is not a number, 1 is not a bool, and 2**64 is not an integer of JSON."""
    reply = read({"ratio": 1.0, "count": 1, "flag": True} | {name: value}, endpoint=NUMBERS)
    assert isinstance(reply, BadReply)
    assert f"@ $.{name}" in str(reply)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (without("env"), "required field missing @ $.info_list[0].env"),
        ({"errcode": 0}, "required field missing @ $.info_list"),
        (listing(env=None), "expected str @ $.info_list[0].env"),
        (listing(env=12), "expected str @ $.info_list[0].env"),
        ({"info_list": {}}, "@ $.info_list"),
        ({"info_list": "text"}, "@ $.info_list"),
        ({"info_list": [None]}, "@ $.info_list[0]"),
        ({"info_list": ["text"]}, "@ $.info_list[0]"),
        ({"info_list": [[]]}, "@ $.info_list[0]"),
    ],
)
def test_reply_of_another_shape_is_a_permanent_bad_reply(reply, words):
    """The message contains the path of the invalid value."""
    error = read(reply, endpoint=DESCRIBE_ENVS)
    assert isinstance(error, BadReply)
    assert words in str(error)
    assert (error.status, error.permanent, error.endpoint) == (200, True, DESCRIBE_ENVS.path)


@pytest.mark.parametrize("value", [None, "", 5, ["t"]], ids=repr)
def test_invalid_token_value_is_a_bad_reply(value):
    """A token is a non-empty string."""
    reply = read({"component_access_token": value, "expires_in": 1}, endpoint=API_COMPONENT_TOKEN)
    assert isinstance(reply, BadReply)


MALFORMED = {
    "empty": (b"", "the reply is empty"),
    "html": (b"<html><head><title>Bad\n Gateway</title></head></html>", "the reply is not JSON (line 1, column 1): 53"),
    "truncated": (b'{"tranid": "t", "env": ', "the reply is not JSON (line 1, column 24): 23 bytes."),
    "list": (b"[]", "a JSON list, not an object"),
    "null": (b"null", "not an object"),
    "text": (b'"ok"', "a JSON str, not an object"),
    "number": (b"0", "a JSON int, not an object"),
    "errcode text": (b'{"errcode": "0"}', "errcode is not an integer"),
    "errcode true": (b'{"errcode": true}', "errcode is not an integer"),
    "errcode false": (b'{"errcode": false}', "errcode is not an integer"),
    "errcode null": (b'{"errcode": null}', "errcode is not an integer"),
    "errcode float": (b'{"errcode": 0.0}', "errcode is not an integer"),
    "errcode past 64 bits": (b'{"errcode": 99999999999999999999}', "errcode is not an integer"),
    "deep and cut": (b'{"a":' * 5000, "the reply is not JSON"),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "the reply is not JSON"),
    "bad utf-8 inside": (b'{"env": "\xff\xfe"}', "the reply is not JSON"),
    "bad utf-8": (b"\xff\xfe", "the reply is not JSON"),
    "half a surrogate pair": (b'{"env": "\\ud800"}', "the reply is not JSON"),
    "NaN": (b'{"env": NaN}', "the reply is not JSON"),
}


@pytest.mark.parametrize(("reply", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_response_is_a_bad_reply_that_may_be_retried(reply, words):
    """An empty, truncated or non-object response is a `BadReply` with status 200, and counts as a lost reply."""
    error = read(reply)
    assert isinstance(error, BadReply)
    assert words in str(error)
    assert (error.status, error.permanent) == (200, False)
    assert classify(error) is FailureKind.REPLY_LOST
    assert len(str(error)) < 300


@settings(deadline=None)
@given(st.binary() | JSONS.map(orjson.dumps))
def test_any_bytes_are_a_reply_or_an_error(reply):
    """No bytes make `read_reply` raise."""
    assert isinstance(read(reply), NewEnv | ApiError | BadReply)


DAMAGED = {
    "whole": b'{"component_access_token": "fresh-token", "expires_in": null}',
    "wrong type": b'{"component_access_token": ["fresh-token"], "expires_in": 1}',
    "as a key": b'{"component_access_token": {"fresh-token": 1}, "expires_in": 1}',
    "errcode": b'{"errcode": "0", "component_access_token": "fresh-token"}',
    "list": b'[{"component_access_token": "fresh-token"}]',
    "text": b'"fresh-token"',
    "cut short": b'{"component_access_token": "fresh-token", "expi',
    "spaces first": b' \r\n\t{"component_access_token": "fresh-token", "expi',
    "mark first": b'\xef\xbb\xbf{"component_access_token": "fresh-token", "expi',
    "mark and spaces first": b'\xef\xbb\xbf\n {"component_access_token": "fresh-token", "expi',
    "list cut short": b'[{"component_access_token": "fresh-token"',
    "two in one": b'{"component_access_token": "fresh-token"}{"a": 1}',
    "bad utf-8": b'{"component_access_token": "fresh-token", "a": "\xff"}',
}


@pytest.mark.parametrize("reply", DAMAGED.values(), ids=DAMAGED)
def test_error_of_a_damaged_token_reply_shows_no_token(reply):
    """Neither the message nor an attribute nor the context contains the new token."""
    error = read(reply, endpoint=API_COMPONENT_TOKEN)
    assert isinstance(error, BadReply)
    assert "fresh-token" not in f"{error} {error!r} {vars(error)}"
    assert error.__context__ is None
    assert error.__cause__ is None


@given(st.integers(0, 10_000), st.sampled_from([b"", b"\xef\xbb\xbf", b"\n "]))
def test_error_of_a_truncated_token_reply_shows_no_part_of_the_token(cut, before):
    """The reply may be truncated at any byte."""
    token = "0123456789abcdef" * 4
    whole = before + json.dumps({"component_access_token": token, "expires_in": 7200}).encode()
    error = read(whole[: cut % len(whole)], endpoint=API_COMPONENT_TOKEN)
    assert isinstance(error, BadReply)
    assert "0123" not in str(error)


def test_errcode_is_an_error_of_its_class():
    """The error has errcode, errmsg, the rid in it, and the path."""
    error = read({"errcode": 40097, "errmsg": "invalid args rid: 5f9a-3c_b"})
    assert type(error) is InvalidRequest
    assert (error.errcode, error.rid, error.endpoint) == (40097, "5f9a-3c", PATH)
    assert error.errmsg == "invalid args rid: 5f9a-3c_b"


@pytest.mark.parametrize(
    ("errmsg", "rid"),
    [
        ("system error rid: 6123a-b45C", "6123a-b45C"),
        ("system error rid:6123", "6123"),
        ("hint: [x] rid: 61-2.", "61-2"),
        ("invalid credential, access_token is invalid hint: [Ke0a1234vr30!]", "Ke0a1234vr30!"),
        ("access_token expired hints: [ req_id: uEea0123-a ]", "uEea0123-a"),
        ("x" * 5000 + " rid: 61-2", "61-2"),
        ("hint: []", None),
        ("rid: 1", "1"),
        ("no id", None),
        ("grid: 12", None),
        ("rid: ", None),
        ("", None),
    ],
)
def test_rid_is_read_from_errmsg(errmsg, rid):
    """It has three forms, the documented one first, and is found behind an errmsg that is cut off."""
    assert read({"errcode": -1, "errmsg": errmsg}).rid == rid


@pytest.mark.parametrize("errmsg", [None, 5, ["text"], {}], ids=repr)
def test_errmsg_of_another_type_is_ignored(errmsg):
    """The errcode alone determines the error."""
    error = read({"errcode": -1, "errmsg": errmsg})
    assert type(error) is PlatformBusy
    assert (error.errmsg, error.rid) == ("", None)


def test_errcode_takes_precedence_over_other_fields():
    """A response with an errcode is a failure, even with all fields of a success."""
    assert type(read({"errcode": -1, "tranid": "t", "env": "e"})) is PlatformBusy


@pytest.mark.parametrize("code", [40001, 40125])
def test_invalid_credential_of_the_token_call_is_the_app_secret(code):
    """That call sends no token."""
    assert type(read({"errcode": code, "errmsg": ""}, endpoint=API_COMPONENT_TOKEN)) is InvalidAppSecret


@pytest.mark.parametrize("written", [SECRET.reveal(), quote(SECRET.reveal(), safe=""), quote(SECRET.reveal())])
def test_secret_that_the_response_echoes_is_redacted(written):
    """In errmsg it is replaced, plain or percent-encoded; a page that may contain it is not quoted."""
    message = read({"errcode": 40013, "errmsg": f"bad token {written}!"})
    page = read(f"<p>GET /?access_token={written} failed</p>".encode())
    assert "***" in str(message)
    for error in (message, page):
        assert "en+with" not in f"{error} {vars(error)}"
        assert "en%2Bwith" not in f"{error} {vars(error)}"


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="*%<>"), min_size=8))
def test_excerpt_never_contains_a_secret_of_the_call(secret):
    """The secret may consist of any characters, and the excerpt may end in the middle of it."""
    page = ("x" * 110 + secret + " and " + secret).encode()
    assert secret[:8] not in excerpt(CREATE_ENV, page, (Secret(secret),))


def test_excerpt_is_short_and_without_tags():
    """It consists of the size and 120 characters of the text."""
    page = excerpt(CREATE_ENV, b"<html>\n<body>\n<h1>502</h1>   Bad" + b"x" * 100_000 + b"</body>", ())
    assert page == f"100039 bytes, '502 Bad{'x' * 113}'"


def test_excerpt_of_another_encoding_has_replacement_characters():
    """Bytes that are not UTF-8 do not raise."""
    assert excerpt(CREATE_ENV, "坏".encode("gb18030") + b" gateway", ()).endswith(" gateway'")


def test_raw_returns_the_json_of_a_reply():
    """It includes the fields that wxtcb does not know."""
    reply = read({"errcode": 0, "errmsg": "in a normal state", "new": [1]}, endpoint=API_START_PUSH_TICKET)
    assert reply == Done()
    assert wxtcb.raw(reply) == {"errcode": 0, "errmsg": "in a normal state", "new": [1]}


def test_raw_of_a_token_is_rejected():
    """A reply with a secret does not store its JSON."""
    reply = read({"component_access_token": "t", "expires_in": 1}, endpoint=API_COMPONENT_TOKEN)
    with pytest.raises(InvalidArgument, match="this ComponentToken has no JSON: it contains a secret"):
        wxtcb.raw(reply)


def test_raw_of_a_reply_that_was_not_read_is_rejected():
    """A reply built in Python has no JSON."""
    with pytest.raises(InvalidArgument, match="this Done was not read"):
        wxtcb.raw(Done())


def test_nested_secret_is_redacted_in_the_response():
    """A secret inside of a typed argument is sent, collected, and replaced in errmsg."""
    server = cloudrun.Server(
        env_id="e", service_name="s", is_public=True, es_info=cloudrun.EsInfo(password="hunter2-long")
    )
    body = encode_body(attrs.asdict(server, recurse=False), endpoint=PATH)
    assert orjson.loads(body.data)["es_info"] == {"password": "hunter2-long"}
    error = read({"errcode": 40097, "errmsg": "bad es_info: hunter2-long"}, secrets=body.secrets)
    assert error.errmsg == "bad es_info: ***"
    assert "hunter2" not in repr(server)


def test_page_is_quoted_if_no_escape_can_hide_the_secret():
    """The text of the page is quoted, and a token in it is replaced."""
    page = b"<html><title>Bad\n Gateway</title><p>/?access_token=T0KEN-1</p></html>"
    assert excerpt(CREATE_ENV, page, (Secret("T0KEN-1"),)) == f"{len(page)} bytes, 'Bad Gateway /?access_token=***'"


@pytest.mark.parametrize("value", ['p"w1', "p\\w1", "a/b'c<d>&", "\u5bc6\u7801\n"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_escaped_secret_is_redacted(value, ascii_only):
    """A gateway that quotes the body in errmsg quotes it escaped."""
    echo = json.dumps({"password": value}, ensure_ascii=ascii_only)
    error = read({"errcode": 40097, "errmsg": f"bad body {echo}"}, secrets=(Secret(value),))
    assert error.errmsg == 'bad body {"password": "***"}'


@pytest.mark.parametrize("name", ["errmsg", "errormsg"])
@pytest.mark.parametrize("size", [1, 3000], ids=["small", "large"])
async def test_secret_is_redacted_in_the_reason_of_each_failure(name, size):
    """The platform may quote the request in the reasons of a batch; other fields stay unchanged."""
    entries = [{"env": "p@ss", name: 'bad {"password":"p@ss"}'}, {"env": "f"}] * size
    data = orjson.dumps({"errcode": 0, "fail_list": entries, "succ_list": [{"env": "p@ss"}]})
    read = read_reply(BATCH_CREATE_CS_VERSION, data, (Secret("p@ss"),))
    for reply in (read, await read_large_reply(BATCH_CREATE_CS_VERSION, data, (Secret("p@ss"),))):
        assert [each.errmsg for each in reply.failed] == ['bad {"password":"***"}', None] * size
        assert (reply.failed[0].env, reply.succ_list[0].env) == ("p@ss", "p@ss")


def test_secret_is_redacted_in_a_result_that_is_not_a_success():
    """`result` is the reason of a failure with errcode 0."""
    data = orjson.dumps({"errcode": 0, "result": 'failed: {"KEY":"p@ss"}'})
    reply = read_reply(CREATE_CLOUDBASERUN_SERVER_VERSION, data, (Secret("p@ss"),))
    assert (reply.result, *reply.failed) == ('failed: {"KEY":"***"}',) * 2


NEW = b'{"component_access_token":"NEWTOKEN123","expires_in":7200}'


@pytest.mark.parametrize("page", [b"<pre>" + NEW, b"upstream said: " + NEW, b"\xef\xbb\xbf" * 2 + NEW, b"NEWTOKEN123"])
def test_page_that_may_contain_a_new_token_is_not_quoted(page):
    """A new token is not known yet, so it could not be redacted."""
    error = read(page, endpoint=API_COMPONENT_TOKEN, secrets=())
    assert isinstance(error, BadReply)
    assert "NEWTOKEN" not in str(error)


def test_excerpt_ends_before_a_secret_at_the_cut():
    """The end of the part that is searched may be half a token."""
    token = Secret("T" * 60)
    page = b"<b>" * 1300 + b" " * 440 + b"T" * 60 + b"x" * 10_000
    assert "T" not in excerpt(CREATE_ENV, page, (token,))


READ = Endpoint("/tcb/db", Done, Repeat.READ, action="get")


def test_action_is_added_to_body_and_query():
    """The action is the first field of the body; one that is there already is not repeated."""
    for body in ({"env": "e"}, {"env": "e", "action": "get"}):
        encoded, query = encode_request(READ, body, {"name": "n"})
        assert encoded.data == b'{"action":"get","env":"e"}'
        assert query == {"name": "n", "action": "get"}


def test_request_without_action_has_only_its_query():
    """No query stays None."""
    assert encode_request(DESCRIBE_ENVS, {}) == (RequestBody(b"{}"), None)
    assert encode_request(DESCRIBE_ENVS, b"raw", {"a": "b"}) == (RequestBody(b"raw"), {"a": "b"})


@pytest.mark.parametrize("body", [b'{"action": "insert"}', "{}", None, 5], ids=str)
def test_body_whose_action_cannot_be_checked_is_rejected(body):
    """With bytes, a read could be an insert, which would be sent again after a failure."""
    with pytest.raises(InvalidArgument, match="the body of action 'get' must be a mapping"):
        encode_request(READ, body)


@pytest.mark.parametrize("other", ["insert", None, 5])
def test_another_action_is_rejected(other):
    """The idempotency of a call is that of its action."""
    with pytest.raises(InvalidArgument, match="the body's action must be 'get'"):
        encode_request(READ, {"action": other})


def test_another_action_in_the_query_is_rejected():
    """The platform may read the action from either place."""
    with pytest.raises(InvalidArgument, match="the query's action must be 'get'"):
        encode_request(READ, {}, {"action": "insert"})


def test_errmsg_is_cut_and_shown_on_one_line():
    """20 MB of errmsg do not stay in the exception, and its line breaks forge no line of a log."""
    error = read({"errcode": -1, "errmsg": "busy\r\n2026-11-30 INFO ok\x1b[2J\u202e" + "x" * 20_000})
    assert error.errmsg.isprintable()
    assert "busy\\r\\n2026" in error.errmsg
    assert len(error.errmsg) <= LIMITS.errmsg_length + 1
    assert len(str(error)) < LIMITS.errmsg_length + 300


@pytest.mark.parametrize("length", range(2020, 2060, 3))
def test_secret_at_the_cut_of_an_errmsg_is_redacted(length):
    """No part of 8 or more characters of a secret remains where the errmsg is cut off."""
    secret = "Q7" * 4 + "aB3dE5gH9jK2mN4p"
    error = read({"errcode": -1, "errmsg": "x" * length + secret * 2}, secrets=(Secret(secret),))
    assert secret[:8] not in error.errmsg


def test_part_of_a_secret_in_errmsg_is_redacted():
    """An errmsg that repeats the first half of the token, or both halves, does not show it."""
    token = "86_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abcdefgh"
    error = read({"errcode": 40001, "errmsg": f"bad {token[:25]} {token[25:]}"}, secrets=(Secret(token),))
    assert error.errmsg == "bad *** ***"


def test_short_values_are_kept_in_errmsg():
    """The value "1" of an environment variable does not make the message unreadable."""
    error = read({"errcode": 40097, "errmsg": "argument 1 is invalid rid: 1a-1b"}, secrets=(Secret("1"), Secret("on")))
    assert (error.errmsg, error.rid) == ("argument 1 is invalid rid: 1a-1b", "1a-1b")


@pytest.mark.parametrize("data", [b"{}," * 400_000, b'"a",' * 3_000_000, b"[" * 300_000], ids=["{}", "values", "["])
def test_dense_reply_is_not_decoded(data):
    """31 KB on the wire, which are 31 MB of ``{},``, would take 1 GB of memory."""
    error = read_reply(DESCRIBE_ENVS, b'{"errcode":0,"info_list":[' + data + b"{}]}")
    assert isinstance(error, BadReply)
    assert error.permanent
    assert "more than" in str(error)


def test_dense_large_reply_is_not_decoded_in_slices():
    """The same limit holds where a large reply is read step by step."""
    error = asyncio.run(read_large_reply(DESCRIBE_ENVS, b'{"errcode":0,"info_list":[' + b"{}," * 400_000 + b"{}]}"))
    assert "more than" in str(error)


@pytest.mark.parametrize("text", [", " * 1_100_000, '{[\\"' * 200_000], ids=["commas", "brackets"])
def test_reply_with_much_text_in_records_is_read(text):
    """Commas and brackets in the text of a record take no more memory than other characters."""
    records = [json.dumps({"text": text, "n": 1}), json.dumps({"text": "b"})]
    reply = read_reply(
        DB_RECORD_QUERY,
        json.dumps({"errcode": 0, "pager": {"offset": 0, "limit": 9, "total": 2}, "data": records}).encode(),
    )
    assert [record["text"] for record in reply.documents] == [text, "b"]


@pytest.mark.parametrize(
    "text", ["a,b", r"\\\"", r"\\\\", r"\u0022,\"c\":\""], ids=["plain", "quote", "backslash", "number"]
)
def test_dense_record_is_not_decoded(text):
    """A record is decoded, too, whatever precedes its entries."""
    record = rf"{{\"a\":\"{text}\",\"b\":[{'{},' * 400_000}{{}}]}}"
    json.loads(json.loads(f'"{record}"'))
    error = read_reply(DB_RECORD_QUERY, f'{{"errcode":0,"data":["{record}"]}}'.encode())
    assert "more than 250,000 objects" in str(error)


def count_marks(value):
    """Count brackets and commas in the JSON of *value*, without those in strings."""
    if isinstance(value, str):
        return Counter()
    entries = list(value.values()) if isinstance(value, dict) else value
    return sum(map(count_marks, entries), Counter(containers=1, values=max(len(entries) - 1, 0)))


@given(
    st.lists(
        st.recursive(
            st.text('\\"{[,]}a\0é'),
            lambda each: st.lists(each, max_size=4) | st.dictionaries(st.sampled_from("abc"), each),
            max_leaves=8,
        ).filter(lambda value: not isinstance(value, str))
    ),
    st.integers(1, 9),
)
def test_marks_are_counted_in_json_and_in_json_in_its_strings(records, slice_size):
    """But not in the strings of the latter; where a slice ends makes no difference."""
    expected = sum(map(count_marks, records), count_marks([""] * len(records)))
    data = json.dumps([json.dumps(record) for record in records]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "LARGE_REPLY_BYTES", slice_size)
        assert codec._count_marks_outside_texts(data) == (expected["containers"], expected["values"])


@pytest.mark.parametrize("tranid", [{}, {"tranid": None}, {"tranid": "2020"}, {"tranid": 2020}], ids=str)
def test_create_without_a_textual_order_number_is_read(tranid):
    """The environment is billed, whatever form its order number has."""
    expected = None if tranid.get("tranid") is None else "2020"
    assert read_reply(CREATE_ENV, json.dumps({"errcode": 0, "env": "e-1", **tranid}).encode()) == NewEnv(
        env="e-1", tranid=expected
    )


@pytest.mark.parametrize("errcode", [0, "0", None], ids=repr)
def test_unreadable_reply_of_a_create_is_kept(errcode):
    """It may be the only proof of what was created; secrets in it are redacted."""
    body = {"errcode": errcode, "env": "e-1", "tranid": [1], "note": f"for {SECRET.reveal()}", "a": {"b": ["c", 1]}}
    error = read_reply(CREATE_ENV, json.dumps(body).encode(), (SECRET,))
    assert isinstance(error, BadReply)
    assert error.reply == body | {"note": "for ***"}
    assert SECRET.reveal() not in str(error)


def test_kept_reply_is_bounded():
    """Of a large reply, its short fields are kept; what is nested too deeply is left out."""
    large = {"errcode": 0, "env": "e-1", "tranid": [1], "list": ["x" * 1000] * 100, "text": "y" * 50_000}
    error = read_reply(CREATE_ENV, json.dumps(large).encode())
    assert error.reply == {"errcode": 0, "env": "e-1"}
    deep = b'{"errcode":0,"tranid":[],"a":' + b"[" * 500 + b"]" * 500 + b"}"
    assert len(str(read_reply(CREATE_ENV, deep).reply)) < 200


def test_unreadable_reply_of_a_read_or_with_a_secret_is_not_kept():
    """A read adds nothing, and a reply that contains a new secret cannot be redacted."""
    assert read_reply(DESCRIBE_ENVS, b'{"errcode":0,"info_list":5}').reply is None
    assert read_reply(API_COMPONENT_TOKEN, b'{"component_access_token":5}').reply is None


def test_half_a_token_on_a_page_is_redacted():
    """A proxy that shows the beginning of the request line does not show a part of the token."""
    token = "86_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abcdefgh"
    page = f"<h1>Bad Gateway</h1>POST /componenttcb/createenv?access_token={token[:25]}...".encode()
    assert token[:12] not in excerpt(CREATE_ENV, page, (Secret(token),))


def test_list_with_many_unreadable_rows_is_a_bad_reply():
    """Then the platform has changed its reply; explaining each of 80,000 rows would hold the loop for a second."""
    rows = [GOOD_ENV, *[{"env": f"e-{number}"} for number in range(101)]]
    assert len(read({"info_list": rows[:-1]}, endpoint=DESCRIBE_ENVS).unreadable) == 100
    assert isinstance(read({"info_list": rows}, endpoint=DESCRIBE_ENVS), BadReply)
