"""How a sealed push is opened: its signature, its cipher, its padding. Pure: no clock, no loop, no network.

It needs the extra ``[ticket]``.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha1
from hmac import compare_digest
from typing import Final

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

PADDING_BLOCK_SIZE: Final = 32
_RANDOM_SIZE: Final = 16
_HEADER_SIZE: Final = _RANDOM_SIZE + 4
_AES_BLOCK_SIZE: Final = 16
_ENCODED_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9]{43}")


class InvalidPush(Exception):
    """A push is not accepted; `reason` quotes nothing of it, `status` is the HTTP status to answer with."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@attrs.frozen(eq=False)
class AesKey:
    """The key that an EncodingAESKey stands for, and the block it starts from."""

    _cipher: Cipher[CBC] = attrs.field(repr=False)

    @classmethod
    def from_encoded(cls, name: str, encoded: Secret) -> AesKey:
        """Read an EncodingAESKey; any other text raises `InvalidArgument`, which names it *name*."""
        if not _ENCODED_KEY_PATTERN.fullmatch(encoded.reveal()):
            raise InvalidArgument(
                f"{name} must be the EncodingAESKey of WeChat's console, 43 characters of A-Z, a-z and 0-9"
            )
        key = base64.b64decode(encoded.reveal() + "=")
        return cls(Cipher(AES(key), CBC(key[:_AES_BLOCK_SIZE])))

    def decrypt(self, encrypted: bytes) -> bytes:
        decryptor = self._cipher.decryptor()
        return decryptor.update(encrypted) + decryptor.finalize()


@attrs.frozen(eq=False)
class MessageCrypto:
    """What both ends of a push know: the platform, the token that signs, and the keys, each of which may open."""

    component_appid: str
    message_token: Secret
    keys: tuple[AesKey, ...] = attrs.field(repr=False)

    def sign(self, timestamp: bytes, nonce: bytes, encrypted: bytes) -> bytes:
        """Return the `msg_signature` of an encrypted message: 40 lowercase hexadecimal digits."""
        parts = sorted((self.message_token.reveal().encode(), timestamp, nonce, encrypted))
        return sha1(b"".join(parts), usedforsecurity=False).hexdigest().encode()

    def is_valid_signature(self, signature: bytes, timestamp: bytes, nonce: bytes, encrypted: bytes) -> bool:
        """Tell whether *signature* is the one that `sign` gives, in the same time wherever they differ."""
        return compare_digest(signature, self.sign(timestamp, nonce, encrypted))

    def decrypt(self, encrypted: bytes) -> bytes:
        """Return the message that was sealed for this platform; anything else raises `InvalidPush`."""
        whole = _decode_base64(encrypted)
        for key in self.keys:
            content = _remove_padding(key.decrypt(whole))
            if content is not None and len(content) >= _HEADER_SIZE + _message_length(content):
                return self._check_recipient(content)
        raise InvalidPush("the message cannot be decrypted with the EncodingAESKey")

    def _check_recipient(self, content: bytes) -> bytes:
        end = _HEADER_SIZE + _message_length(content)
        if not compare_digest(content[end:], self.component_appid.encode()):
            raise InvalidPush("the message is for another platform", 403)
        return content[_HEADER_SIZE:end]


def _decode_base64(encrypted: bytes) -> bytes:
    """Undo base64, all of it by the standard alphabet; the cipher takes whole blocks only."""
    try:
        whole = base64.b64decode(encrypted, validate=True)
    except binascii.Error:
        whole = b""
    if not whole or len(whole) % _AES_BLOCK_SIZE:
        raise InvalidPush("Encrypt is no base64 of whole blocks")
    return whole


def _remove_padding(padded: bytes) -> bytes | None:
    """Take the padding off, 1 to 32 bytes that each hold their number, or return None if there is none."""
    missing = padded[-1]
    if not 1 <= missing <= PADDING_BLOCK_SIZE or not padded.endswith(bytes([missing]) * missing):
        return None
    return padded[:-missing]


def _message_length(content: bytes) -> int:
    return int.from_bytes(content[_RANDOM_SIZE:_HEADER_SIZE], "big")
