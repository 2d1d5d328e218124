"""Tests of push messages: bytes in, a ticket, a notification or a rejection out."""

from __future__ import annotations

import json
import pickle
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb.events import PushMalformed, PushRefused, PushUndecryptable
from wxtcb.sandbox.push.crypto import encrypt
from wxtcb.secret import Secret
from wxtcb.tokens.ticket import message
from wxtcb.tokens.ticket.crypto import AesKey, MessageCrypto
from wxtcb.tokens.ticket.message import MAX_SECONDS_AHEAD, Notification, PushedTicket

from .push_messages import APPID, KEY, TOKEN, encrypted_message, pushed

ENVELOPE = MessageCrypto(APPID, Secret(TOKEN), (AesKey.from_encoded("key", Secret(KEY)),))
NOW = 1413192605
TICKET = f"""<xml>
    <AppId><![CDATA[{APPID}]]></AppId>
    <CreateTime>1413192605</CreateTime>
    <InfoType><![CDATA[component_verify_ticket]]></InfoType>
    <ComponentVerifyTicket><![CDATA[ticket@@@abc]]></ComponentVerifyTicket>
</xml>"""


def read_push(query, body):
    """Parse a push at the time of the known ticket."""
    return message.parse_push(ENVELOPE, query, body, NOW, 600)


def read_message(message):
    """Parse a message that is correctly encrypted and signed."""
    return read_push(*pushed(message, at=NOW))


def signed(encrypted, body=None):
    """Return a push with a valid signature for any encrypted message."""
    signature = ENVELOPE.sign(str(NOW).encode(), b"n", encrypted).decode()
    query = urlencode({"timestamp": str(NOW), "nonce": "n", "msg_signature": signature}).encode()
    return query, body or b"<xml><Encrypt><![CDATA[%b]]></Encrypt></xml>" % encrypted


def notification(inside, info_type="authorized"):
    """Return a message that is not a ticket."""
    return (
        f"<xml><AppId>{APPID}</AppId><CreateTime>1413192607</CreateTime><InfoType>{info_type}</InfoType>{inside}</xml>"
    )


def test_ticket_is_parsed_with_its_time():
    """A known message in the documented format has the ticket and its CreateTime."""
    assert read_message(TICKET) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_strings_need_no_cdata_and_may_have_whitespace():
    """Strings may be written without CDATA and with surrounding whitespace."""
    plain = TICKET.replace("<![CDATA[", "\n ").replace("]]>", " ").replace("1413192605", " 1413192605\n")
    assert read_message(plain) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_outer_document_may_have_another_recipient_field():
    """Only Encrypt of the outer document is used."""
    query, body = pushed(TICKET, at=NOW)
    swapped = body.replace(b"AppId", b"ToUserName").replace(APPID.encode(), b"gh_1")
    assert swapped != body
    assert read_push(query, swapped) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_declared_encoding_is_ignored():
    """A body is UTF-8, whatever its declaration says."""
    query, body = pushed(TICKET, at=NOW)
    declared = b'\xef\xbb\xbf<?xml version="1.0" encoding="GBK"?>' + body
    assert isinstance(read_push(query, declared), PushedTicket)


def test_notification_has_fields_by_name():
    """Nested names are joined by a slash, repeated ones are numbered, and empty ones are included."""
    inside = "<AuthorizationCode>c0de</AuthorizationCode><info><name>我</name><name>b</name></info><msg/>"
    parsed = read_message(notification(inside))
    assert (parsed.info_type, parsed.component_appid, parsed.create_time) == ("authorized", APPID, 1413192607)
    assert dict(parsed.fields) == {
        "AppId": APPID,
        "CreateTime": "1413192607",
        "InfoType": "authorized",
        "AuthorizationCode": "c0de",
        "info/name": "我",
        "info/name[2]": "b",
        "msg": "",
    }


def test_notification_shows_no_code_and_is_immutable():
    """The repr shows no field, because a field may be a credential."""
    parsed = read_message(notification("<AuthorizationCode>c0de</AuthorizationCode>"))
    assert "c0de" not in repr(parsed)
    assert isinstance(hash(parsed), int)
    with pytest.raises(TypeError):
        parsed.fields["AuthorizationCode"] = "other"


@pytest.mark.parametrize(
    "message", ["<xml/>", "<xml><a>1</a></xml>", notification("", "").replace("1413192607", "soon")]
)
def test_notification_needs_neither_type_nor_time(message):
    """A signed push without InfoType and CreateTime has "" and None."""
    parsed = read_message(message)
    assert isinstance(parsed, Notification)
    assert (parsed.info_type, parsed.create_time) == ("", None)


@pytest.mark.parametrize("name", ["msg_signature", "timestamp", "nonce"])
@pytest.mark.parametrize("times", [0, 2])
def test_missing_or_duplicate_parameter_is_rejected(name, times):
    """Each of the three parameters must occur exactly once."""
    query, body = pushed(TICKET, at=NOW)
    pairs = [(key, value) for key, values in parse_qs(query.decode()).items() for value in values if key != name]
    pairs += [(name, value) for value in parse_qs(query.decode())[name] * times]
    assert read_push(urlencode(pairs).encode(), body) == PushRefused(
        f"there must be exactly one {name} in the query", 400
    )


def test_parameters_are_bytes_that_may_be_percent_encoded():
    """A nonce of any bytes, in any spelling, is signed as its bytes."""
    encrypted = encrypted_message(TICKET.encode())
    signature = ENVELOPE.sign(b"1413192605", b"\xff\xed\xa0\x80+", encrypted)
    body = b"<xml><Encrypt>%b</Encrypt></xml>" % encrypted
    query = b"times%%74amp=141319260%%35&nonce=%%FF\xed%%a0%%80%%2b&msg_signature=%b" % signature
    assert isinstance(read_push(query, body), PushedTicket)


@pytest.mark.parametrize("query", [b"a=" + b"x" * 5000, b"a=1&" * 30])
def test_large_query_is_rejected(query):
    """Length and number of parameters are limited."""
    assert read_push(query + pushed(TICKET, at=NOW)[0], pushed(TICKET, at=NOW)[1]).reason.startswith("the query")


@pytest.mark.parametrize("name", ["timestamp", "nonce", "msg_signature"])
def test_forged_push_is_rejected_before_decryption(name, monkeypatch):
    """Any change invalidates the signature, and nothing is decrypted."""
    monkeypatch.delattr(MessageCrypto, "decrypt")
    query, body = pushed(TICKET, at=NOW)
    forged = query.replace(f"{name}=".encode(), f"{name}=0".encode())
    assert read_push(forged, body) == PushRefused("the signature does not match", 403)


def test_push_for_another_platform_has_no_content():
    """Both the appid behind the message and the one in it must match."""
    other = pushed(TICKET, appid="wx5823bf96d3bd56c7", at=NOW)
    assert read_push(*other) == PushUndecryptable()
    assert read_message(TICKET.replace(APPID, "wx1")) == PushMalformed("the message is about another platform")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<xml>",
        b"<xml/>",
        b"<xml><Encrypt/><Encrypt/></xml>",
        b"<xml><a><Encrypt>x</Encrypt></a></xml>",
        b"<xml><Encrypt><Encrypt>x</Encrypt></Encrypt></xml>",
        b"<xml><Encrypt>\xd2\xbb\xff</Encrypt></xml>",
        "<xml><Encrypt>\ud800</Encrypt></xml>".encode("utf-8", "surrogatepass"),
        b"<xml><Encrypt>&#xD800;</Encrypt></xml>",
        b"<xml><Encrypt>&nothing;</Encrypt></xml>",
        b"<xml><Encrypt>\0</Encrypt></xml>",
        "<xml><Encrypt>x</Encrypt></xml>".encode("utf-16"),
        b'{"Encrypt": "x"}',
        b"<!DOCTYPE xml><xml><Encrypt>x</Encrypt></xml>",
        b'<!DOCTYPE xml SYSTEM "http://127.0.0.1/x.dtd"><xml><Encrypt>x</Encrypt></xml>',
        b'<!DOCTYPE xml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><xml><Encrypt>&b;</Encrypt></xml>',
        b'<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Encrypt>&a;</Encrypt></xml>',
        b"<a>" * 5000,
        b"<xml>" + b"<a/>" * 5000,
        b"<xml><" + b"a" * 5000,
        b"<xml><" + b"a" * 65 + b"/></xml>",
    ],
)
def test_invalid_body_is_malformed(body):
    """A body without exactly one Encrypt in plain XML is rejected with 400."""
    assert read_push(pushed(TICKET, at=NOW)[0], body).status == 400


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"hello",
        b'{"InfoType": "x"}',
        b"<xml>",
        b"<xml><Name>a&b</Name></xml>",
        b"<xml><Name>a\x0bb</Name></xml>",
        b"<xml><Name>\xd2\xbb\xff</Name></xml>",
        b'<!DOCTYPE xml [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Name>&a;</Name></xml>',
        b"<a>" * 9 + b"</a>" * 9,
        b"<xml>" + b"<a/>" * 200 + b"</xml>",
    ],
)
def test_signed_but_unreadable_push_is_not_rejected(message):
    """An authentic push that cannot be parsed is malformed and not refused."""
    verdict = read_push(*signed(encrypted_message(message)))
    assert isinstance(verdict, PushMalformed)
    assert verdict.reason.startswith(("the XML is", "the document is too large"))


@pytest.mark.parametrize(
    ("inside", "fits"),
    [
        (b"<a>" * 7 + b"</a>" * 7, True),
        (b"<a>" * 8 + b"</a>" * 8, False),
        (b"<a/>" * 197, True),
        (b"<a/>" * 198, False),
        (b"<%b/>" % (b"a" * 64), True),
        (b"<%b/>" % (b"a" * 65), False),
    ],
)
def test_document_has_limited_depth_and_size(inside, fits):
    """More than 8 levels or 200 elements are rejected before the document is parsed to its end."""
    query, body = pushed(TICKET, at=NOW)
    verdict = read_push(query, body.replace(b"</xml>", inside + b"</xml>"))
    assert isinstance(verdict, PushedTicket) if fits else verdict == PushRefused("the document is too large", 400)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ticket@@@abc", ""),
        ("ticket@@@abc", "  \n"),
        ("ComponentVerifyTicket", "Other"),
        ("</xml>", "<ComponentVerifyTicket>b</ComponentVerifyTicket></xml>"),
        ("<CreateTime>1413192605</CreateTime>", ""),
        ("</xml>", "<CreateTime>1413192606</CreateTime></xml>"),
        ("1413192605", ""),
        ("1413192605", "-1"),
        ("1413192605", "+1"),
        ("1413192605", "1e9"),
        ("1413192605", "1_0"),
        ("1413192605", "\u0661"),
        ("1413192605", "1413192605000"),
        ("1413192605", "9" * 5000),
        ("<AppId>", "<!DOCTYPE x><AppId>"),
    ],
)
def test_ticket_with_an_invalid_value_or_time_is_malformed(old, new):
    """A time in milliseconds is invalid too."""
    changed = TICKET.replace(old, new)
    assert changed != TICKET
    assert isinstance(read_message(changed), PushMalformed)


def test_ticket_from_the_future_is_malformed():
    """A ticket more than five minutes ahead has no effect; less is a wrong clock."""
    last, beyond = (TICKET.replace(str(NOW), str(NOW + int(MAX_SECONDS_AHEAD) + more)) for more in (0, 1))
    assert read_message(last) == PushedTicket(Secret("ticket@@@abc"), NOW + 300)
    assert read_message(beyond) == PushMalformed("CreateTime is more than 300 s ahead of this machine's clock")


@pytest.mark.parametrize("text", [TICKET, notification("").replace("1413192607", str(NOW))])
def test_message_of_twelve_hours_ago_is_malformed(text):
    """A ticket is valid for 12 hours; an older message has no effect, although its signature is fresh."""
    oldest, beyond = (text.replace(str(NOW), str(NOW - 12 * 3600 - more)) for more in (0, 1))
    assert isinstance(read_message(oldest), PushedTicket | Notification)
    assert read_message(beyond) == PushMalformed("CreateTime is more than 12 hours ago")


@pytest.mark.parametrize("at", [NOW - 600, NOW + 600])
def test_signature_within_the_replay_window_is_accepted(at):
    """Clocks may differ by ten minutes."""
    assert isinstance(read_push(*pushed(TICKET, at=at)), PushedTicket)


@pytest.mark.parametrize("at", [NOW - 601, NOW + 601, 1, "", "-1", "1e9", "1413192605.0", "9" * 5000])
def test_signature_outside_of_the_replay_window_is_rejected(at, monkeypatch):
    """An old push, or one without a valid timestamp, is refused before it is decrypted."""
    monkeypatch.delattr(MessageCrypto, "decrypt")
    refused = PushRefused("the signature is more than 600 s from this machine's clock", 403)
    if len(str(at)) > 4000:
        refused = PushRefused("the query is too long", 400)
    assert read_push(*pushed(TICKET, at=at)) == refused


def plain(**changes):
    """Parse a ticket as WeChat's cloud hosting pushes it, with changes."""
    fields = {
        "AppId": APPID,
        "CreateTime": NOW,
        "InfoType": "component_verify_ticket",
        "ComponentVerifyTicket": "ticket@@@abc",
    }
    return message.parse_plain_push(APPID, json.dumps({**fields, **changes}).encode(), NOW)


def test_plain_ticket_is_parsed_with_its_time():
    """In JSON CreateTime is a number; a string is accepted as well."""
    assert plain() == plain(CreateTime=str(NOW)) == PushedTicket(Secret("ticket@@@abc"), NOW)


def test_plain_notification_has_fields_by_name():
    """The names are those of the same message in XML."""
    info = {"name": "我", "code": 7, "none": None, "list": [1, {"a": "b"}]}
    parsed = plain(InfoType="authorized", AuthorizationCodeExpiredTime=NOW, info=info, nothing={})
    assert (parsed.info_type, parsed.create_time) == ("authorized", NOW)
    assert dict(parsed.fields) == {
        "AppId": APPID,
        "CreateTime": str(NOW),
        "InfoType": "authorized",
        "ComponentVerifyTicket": "ticket@@@abc",
        "AuthorizationCodeExpiredTime": str(NOW),
        "info/name": "我",
        "info/code": "7",
        "info/none": "",
        "info/list": "1",
        "info/list/a": "b",
        "nothing": "",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AppId": "wx1"}, "another platform"),
        ({"CreateTime": NOW + 301}, "ahead"),
        ({"CreateTime": NOW - 12 * 3600 - 1}, "12 hours"),
        ({"CreateTime": 1.5}, "whole seconds"),
        ({"CreateTime": [NOW, NOW]}, "exactly one CreateTime"),
        ({"ComponentVerifyTicket": None}, "empty"),
        ({"a": [[1]]}, "list in a list"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}, "too large"),
        ({"a": [1] * 200}, "too large"),
        ({"a" * 65: 1}, "too large"),
    ],
)
def test_plain_push_with_an_invalid_value_is_malformed(changes, reason):
    """The rules are those of a signed push."""
    assert reason in plain(**changes).reason


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 60_000, b'{"a":' * 500 + b"1"])
def test_plain_body_that_is_no_object_is_malformed(body):
    """Neither a deep nor an invalid document raises anything."""
    assert message.parse_plain_push(APPID, body, NOW) == PushMalformed("the body is not a JSON object")


def test_no_rejection_quotes_the_push():
    """Reasons are fixed strings."""
    odd = b"<xml><Encrypt>S3CRET</Encrypt></xml>"
    refused = [read_push(*signed(b"S3CRET", odd)), read_push(b"S3CRET", odd), read_message("S3CRET")]
    assert [type(each) for each in refused] == [PushUndecryptable, PushRefused, PushMalformed]
    assert "S3CRET" not in repr(refused)


def test_ticket_is_not_shown():
    """Its repr hides it, and it cannot be pickled."""
    assert "ticket@@@" not in repr(read_message(TICKET))
    with pytest.raises(TypeError):
        pickle.dumps(read_message(TICKET))


@st.composite
def mutated_push(draw):
    """Return a valid push in which some bytes are replaced, added or removed."""
    parts = [bytearray(part) for part in pushed(TICKET, at=NOW)]
    for _ in range(draw(st.integers(1, 5))):
        part = draw(st.sampled_from(parts))
        at = draw(st.integers(0, len(part)))
        part[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(parts[0]), bytes(parts[1])


odd_texts = st.text() | st.sampled_from(
    ["<a>", "</a>", "<xml>", "</xml>", "&", "<![CDATA[", "]]>", "<!DOCTYPE", TICKET]
)
nonsense = st.lists(odd_texts, max_size=8).map(lambda texts: "".join(texts).encode("utf-8", "replace")) | st.binary()
pushes = st.one_of(
    st.tuples(st.binary(), st.binary()),
    st.tuples(st.just(pushed(TICKET, at=NOW)[0]), nonsense),
    mutated_push(),
    st.binary().map(signed),
    nonsense.map(lambda content: signed(content, b"<xml><Encrypt>%b</Encrypt></xml>" % content)),
    nonsense.map(lambda message: signed(encrypted_message(message))),
    st.binary(min_size=1, max_size=8).map(lambda seed: signed(encrypt(seed * 32, KEY).encode())),
)


@pytest.mark.unmeasured
@settings(max_examples=400)
@given(pushes)
def test_any_input_has_a_result(message):
    """Arbitrary bytes, changed pushes, and encrypted or signed nonsense raise nothing."""
    verdict = read_push(*message)
    assert isinstance(verdict, PushedTicket | Notification | PushMalformed | PushUndecryptable | PushRefused)
    if isinstance(verdict, PushRefused):
        assert verdict.status in (400, 403)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda children: st.lists(children, max_size=9) | st.dictionaries(st.text(max_size=9), children, max_size=9),
)


@pytest.mark.unmeasured
@settings(max_examples=200)
@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_any_plain_body_has_a_result(body):
    """Arbitrary bytes and JSON raise nothing."""
    assert isinstance(message.parse_plain_push(APPID, body, NOW), PushedTicket | Notification | PushMalformed)
