"""The platform's message encryption, against what others have published."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, strategies as st

from wxtcb.sandbox.push.crypto import encrypt, encrypt_and_sign, load_encryptor_factory, pad_message, sign, write_xml

from .receiver import fields

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
APPID = "wxb11529c136998cb6"
FILLER = b"aaaabbbbccccdddd"
CHINESE = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
TICKET = (
    "<xml><AppId><![CDATA[wxb11529c136998cb6]]></AppId><CreateTime>1413192605</CreateTime>"
    "<InfoType><![CDATA[component_verify_ticket]]></InfoType>"
    "<ComponentVerifyTicket><![CDATA[ticket@@@abc]]></ComponentVerifyTicket></xml>"
)
TICKET_FIELDS = {
    "AppId": APPID,
    "CreateTime": 1413192605,
    "InfoType": "component_verify_ticket",
    "ComponentVerifyTicket": "ticket@@@abc",
}


def test_a_known_message_becomes_the_known_text() -> None:
    """Tencent's Java sample, with Chinese in it: the length counts bytes."""
    assert encrypt(pad_message("我是中文abcd123".encode(), APPID, FILLER), KEY) == CHINESE
    assert sign("pamtest", "1409304348", "xxxxxx", CHINESE) == "82c962d39941aa48552f90ef55aa323dc620cc10"


def test_a_ticket_is_sealed_as_the_platform_does_it() -> None:
    """Of a message that fills its blocks, one whole block is padding; the signature covers the text as it is sent."""
    envelope = encrypt_and_sign(
        TICKET.encode(),
        appid=APPID,
        message_token="pamtest",
        encoding_aes_key=KEY,
        timestamp=1413192605,
        nonce="nonce1",
        random_prefix=FILLER,
    )
    assert envelope.query == {
        "signature": sign("nonce1", "pamtest", "1413192605"),
        "timestamp": "1413192605",
        "nonce": "nonce1",
        "encrypt_type": "aes",
        "msg_signature": "8afc22936fd4a661123aee71a833d84c1617d21f",
    }
    assert fields(envelope.body)["AppId"] == APPID


def test_a_message_is_written_as_the_platform_does_it() -> None:
    """Texts stand in CDATA, numbers do not."""
    assert write_xml(TICKET_FIELDS, separator="").decode() == TICKET


@example("]]>")
@given(st.text(st.characters(exclude_categories=["C"])))
def test_every_text_comes_back(text: str) -> None:
    """Also one that holds the end of CDATA."""
    assert fields(write_xml({"A": text, "B": 1})) == {"A": text, "B": "1"}


@given(st.binary(max_size=100))
def test_padding_fills_32_bytes(message: bytes) -> None:
    """From 1 byte to 32, each of which says how many they are."""
    framed = pad_message(message, APPID, FILLER)
    assert len(framed) % 32 == 0
    assert 1 <= framed[-1] <= 32
    assert framed == FILLER + len(message).to_bytes(4, "big") + message + APPID.encode() + framed[-1:] * framed[-1]


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography nothing can be pushed, and the extra is named."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(ImportError, match=r"pip install 'wxtcb\[ticket\]'"):
        load_encryptor_factory()
