"""Message encryption of the platform, compared with others' published results."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, strategies as st

from wxtcb.sandbox.push.crypto import encrypt, encrypt_and_sign, load_encryptor_factory, pad_message, sign, write_xml

from .receiver import fields

KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
APPID = "wxb11529c136998cb6"
PREFIX = b"aaaabbbbccccdddd"
CIPHERTEXT = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
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


def test_known_message_gives_known_ciphertext() -> None:
    """Tencent's Java sample contains Chinese: the length counts bytes."""
    assert encrypt(pad_message("我是中文abcd123".encode(), APPID, PREFIX), KEY) == CIPHERTEXT
    assert sign("pamtest", "1409304348", "xxxxxx", CIPHERTEXT) == "82c962d39941aa48552f90ef55aa323dc620cc10"


def test_ticket_is_encrypted_and_signed_as_by_the_platform() -> None:
    """A message that fills its blocks gets a whole block of padding; the signature covers the ciphertext as sent."""
    encrypted = encrypt_and_sign(
        TICKET.encode(),
        appid=APPID,
        message_token="pamtest",
        encoding_aes_key=KEY,
        timestamp=1413192605,
        nonce="nonce1",
        random_prefix=PREFIX,
    )
    assert encrypted.query == {
        "signature": sign("nonce1", "pamtest", "1413192605"),
        "timestamp": "1413192605",
        "nonce": "nonce1",
        "encrypt_type": "aes",
        "msg_signature": "8afc22936fd4a661123aee71a833d84c1617d21f",
    }
    assert fields(encrypted.body)["AppId"] == APPID


def test_xml_is_written_as_by_the_platform() -> None:
    """Strings are in CDATA, numbers are not."""
    assert write_xml(TICKET_FIELDS, separator="").decode() == TICKET


@example("]]>")
@given(st.text(st.characters(exclude_categories=["C"])))
def test_every_string_survives_xml(value: str) -> None:
    """A string that contains the end of CDATA survives too."""
    assert fields(write_xml({"A": value, "B": 1})) == {"A": value, "B": "1"}


@given(st.binary(max_size=100))
def test_padding_fills_32_bytes(message: bytes) -> None:
    """Padding has 1 to 32 bytes, each of which is their number."""
    padded = pad_message(message, APPID, PREFIX)
    assert len(padded) % 32 == 0
    assert 1 <= padded[-1] <= 32
    assert padded == PREFIX + len(message).to_bytes(4, "big") + message + APPID.encode() + padded[-1:] * padded[-1]


def test_missing_cryptography_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cryptography the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(ImportError, match=r"pip install 'wxtcb\[ticket\]'"):
        load_encryptor_factory()
