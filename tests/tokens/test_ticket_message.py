"""What a push says: bytes in, a verdict out; nothing but a verdict comes out, whatever goes in."""

from __future__ import annotations

import pickle
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb.events import PushMalformed, PushRefused
from wxtcb.sandbox.push.crypto import encrypt
from wxtcb.secret import Secret
from wxtcb.tokens.ticket import message
from wxtcb.tokens.ticket.crypto import AesKey, MessageCrypto
from wxtcb.tokens.ticket.message import MAX_SECONDS_AHEAD, Notification, PushedTicket

from .push_messages import APPID, KEY, TOKEN, pushed, sealed

ENVELOPE = MessageCrypto(APPID, Secret(TOKEN), (AesKey.from_encoded("key", Secret(KEY)),))
NOW = 1413192605
TICKET = f"""<xml>
    <AppId><![CDATA[{APPID}]]></AppId>
    <CreateTime>1413192605</CreateTime>
    <InfoType><![CDATA[component_verify_ticket]]></InfoType>
    <ComponentVerifyTicket><![CDATA[ticket@@@abc]]></ComponentVerifyTicket>
</xml>"""


def read_push(query, body):
    """Read a push at the time when that ticket was made."""
    return message.parse_push(ENVELOPE, query, body, NOW)


def read(message):
    """Read a message that is rightly sealed and signed."""
    return read_push(*pushed(message))


def signed(encrypted, body=None):
    """Give a push whose signature is right, whatever it holds as its encrypted message."""
    signature = ENVELOPE.sign(b"1", b"n", encrypted).decode()
    query = urlencode({"timestamp": "1", "nonce": "n", "msg_signature": signature}).encode()
    return query, body or b"<xml><Encrypt><![CDATA[%b]]></Encrypt></xml>" % encrypted


def notice(inside, info_type="authorized"):
    """Give a message that is no ticket."""
    return f"<xml><AppId>{APPID}</AppId><CreateTime>7</CreateTime><InfoType>{info_type}</InfoType>{inside}</xml>"


def test_a_ticket_is_read_with_its_time():
    """The known message of the documentation's shape gives ticket and CreateTime."""
    assert read(TICKET) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_texts_need_no_cdata_and_may_have_space_around():
    """Other writers of XML mean the same."""
    plain = TICKET.replace("<![CDATA[", "\n ").replace("]]>", " ").replace("1413192605", " 1413192605\n")
    assert read(plain) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_the_outer_document_may_name_a_user_in_place_of_the_platform():
    """Only Encrypt counts there."""
    query, body = pushed(TICKET)
    swapped = body.replace(b"AppId", b"ToUserName").replace(APPID.encode(), b"gh_1")
    assert swapped != body
    assert read_push(query, swapped) == PushedTicket(Secret("ticket@@@abc"), 1413192605)


def test_a_declared_encoding_changes_nothing():
    """A body is UTF-8, whatever it says."""
    query, body = pushed(TICKET)
    declared = b'\xef\xbb\xbf<?xml version="1.0" encoding="GBK"?>' + body
    assert isinstance(read_push(query, declared), PushedTicket)


def test_a_notice_gives_its_fields_by_name():
    """Names of nested elements are joined by a slash, repeated ones are numbered, empty ones are there."""
    inside = "<AuthorizationCode>c0de</AuthorizationCode><info><name>我</name><name>b</name></info><msg/>"
    told = read(notice(inside))
    assert (told.info_type, told.component_appid, told.create_time) == ("authorized", APPID, 7)
    assert dict(told.fields) == {
        "AppId": APPID,
        "CreateTime": "7",
        "InfoType": "authorized",
        "AuthorizationCode": "c0de",
        "info/name": "我",
        "info/name[2]": "b",
        "msg": "",
    }


def test_a_notice_shows_no_code_and_cannot_be_changed():
    """What it holds may be a credential; its repr has none of it."""
    told = read(notice("<AuthorizationCode>c0de</AuthorizationCode>"))
    assert "c0de" not in repr(told)
    assert isinstance(hash(told), int)
    with pytest.raises(TypeError):
        told.fields["AuthorizationCode"] = "other"


@pytest.mark.parametrize("message", ["<xml/>", "<xml><a>1</a></xml>", notice("", "").replace("7", "soon")])
def test_a_notice_need_have_neither_type_nor_time(message):
    """It is signed by the platform, so it is taken; what it lacks is "" and None."""
    told = read(message)
    assert isinstance(told, Notification)
    assert (told.info_type, told.create_time) == ("", None)


@pytest.mark.parametrize("name", ["msg_signature", "timestamp", "nonce"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_parameter_that_is_missing_or_there_twice_is_refused(name, times):
    """Each of the three must be there once; who sends two lets two programs read two messages."""
    query, body = pushed(TICKET)
    pairs = [(key, value) for key, values in parse_qs(query.decode()).items() for value in values if key != name]
    pairs += [(name, value) for value in parse_qs(query.decode())[name] * times]
    assert read_push(urlencode(pairs).encode(), body) == PushRefused(
        f"there must be exactly one {name} in the query", 400
    )


def test_parameters_are_bytes_that_may_be_quoted():
    """A nonce of any bytes, in any spelling, is signed as the bytes it stands for."""
    encrypted = sealed(TICKET.encode())
    signature = ENVELOPE.sign(b"1", b"\xff\xed\xa0\x80+", encrypted)
    body = b"<xml><Encrypt>%b</Encrypt></xml>" % encrypted
    query = b"times%%74amp=1&nonce=%%FF\xed%%a0%%80%%2b&msg_signature=%b" % signature
    assert isinstance(read_push(query, body), PushedTicket)


@pytest.mark.parametrize("query", [b"a=" + b"x" * 5000, b"a=1&" * 30])
def test_a_query_without_measure_is_refused(query):
    """Neither its length nor its parameters are without bound."""
    assert read_push(query + pushed(TICKET)[0], pushed(TICKET)[1]).reason.startswith("the query")


@pytest.mark.parametrize("name", ["timestamp", "nonce", "msg_signature"])
def test_a_forged_push_is_refused_before_it_is_opened(name, monkeypatch):
    """Whatever is changed, the signature no longer matches, and no key touches the message."""
    monkeypatch.delattr(MessageCrypto, "decrypt")
    query, body = pushed(TICKET)
    forged = query.replace(f"{name}=".encode(), f"{name}=0".encode())
    assert read_push(forged, body) == PushRefused("the signature does not match", 403)


def test_a_push_for_another_platform_is_refused():
    """Neither the appid behind the message nor the one in it may be another."""
    other = pushed(TICKET, appid="wx5823bf96d3bd56c7")
    assert read_push(*other) == PushRefused("the message is for another platform", 403)
    assert read(TICKET.replace(APPID, "wx1")) == PushRefused("the message is about another platform", 403)


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
def test_a_body_that_is_no_push_is_malformed(body):
    """A body that holds not exactly one Encrypt in plain XML is refused as malformed."""
    assert read_push(pushed(TICKET)[0], body).status == 400


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
def test_what_the_platform_signed_is_answered_though_it_cannot_be_read(message):
    """Any other answer than success can stop the pushes, so this is none of the refusals."""
    verdict = read_push(*signed(sealed(message)))
    assert isinstance(verdict, PushMalformed)
    assert verdict.reason.startswith("the XML is")


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
def test_a_document_is_eight_deep_and_two_hundred_wide_at_most(inside, fits):
    """The root, AppId and Encrypt count; what goes beyond is refused before it is read to its end."""
    query, body = pushed(TICKET)
    verdict = read_push(query, body.replace(b"</xml>", inside + b"</xml>"))
    assert isinstance(verdict, PushedTicket) if fits else verdict == PushRefused("the XML is too large", 400)


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
def test_a_ticket_without_a_proper_value_and_time_is_unreadable(old, new):
    """A time in milliseconds would be the newest for 40,000 years, so it is none."""
    changed = TICKET.replace(old, new)
    assert changed != TICKET
    assert isinstance(read(changed), PushMalformed)


def test_a_ticket_of_the_future_is_unreadable():
    """It would be the newest until then; a day is left to clocks that are wrong."""
    last, beyond = (TICKET.replace(str(NOW), str(NOW + int(MAX_SECONDS_AHEAD) + more)) for more in (0, 1))
    assert read(last) == PushedTicket(Secret("ticket@@@abc"), NOW + 86_400)
    assert read(beyond) == PushMalformed("CreateTime is more than a day ahead of this machine's clock")


def test_no_refusal_quotes_what_was_sent():
    """Reasons are fixed texts."""
    odd = b"<xml><Encrypt>S3CRET</Encrypt></xml>"
    refused = [read_push(*signed(b"S3CRET", odd)), read_push(b"S3CRET", odd), read("S3CRET")]
    assert [type(each) for each in refused] == [PushRefused, PushRefused, PushMalformed]
    assert "S3CRET" not in repr(refused)


def test_a_ticket_is_not_shown():
    """Its repr hides it, and it cannot be pickled away."""
    assert "ticket@@@" not in repr(read(TICKET))
    with pytest.raises(TypeError):
        pickle.dumps(read(TICKET))


@st.composite
def mutated(draw):
    """Give a proper push in which some bytes are replaced, added or taken away."""
    parts = [bytearray(part) for part in pushed(TICKET)]
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
    st.tuples(st.just(pushed(TICKET)[0]), nonsense),
    mutated(),
    st.binary().map(signed),
    nonsense.map(lambda content: signed(content, b"<xml><Encrypt>%b</Encrypt></xml>" % content)),
    nonsense.map(lambda message: signed(sealed(message))),
    st.binary(min_size=1, max_size=8).map(lambda seed: signed(encrypt(seed * 32, KEY).encode())),
)


@pytest.mark.unmeasured
@settings(max_examples=400)
@given(pushes)
def test_whatever_comes_there_is_a_verdict(message):
    """Arbitrary bytes, changed pushes, nonsense that is rightly signed or sealed: nothing is raised."""
    verdict = read_push(*message)
    assert isinstance(verdict, PushedTicket | Notification | PushMalformed | PushRefused)
    if isinstance(verdict, PushRefused):
        assert verdict.status in (400, 403)
