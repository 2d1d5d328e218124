"""Message crypto of pushes: signature, AES-CBC and padding. Pure: no clock, no event loop, no network.

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

# The format of WeChat's messages: AES-256-CBC, PKCS#7 padding to 32 bytes (not to the AES block of 16), and inside
# 16 random bytes, the length of the message (4 bytes, big-endian), the message, and the appid of the recipient.
PADDING_BLOCK_SIZE: Final = 32
_RANDOM_SIZE: Final = 16
_HEADER_SIZE: Final = _RANDOM_SIZE + 4
_AES_BLOCK_SIZE: Final = 16


class InvalidPush(Exception):
    """A push that is not accepted; `reason` quotes nothing of it, `status` is the HTTP status of the answer."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@attrs.frozen(eq=False)
class AesKey:
    """The AES key that an EncodingAESKey encodes, with its initialisation vector."""

    _cipher: Cipher[CBC] = attrs.field(repr=False)

    @classmethod
    def from_encoded(cls, name: str, encoded: object) -> AesKey:
        """Decode an EncodingAESKey; raise `InvalidArgument`, which calls it *name*, if it is not valid."""
        if not isinstance(encoded, Secret) or not re.fullmatch(r"[A-Za-z0-9]{43}", encoded.reveal()):
            must = "must be the EncodingAESKey of WeChat's console, 43 characters of A-Z, a-z and 0-9"
            raise InvalidArgument(f"{name} {must}")
        # 43 characters are 32 bytes without the padding character. The IV is the beginning of the key, not random.
        key = base64.b64decode(encoded.reveal() + "=")
        return cls(Cipher(AES(key), CBC(key[:_AES_BLOCK_SIZE])))

    def decrypt(self, encrypted: bytes) -> bytes:
        decryptor = self._cipher.decryptor()
        return decryptor.update(encrypted) + decryptor.finalize()


@attrs.frozen(eq=False)
class MessageCrypto:
    """The secrets that both ends of a push share: the token for signatures, and the keys, any of which may decrypt."""

    component_appid: str
    message_token: Secret
    keys: tuple[AesKey, ...] = attrs.field(repr=False)

    def sign(self, timestamp: bytes, nonce: bytes, encrypted: bytes) -> bytes:
        """Return the `msg_signature` of an encrypted message: 40 lowercase hexadecimal digits."""
        parts = sorted((self.message_token.reveal().encode(), timestamp, nonce, encrypted))
        return sha1(b"".join(parts), usedforsecurity=False).hexdigest().encode()

    def is_valid_signature(self, signature: bytes, timestamp: bytes, nonce: bytes, encrypted: bytes) -> bool:
        """Return whether *signature* equals the result of `sign`, in constant time."""
        return compare_digest(signature, self.sign(timestamp, nonce, encrypted))

    def decrypt(self, encrypted: bytes) -> bytes:
        """Return the decrypted message; raise `InvalidPush` if it cannot be decrypted or is for another platform."""
        try:
            blocks = base64.b64decode(encrypted, validate=True)
        except binascii.Error:
            blocks = b""
        if not blocks or len(blocks) % _AES_BLOCK_SIZE:
            raise InvalidPush("Encrypt is not base64 of whole AES blocks")
        for key in self.keys:
            content = _remove_padding(key.decrypt(blocks))
            if content is None:
                continue
            end = _HEADER_SIZE + int.from_bytes(content[_RANDOM_SIZE:_HEADER_SIZE], "big")
            # A wrong key yields valid padding about once in 256 messages, but then a length beyond the end.
            if len(content) < end:
                continue
            # The platform of the recipient is part of the ciphertext, so it cannot be forged without the key.
            if not compare_digest(content[end:], self.component_appid.encode()):
                raise InvalidPush("the message is for another platform", 403)
            return content[_HEADER_SIZE:end]
        raise InvalidPush("the message cannot be decrypted with the EncodingAESKey")


def _remove_padding(padded: bytes) -> bytes | None:
    """Return *padded* without its PKCS#7 padding of 1 to 32 bytes; return None if the padding is invalid."""
    size = padded[-1]
    if not 1 <= size <= PADDING_BLOCK_SIZE or not padded.endswith(bytes([size]) * size):
        return None
    return padded[:-size]
