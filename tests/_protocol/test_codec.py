"""Bodies to JSON and JSON to replies: what goes out, what comes in, and what an error may quote."""

from __future__ import annotations

import dataclasses
import json
import traceback
from urllib.parse import quote

import attrs
import orjson
import pytest
from hypothesis import given, settings, strategies as st

import wxtcb
from wxtcb._http.retry import FailureKind, classify
from wxtcb._protocol.codec import (
    RequestBody,
    add_action,
    check_reply_class,
    encode_body,
    excerpt,
    raw,
    read_large_reply,
    read_reply,
)
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb.api import cloudrun
from wxtcb.api.cloudrun import CREATE_CLOUDBASERUN_SERVER_VERSION
from wxtcb.api.containers import BATCH_CREATE_CS_VERSION
from wxtcb.api.environment import BATCH_SHARE_ENV, CREATE_ENV, DESCRIBE_ENVS, EnvInfo, NewEnv
from wxtcb.api.token import API_COMPONENT_TOKEN, API_START_PUSH_TICKET
from wxtcb.errors import ApiError, BadReply, InvalidAppSecret, InvalidArgument, InvalidRequest, PlatformBusy
from wxtcb.secret import Secret

PATH = "/componenttcb/createenv"
HIDDEN = Secret("tok/en+with=signs")
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
    """A body with a field of every kind, and names that are irregular on the wire."""

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
    """Say what *value* must be on the wire, spelled out by hand."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, tuple):
        return [as_json(each) for each in value]
    if isinstance(value, Inner | Outer):
        return {name: as_json(each) for name in value.__annotations__ if (each := getattr(value, name)) is not None}
    return value


def read(reply, *, endpoint=CREATE_ENV, hide=(HIDDEN,)):
    """Read a reply given as bytes, or as what JSON is made of."""
    return read_reply(endpoint, reply if isinstance(reply, bytes) else json.dumps(reply).encode(), hide)


def listing(**changes):
    """Make a list of one environment that differs from a good one in *changes*."""
    return {"errcode": 0, "errmsg": "ok", "info_list": [GOOD_ENV | changes]}


def without(name):
    """Make a list of one environment that lacks a field."""
    return {"info_list": [{key: value for key, value in GOOD_ENV.items() if key != name}]}


@settings(deadline=None)
@given(OUTERS)
def test_a_body_goes_out_with_exactly_its_fields_that_are_not_none(body):
    """Whichever fields are None, exactly the others arrive, under their names: also 0, False, "" and the defaults."""
    assert orjson.loads(encode_body({"data": body}, endpoint=PATH).data) == {"data": as_json(body)}
    assert orjson.loads(encode_body(attrs.asdict(body, recurse=False), endpoint=PATH).data) == as_json(body)


@pytest.mark.unmeasured
@settings(deadline=None)
@given(st.dictionaries(TEXTS, JSONS, max_size=4))
def test_a_body_of_plain_values_goes_out_as_it_is(body):
    """Mappings, lists and scalars, however nested, arrive unchanged."""
    assert orjson.loads(encode_body(body, endpoint=PATH).data) == body


@pytest.mark.parametrize("value", [0, False, "", 0.0, [], {}, 1, "None"], ids=repr)
def test_what_is_empty_but_not_none_is_sent(value):
    """Nothing but None is left out."""
    assert orjson.loads(encode_body({"a": value, "b": None}, endpoint=PATH).data) == {"a": value}


def test_a_body_keeps_the_order_of_its_fields():
    """Fields go out in the order given."""
    assert encode_body({"b": 1, "a": "é"}, endpoint=PATH).data == '{"b":1,"a":"é"}'.encode()


def test_a_field_that_equals_its_default_is_sent():
    """A value set explicitly goes out even where it is the default."""
    body = encode_body({"vpc_info": Inner(create_type=1)}, endpoint=PATH)
    assert orjson.loads(body.data) == {"vpc_info": {"create_type": 1, "names": ["a"]}}


def test_none_is_never_sent_from_inside():
    """Nones in nested objects and mappings are left out too."""
    body = {"a": {"b": None, "c": [{"d": None}]}, "e": Inner(create_type=None, names=None)}
    assert orjson.loads(encode_body(body, endpoint=PATH).data) == {"a": {"c": [{}]}, "e": {}}


def test_a_none_in_a_list_is_refused():
    """An entry cannot be left out: the others would move up."""
    with pytest.raises(InvalidArgument, match="a list holds None"):
        encode_body({"a": [1, None, 3]}, endpoint=PATH)


def test_an_empty_body_is_an_empty_object():
    """A call without parameters sends ``{}``, since the platform refuses an empty body."""
    assert encode_body({}, endpoint=PATH).data == b"{}"


def test_bytes_are_sent_as_they_are():
    """A body of the caller's own making is not looked into."""
    assert encode_body(b"{not json", endpoint=PATH) == RequestBody(b"{not json")


def circle():
    """Make a body that holds itself."""
    body = {}
    body["self"] = body
    return body


@dataclasses.dataclass
class Data:
    """Not an attrs class: how its None would be written is not ours to decide."""

    alias: str | None = None


NO_BODIES = {
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
    "circle": circle(),
}


@pytest.mark.parametrize("body", NO_BODIES.values(), ids=NO_BODIES)
def test_what_has_no_place_in_json_is_refused(body):
    """The refusal names the call, and no exception of a library hangs on it."""
    with pytest.raises(InvalidArgument, match=f"^{PATH}: the body ") as refused:
        encode_body(body, endpoint=PATH)
    assert refused.value.__context__ is None


@settings(deadline=None)
@given(OUTERS)
def test_a_secret_goes_out_by_value_and_is_noted(body):
    """The value of a secret is sent, and the secret collected to be blotted out of the answer."""
    made = encode_body({"data": body}, endpoint=PATH)
    assert made.secrets == (() if body.password is None else (body.password,))


def test_the_repr_of_a_body_shows_its_size_alone():
    """Neither the bytes nor the secrets of a body are shown."""
    made = encode_body({"password": Secret("hunter2")}, endpoint=PATH)
    assert repr(made) == "<body of 22 bytes>"


def test_a_body_that_cannot_be_written_shows_no_secret_in_its_frames():
    """Even with locals captured, the traceback of the refusal has no value of a secret in it."""
    with pytest.raises(InvalidArgument) as refused:
        encode_body({"password": Secret("hunter2"), "remark": "\ud800"}, endpoint=PATH)
    story = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    library = story[story.rindex("codec.py") :]
    assert "hunter2" not in library
    assert "body = " in library


def test_a_reply_becomes_its_class():
    """Fields come back typed; errcode and errmsg are not among them."""
    reply = read({"errcode": 0, "errmsg": "ok", "tranid": "20201030189770", "env": "e-1"})
    assert reply == NewEnv(tranid="20201030189770", env="e-1")


def test_a_reply_without_errcode_is_a_success():
    """The token call's answer has no errcode."""
    reply = read({"component_access_token": "t", "expires_in": 7200}, endpoint=API_COMPONENT_TOKEN)
    assert (reply.component_access_token.reveal(), reply.expires_in) == ("t", 7200)


def test_a_byte_order_mark_is_passed_over():
    """A BOM before the JSON does no harm, also to `raw`."""
    reply = read(b"\xef\xbb\xbf" + json.dumps({"tranid": "t", "env": "e"}).encode())
    assert reply == NewEnv(tranid="t", env="e")
    assert raw(reply) == {"tranid": "t", "env": "e"}


@pytest.mark.unmeasured
@settings(deadline=None)
@given(st.dictionaries(OTHER_NAMES, JSONS | st.none(), max_size=4))
def test_unknown_fields_are_ignored(extra):
    """Whatever else the platform sends, the known fields are read."""
    assert read({**extra, "tranid": "t", "env": "e"}) == NewEnv(tranid="t", env="e")


def test_optional_fields_may_be_missing_or_null():
    """The fields of an environment that the pages call optional come back as None."""
    reply = read(listing(package_id=None, bucket_id="b"), endpoint=DESCRIBE_ENVS)
    [info] = reply.info_list
    assert info == EnvInfo(**GOOD_ENV, bucket_id="b")
    assert (info.package_id, info.dbinstance_id) == (None, None)


@pytest.mark.parametrize("fields", [{"err_list": None, "msg_info_list": None}, {"err_list": []}, {}], ids=repr)
def test_a_list_that_is_null_or_missing_is_empty(fields):
    """The platform writes no entries in three ways; all read the same."""
    reply = read({"errcode": 0, **fields}, endpoint=BATCH_SHARE_ENV)
    assert (reply.err_list, reply.msg_info_list, list(reply.failed)) == ((), (), [])


def test_a_required_list_that_is_null_is_a_bad_reply():
    """Read as empty it would hide environments, and a second one would be opened."""
    error = read({"info_list": None}, endpoint=DESCRIBE_ENVS)
    assert isinstance(error, BadReply)
    assert "$.info_list" in str(error)


@attrs.frozen
class Odd(Reply):
    """A reply with a field that no JSON value can become."""

    when: complex


def test_a_reply_class_that_cannot_be_read_is_refused():
    """Before anything is sent."""
    with pytest.raises(InvalidArgument, match="Odd cannot be read"):
        check_reply_class(Endpoint(PATH, Odd, Repeat.ONCE))


def test_a_reply_class_that_fails_while_it_is_read_is_a_bad_reply():
    """Whatever it raises, the call was sent: the error is ours, and asking again would give the same."""

    @attrs.frozen
    class Broken(Reply):
        env: str = attrs.field(validator=lambda *_: 1 / 0)

    error = read({"env": "e"}, endpoint=Endpoint(PATH, Broken, Repeat.ONCE))
    assert isinstance(error, BadReply)
    assert error.permanent


def test_a_new_environment_without_an_id_is_a_bad_reply():
    """An empty id would be taken for an environment."""
    assert isinstance(read({"tranid": "t", "env": ""}), BadReply)


def test_the_misspelt_update_time_is_accepted():
    """`update_ime`, as one page has it, is read where `update_time` is missing."""
    reply = read(
        {"info_list": [without("update_time")["info_list"][0] | {"update_ime": "then"}]}, endpoint=DESCRIBE_ENVS
    )
    assert reply.info_list[0].update_time == "then"


def test_the_right_spelling_wins():
    """Where both spellings come, the right one counts."""
    assert read(listing(update_ime="typo"), endpoint=DESCRIBE_ENVS).info_list[0].update_time == GOOD_ENV["update_time"]


@attrs.frozen
class Numbers(Reply):
    """A reply with numbers and a flag."""

    ratio: float
    count: int
    flag: bool


NUMBERS = Endpoint("/n", Numbers, Repeat.READ)


@pytest.mark.parametrize("ratio", [1, 1.5, 0])
def test_a_whole_number_is_taken_for_a_float(ratio):
    """JSON does not tell 1 from 1.0."""
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
def test_a_value_of_another_type_is_no_reply(name, value):
    """Nothing is coerced: a text is no number, a number no flag, and an integer past 64 bits none at all."""
    reply = read({"ratio": 1.0, "count": 1, "flag": True} | {name: value}, endpoint=NUMBERS)
    assert isinstance(reply, BadReply)
    assert f"@ $.{name}" in str(reply)


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        (without("env"), "required field missing @ $.info_list[0].env"),
        (without("update_time"), "required field missing @ $.info_list[0].update_time"),
        ({"errcode": 0}, "required field missing @ $.info_list"),
        (listing(env=None), "expected str @ $.info_list[0].env"),
        (listing(env=12), "expected str @ $.info_list[0].env"),
        (listing(package_id=["basic"]), "@ $.info_list[0].package_id"),
        ({"info_list": {}}, "@ $.info_list"),
        ({"info_list": "text"}, "@ $.info_list"),
        ({"info_list": [GOOD_ENV, None]}, "@ $.info_list[1]"),
        ({"info_list": [GOOD_ENV, "text"]}, "@ $.info_list[1]"),
        ({"info_list": [GOOD_ENV, []]}, "@ $.info_list[1]"),
    ],
)
def test_a_reply_of_another_shape_is_refused_by_the_place(reply, place):
    """The message names what is wrong as a path; asking again would give the same."""
    error = read(reply, endpoint=DESCRIBE_ENVS)
    assert isinstance(error, BadReply)
    assert place in str(error)
    assert (error.status, error.permanent, error.endpoint) == (200, True, DESCRIBE_ENVS.path)


@pytest.mark.parametrize("value", [None, "", 5, ["t"]], ids=repr)
def test_a_token_that_is_no_text_is_no_reply(value):
    """A token must be a text that is not empty."""
    reply = read({"component_access_token": value, "expires_in": 1}, endpoint=API_COMPONENT_TOKEN)
    assert isinstance(reply, BadReply)


NOT_REPLIES = {
    "empty": (b"", "the reply is empty"),
    "html": (b"<html><head><title>Bad\n Gateway</title></head></html>", "the reply is not JSON (line 1, column 1): 53"),
    "truncated": (b'{"tranid": "t", "env": ', "the reply is not JSON (line 1, column 24): 23 bytes."),
    "list": (b"[]", "a JSON list, not an object"),
    "null": (b"null", "not an object"),
    "text": (b'"ok"', "a JSON str, not an object"),
    "number": (b"0", "a JSON int, not an object"),
    "errcode text": (b'{"errcode": "0"}', "errcode is not a number"),
    "errcode true": (b'{"errcode": true}', "errcode is not a number"),
    "errcode false": (b'{"errcode": false}', "errcode is not a number"),
    "errcode null": (b'{"errcode": null}', "errcode is not a number"),
    "errcode float": (b'{"errcode": 0.0}', "errcode is not a number"),
    "errcode past 64 bits": (b'{"errcode": 99999999999999999999}', "errcode is not a number"),
    "deep and cut": (b'{"a":' * 5000, "the reply is not JSON"),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "the reply is not JSON"),
    "bad utf-8 inside": (b'{"env": "\xff\xfe"}', "the reply is not JSON"),
    "bad utf-8": (b"\xff\xfe", "the reply is not JSON"),
    "half a surrogate pair": (b'{"env": "\\ud800"}', "the reply is not JSON"),
    "NaN": (b'{"env": NaN}', "the reply is not JSON"),
}


@pytest.mark.parametrize(("reply", "words"), NOT_REPLIES.values(), ids=NOT_REPLIES)
def test_what_is_no_reply_is_a_bad_reply_that_another_try_may_mend(reply, words):
    """Empty, cut short, no object, no errcode: `BadReply` with status 200, counted as a lost answer."""
    error = read(reply)
    assert isinstance(error, BadReply)
    assert words in str(error)
    assert (error.status, error.permanent) == (200, False)
    assert classify(error) is FailureKind.REPLY_LOST
    assert len(str(error)) < 300


@settings(deadline=None)
@given(st.binary() | JSONS.map(orjson.dumps))
def test_whatever_comes_back_is_a_reply_or_an_error_of_ours(reply):
    """No bytes make the reader raise."""
    assert isinstance(read(reply), NewEnv | ApiError | BadReply)


SPOILED = {
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


@pytest.mark.parametrize("reply", SPOILED.values(), ids=SPOILED)
def test_nothing_of_a_json_reply_is_quoted(reply):
    """However a reply with a new token is spoiled, its error shows nothing of it, attached or in words."""
    error = read(reply, endpoint=API_COMPONENT_TOKEN)
    assert isinstance(error, BadReply)
    assert "fresh-token" not in f"{error} {error!r} {vars(error)}"
    assert error.__context__ is None
    assert error.__cause__ is None


@given(st.integers(0, 10_000), st.sampled_from([b"", b"\xef\xbb\xbf", b"\n "]))
def test_a_reply_cut_anywhere_shows_no_piece_of_a_token(cut, before):
    """At whatever byte a reply breaks off, no run of the token shows."""
    token = "0123456789abcdef" * 4
    whole = before + json.dumps({"component_access_token": token, "expires_in": 7200}).encode()
    error = read(whole[: cut % len(whole)], endpoint=API_COMPONENT_TOKEN)
    assert isinstance(error, BadReply)
    assert "0123" not in str(error)


def test_an_errcode_becomes_the_error_of_its_class():
    """errcode, errmsg, the rid in it, and the path are on the error."""
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
        ("rid: 1", "1"),
        ("no id", None),
        ("grid: 12", None),
        ("rid: ", None),
        ("", None),
    ],
)
def test_the_rid_is_read_out_of_errmsg(errmsg, rid):
    """It follows ``rid:``, with or without a space."""
    assert read({"errcode": -1, "errmsg": errmsg}).rid == rid


@pytest.mark.parametrize("errmsg", [None, 5, ["text"], {}], ids=repr)
def test_an_errmsg_that_is_no_text_is_passed_over(errmsg):
    """The errcode alone decides."""
    error = read({"errcode": -1, "errmsg": errmsg})
    assert type(error) is PlatformBusy
    assert (error.errmsg, error.rid) == ("", None)


def test_an_errcode_counts_even_beside_a_whole_reply():
    """A reply with an errcode is a failure whatever else it holds."""
    assert type(read({"errcode": -1, "tranid": "t", "env": "e"})) is PlatformBusy


@pytest.mark.parametrize("code", [40001, 40125])
def test_a_wrong_credential_on_the_token_call_means_the_secret(code):
    """There is no token on that call that could be dead."""
    assert type(read({"errcode": code, "errmsg": ""}, endpoint=API_COMPONENT_TOKEN)) is InvalidAppSecret


@pytest.mark.parametrize("spelled", [HIDDEN.reveal(), quote(HIDDEN.reveal(), safe=""), quote(HIDDEN.reveal())])
def test_a_secret_that_is_echoed_is_blotted_out(spelled):
    """In an errmsg a secret shows as stars, in clear or URL-quoted; a page that may hold it is not quoted."""
    said = read({"errcode": 40013, "errmsg": f"bad token {spelled}!"})
    page = read(f"<p>GET /?access_token={spelled} failed</p>".encode())
    assert "***" in str(said)
    for error in (said, page):
        assert "en+with" not in f"{error} {vars(error)}"
        assert "en%2Bwith" not in f"{error} {vars(error)}"


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="*%<>"), min_size=8))
def test_a_page_never_shows_a_secret_of_the_call(secret):
    """Whatever the secret is made of and wherever the quote of the page is cut, it does not show."""
    page = ("x" * 110 + secret + " and " + secret).encode()
    assert secret[:8] not in excerpt(CREATE_ENV, page, (Secret(secret),))


def test_a_page_is_quoted_short_and_without_tags():
    """The quote of a page has its size and 120 characters of its text."""
    page = excerpt(CREATE_ENV, b"<html>\n<body>\n<h1>502</h1>   Bad" + b"x" * 100_000 + b"</body>", ())
    assert page == f"100039 bytes, '502 Bad{'x' * 113}'"


def test_a_page_in_another_encoding_is_quoted_as_well_as_can_be():
    """Bytes that are no UTF-8 show as replacement characters."""
    assert excerpt(CREATE_ENV, "坏".encode("gb18030") + b" gateway", ()).endswith(" gateway'")


def test_raw_gives_the_json_a_reply_came_from():
    """Fields that wxtcb does not know are reached through `wxtcb.raw`."""
    reply = read({"errcode": 0, "errmsg": "in a normal state", "new": [1]}, endpoint=API_START_PUSH_TICKET)
    assert reply == Done()
    assert wxtcb.raw(reply) == {"errcode": 0, "errmsg": "in a normal state", "new": [1]}


def test_raw_of_a_token_is_refused():
    """A reply that holds a secret keeps no copy of its JSON."""
    reply = read({"component_access_token": "t", "expires_in": 1}, endpoint=API_COMPONENT_TOKEN)
    with pytest.raises(InvalidArgument, match="this ComponentToken was not read from a reply"):
        wxtcb.raw(reply)


def test_raw_of_what_was_built_by_hand_is_refused():
    """There is no JSON behind a reply that somebody built."""
    with pytest.raises(InvalidArgument, match="this Done was not read"):
        wxtcb.raw(Done())


def test_the_password_of_a_service_is_hidden_in_what_comes_back():
    """A secret deep inside a typed argument is sent, collected, and blotted out of the answer."""
    server = cloudrun.Server(
        env_id="e", service_name="s", is_public=True, es_info=cloudrun.EsInfo(password="hunter2-long")
    )
    body = encode_body(attrs.asdict(server, recurse=False), endpoint=PATH)
    assert orjson.loads(body.data)["es_info"] == {"password": "hunter2-long"}
    error = read({"errcode": 40097, "errmsg": "bad es_info: hunter2-long"}, hide=body.secrets)
    assert error.errmsg == "bad es_info: ***"
    assert "hunter2" not in repr(server)


def test_a_page_is_quoted_when_no_escape_can_hide_a_secret_in_it():
    """Its text without tags tells a proxy's error from the platform's; a token on it is blotted out."""
    page = b"<html><title>Bad\n Gateway</title><p>/?access_token=T0KEN-1</p></html>"
    assert excerpt(CREATE_ENV, page, (Secret("T0KEN-1"),)) == f"{len(page)} bytes, 'Bad Gateway /?access_token=***'"


@pytest.mark.parametrize("value", ['p"w1', "p\\w1", "a/b'c<d>&", "\u5bc6\u7801\n"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_secret_is_blotted_out_as_json_writes_it(value, ascii_only):
    """A gateway that repeats the body in errmsg repeats it escaped."""
    echo = json.dumps({"password": value}, ensure_ascii=ascii_only)
    error = read({"errcode": 40097, "errmsg": f"bad body {echo}"}, hide=(Secret(value),))
    assert error.errmsg == 'bad body {"password": "***"}'


@pytest.mark.parametrize("spelling", ["errmsg", "errormsg"])
@pytest.mark.parametrize("size", [1, 3000], ids=["small", "large"])
async def test_a_secret_is_blotted_out_of_the_reason_of_each_failure(spelling, size):
    """Under errcode 0 the platform may repeat the request too; what else it says stays as it is."""
    entries = [{"env": "p@ss", spelling: 'bad {"password":"p@ss"}'}, {"env": "f"}] * size
    data = orjson.dumps({"errcode": 0, "fail_list": entries, "succ_list": [{"env": "p@ss"}]})
    read = read_reply(BATCH_CREATE_CS_VERSION, data, (Secret("p@ss"),))
    for reply in (read, await read_large_reply(BATCH_CREATE_CS_VERSION, data, (Secret("p@ss"),))):
        assert [each.errmsg for each in reply.failed] == ['bad {"password":"***"}', None] * size
        assert (reply.failed[0].env, reply.succ_list[0].env) == ("p@ss", "p@ss")


def test_a_secret_is_blotted_out_of_a_result_that_is_no_success():
    """What stands beside errcode 0 is shown as the reason of the failure."""
    data = orjson.dumps({"errcode": 0, "result": 'failed: {"KEY":"p@ss"}'})
    reply = read_reply(CREATE_CLOUDBASERUN_SERVER_VERSION, data, (Secret("p@ss"),))
    assert (reply.result, *reply.failed) == ('failed: {"KEY":"***"}',) * 2


NEW = b'{"component_access_token":"NEWTOKEN123","expires_in":7200}'


@pytest.mark.parametrize("page", [b"<pre>" + NEW, b"upstream said: " + NEW, b"\xef\xbb\xbf" * 2 + NEW, b"NEWTOKEN123"])
def test_a_page_is_not_quoted_when_a_new_token_may_be_on_it(page):
    """Nobody knows a token that was just made, so nobody could blot it out."""
    error = read(page, endpoint=API_COMPONENT_TOKEN, hide=())
    assert isinstance(error, BadReply)
    assert "NEWTOKEN" not in str(error)


def test_a_page_is_quoted_up_to_a_secret_that_was_cut_through():
    """What stands at the end of the part that is looked at may be half a token."""
    token = Secret("T" * 60)
    page = b"<b>" * 1300 + b" " * 440 + b"T" * 60 + b"x" * 10_000
    assert "T" not in excerpt(CREATE_ENV, page, (token,))


def test_a_body_is_given_its_action():
    """One that names the same is left as it is."""
    for body in ({"env": "e"}, {"env": "e", "action": "get"}):
        assert add_action("get", body) == {"env": "e", "action": "get"}


@pytest.mark.parametrize("body", [b'{"action": "insert"}', "{}", None, 5], ids=str)
def test_a_body_whose_action_cannot_be_seen_is_refused(body):
    """Bytes under a read could add a record each time the read is sent again."""
    with pytest.raises(InvalidArgument, match=r"the body of action 'get' must be a mapping"):
        add_action("get", body)


@pytest.mark.parametrize("other", ["insert", None, 5])
def test_a_body_with_another_action_is_refused(other):
    """What may be repeated hangs on the action."""
    with pytest.raises(InvalidArgument, match="the body's action must be 'get'"):
        add_action("get", {"action": other})
