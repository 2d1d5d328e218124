"""Pushes as the platform sends them, encrypted by the sandbox, which shares no code with the receiver."""

from __future__ import annotations

from urllib.parse import urlencode

from wxtcb.sandbox.push.crypto import RANDOM_PREFIX_LENGTH, encrypt, encrypt_and_sign, pad_message

APPID = "wxb11529c136998cb6"
TOKEN = "pamtestpamtestpamtestpamtest1234"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"


def pushed(message, *, appid=APPID, key=KEY, at=1, random=b"a" * RANDOM_PREFIX_LENGTH):
    """Return query and body of a push."""
    envelope = encrypt_and_sign(
        message.encode(),
        appid=appid,
        message_token=TOKEN,
        encoding_aes_key=key,
        timestamp=at,
        nonce="nonce1",
        random_prefix=random,
    )
    return urlencode(envelope.query).encode(), envelope.body


def encrypted_message(message, *, appid=APPID, key=KEY, random=b"a" * RANDOM_PREFIX_LENGTH):
    """Return the encrypted form of a message in bytes."""
    return encrypt(pad_message(message, appid, random), key).encode()
