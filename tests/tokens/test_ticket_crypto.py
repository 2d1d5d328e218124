"""Tests of message crypto against known messages of other implementations, byte for byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from wxtcb.errors import InvalidArgument
from wxtcb.sandbox.push.crypto import encrypt
from wxtcb.secret import Secret
from wxtcb.tokens.ticket.crypto import AesKey, MessageCrypto

from .push_messages import encrypted_message

SAMPLE_KEY = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
JAVA_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
OTHER_KEY = "Z" * 43


def crypto_for(appid, token, *keys):
    """Return the crypto of a platform."""
    return MessageCrypto(appid, Secret(token), tuple(AesKey.from_encoded("key", Secret(key)) for key in keys))


SAMPLE = crypto_for("wx5823bf96d3bd56c7", "QDG6eK", SAMPLE_KEY)
JAVA = crypto_for("wxb11529c136998cb6", "pamtest", JAVA_KEY)
JAVA_RANDOM = b"aaaabbbbccccdddd"

VECTORS = {
    "Tencent's sample": (
        SAMPLE,
        b"0960688932c47ef1",
        "<xml><ToUserName><![CDATA[wx5823bf96d3bd56c7]]></ToUserName>\n<FromUserName><![CDATA[mycreate]]></FromUserName>\n<CreateTime>1409659813</CreateTime>\n<MsgType><![CDATA[text]]></MsgType>\n<Content><![CDATA[hello]]></Content>\n<MsgId>4561255354251345929</MsgId>\n<AgentID>218</AgentID>\n</xml>",
        (
            "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUpj911L3vg3W/sYYvuJTs3"
            "TUUkSUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue06DOdnLxAUHzM6+kDZ+HMZfJYuR+LtwGc2hgf5gs"
            "ijff0ekUNXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+3IQH03v+BCA9nMELNqbSf6tiWSrXJB3LAVGUcallcrw8V2t9EL4EhzJWrQUa"
            "x5wLVMNS0+rUPA3k22Ncx4XXZS9o0MBH27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2YoyyH2uyPIG"
            "HBZZIs2pDBS8R07+qN+E7Q=="
        ),
        (b"1409659813", b"1372623149", b"477715d11cdb4164915debcba66cb864d751f3e6"),
    ),
    "a short message": (
        SAMPLE,
        b"c41b64491c2468d0",
        "1616140317555161061",
        "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ==",
        (b"1409659589", b"263014780", b"5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3"),
    ),
    "characters of several bytes": (
        JAVA,
        JAVA_RANDOM,
        "我是中文abcd123",
        "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==",
        (b"1409304348", b"xxxxxx", b"82c962d39941aa48552f90ef55aa323dc620cc10"),
    ),
    "a ticket, and a whole block of padding": (
        JAVA,
        JAVA_RANDOM,
        (
            "<xml><AppId><![CDATA[wxb11529c136998cb6]]></AppId><CreateTime>1413192605</CreateTime>"
            "<InfoType><![CDATA[component_verify_ticket]]></InfoType>"
            "<ComponentVerifyTicket><![CDATA[ticket@@@abc]]></ComponentVerifyTicket></xml>"
        ),
        (
            "jn1L23DB+6ELqJ+6bruv264GIqOIqkeJAdhivydiKmyAq7HPQN7NvPjxXlYpzKNSwcl5fN+/KJy5VxTBJpNbowRflq92oEUjJuIyVXS45g/IDIH0"
            "BGXH5nqThcVq4fgOPMInJ0TPY6lzt5IC1v4ftUpr/g8IKKR9dw/DZUi4WzC8GgvxA+QVVIcu7f65DqvJ8BVrMsQ3zHfkuFGphYa7qM3Xgf1aT3Vw"
            "h4ouV8aMY4YIzwIA8CExgWNKqigev0ULwkbs13kdSJoGBWCgCLKeeV/r89TWElX4SkoZGei8BqPnOLQoEOLZtJS/8XNvohFNtahiR1Mt5RiiDYj8"
            "fHqVrQhijsjojaHit2Pstbp1vN3aSnFhATFtdkxMl7MpAaav"
        ),
        (b"1413192605", b"nonce1", b"8afc22936fd4a661123aee71a833d84c1617d21f"),
    ),
}


@pytest.fixture(params=VECTORS.values(), ids=VECTORS)
def vector(request):
    """Return each message whose encrypted form is known."""
    return request.param


def encrypt_with_java_key(content, *, padding=None):
    """Encrypt *content* with the Java key and the given or correct padding."""
    missing = 32 - len(content) % 32
    return encrypt(content + (bytes([missing]) * missing if padding is None else padding), JAVA_KEY).encode()


def content_of(message, appid=b"wxb11529c136998cb6", length=None):
    """Return a message in its form before padding."""
    return JAVA_RANDOM + (len(message) if length is None else length).to_bytes(4, "big") + message + appid


def test_known_message_is_decrypted(vector):
    """A message that another implementation encrypted is decrypted."""
    peer, _, message, encrypted, _ = vector
    assert peer.decrypt(encrypted.encode()) == message.encode()


def test_sandbox_encrypts_to_the_same_bytes(vector):
    """With the same random bytes the sandbox, which encrypts for these tests, produces the same bytes."""
    peer, random, message, encrypted, _ = vector
    key = SAMPLE_KEY if peer is SAMPLE else JAVA_KEY
    assert encrypted_message(message.encode(), appid=peer.component_appid, key=key, random=random) == encrypted.encode()


def test_known_signature_is_computed_and_accepted(vector):
    """The signature equals that of the other implementation."""
    peer, _, _, encrypted, (timestamp, nonce, signature) = vector
    assert peer.sign(timestamp, nonce, encrypted.encode()) == signature
    assert peer.is_valid_signature(signature, timestamp, nonce, encrypted.encode())


@pytest.mark.parametrize("signature", [b"", b"0" * 40, b"\xff", b"477715D11CDB4164915DEBCBA66CB864D751F3E6"])
def test_other_signatures_are_invalid(signature):
    """A wrong signature, and the right one in capitals, are invalid."""
    timestamp, nonce, _ = VECTORS["Tencent's sample"][4]
    assert not SAMPLE.is_valid_signature(signature, timestamp, nonce, VECTORS["Tencent's sample"][3].encode())


def test_signed_parts_are_sorted_as_bytes():
    """Capitals sort before small letters, and bytes beyond ASCII last."""
    assert JAVA.sign(b"Z", b"a", b"\xff") == JAVA.sign(b"\xff", b"Z", b"a")


@given(st.binary(max_size=300))
def test_any_encrypted_message_can_be_decrypted(message):
    """A message of any length, and so any padding, is decrypted unchanged."""
    assert JAVA.decrypt(encrypted_message(message)) == message


@pytest.mark.parametrize("keys", [(OTHER_KEY, JAVA_KEY), (JAVA_KEY, OTHER_KEY), (JAVA_KEY, JAVA_KEY)])
def test_every_key_decrypts(keys):
    """Both keys are tried in any order; they may be equal."""
    both = crypto_for("wxb11529c136998cb6", "pamtest", *keys)
    assert both.decrypt(encrypted_message(b"hello")) == b"hello"


def test_other_keys_do_not_decrypt():
    """A message with another key is not decrypted."""
    assert crypto_for("wxb11529c136998cb6", "pamtest", OTHER_KEY).decrypt(encrypted_message(b"hello")) is None


@pytest.mark.parametrize(
    "appid", [b"", b"wx", b"wxb11529c136998cb", b"wxb11529c136998cb6 ", b"wxB11529c136998cb6", b"\xff"]
)
def test_message_for_another_platform_is_rejected(appid):
    """The appid behind the message must match exactly."""
    assert JAVA.decrypt(encrypt_with_java_key(content_of(b"hello", appid))) is None


@pytest.mark.parametrize("length", [24, 2**31, 2**32 - 1])
def test_length_beyond_the_end_is_rejected(length):
    """The message must not be longer than the content."""
    assert JAVA.decrypt(encrypt_with_java_key(content_of(b"hello", length=length))) is None


@pytest.mark.parametrize("size", [0, 15, 16, 19])
def test_content_shorter_than_its_header_is_rejected(size):
    """The content must have 16 random bytes and 4 bytes of length."""
    assert JAVA.decrypt(encrypt_with_java_key(b"\0" * size)) is None


def padding_of(last, size=None):
    return bytes([last]) * (last if size is None else size)


@pytest.mark.parametrize(
    "padding",
    [
        padding_of(0, 21),
        padding_of(33, 53),
        padding_of(255, 21),
        b"\1" * 20 + padding_of(21, 1),
        padding_of(21, 20) + b"\x14",
    ],
)
def test_invalid_padding_is_rejected(padding):
    """Each of the last N bytes must be N, with N from 1 to 32."""
    content = content_of(b"hello")
    assert (len(content) + len(padding)) % 32 == 0
    assert JAVA.decrypt(encrypt_with_java_key(content, padding=padding)) is None


@pytest.mark.parametrize("missing", range(1, 33))
def test_padding_of_every_length_is_removed(missing):
    """Padding may have 1 to 32 bytes, more than the 16 of the AES block."""
    message = b"x" * (64 - 20 - 18 - missing % 32)
    assert JAVA.decrypt(encrypt_with_java_key(content_of(message))) == message


@pytest.mark.parametrize(
    "encrypted",
    [b"", b"====", b"AAAA", b"A" * 21 + b"!==", b"A" * 22, b"A" * 22 + b"==\n", b" " + b"A" * 22 + b"==", b"\xff" * 24],
)
def test_invalid_base64_or_partial_blocks_are_rejected(encrypted):
    """Invalid characters are not skipped, and missing padding is not added."""
    assert JAVA.decrypt(encrypted) is None


@pytest.mark.parametrize(
    "key", ["", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "+", "A" * 42 + "é", "A" * 43 + "\n"]
)
def test_invalid_key_is_rejected_and_not_shown(key):
    """The error names the argument and the format of an EncodingAESKey."""
    with pytest.raises(InvalidArgument, match=r"encoding_aes_key must be .* 43 characters") as caught:
        AesKey.from_encoded("encoding_aes_key", Secret(key))
    assert not key or key not in str(caught.value)


def test_unused_bits_of_the_last_character_are_ignored():
    """43 characters have 258 bits, two more than the key."""
    assert JAVA_KEY.endswith("G")
    assert (
        crypto_for("wxb11529c136998cb6", "pamtest", JAVA_KEY[:-1] + "E").decrypt(encrypted_message(b"hello"))
        == b"hello"
    )


def test_repr_shows_neither_key_nor_token():
    """The repr shows no secret."""
    assert re.fullmatch(r"MessageCrypto\(component_appid='\w+', message_token=\*\*\*\)", repr(JAVA))
    assert repr(JAVA.keys[0]) == "AesKey()"
