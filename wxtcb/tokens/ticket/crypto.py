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
    """A push that is not accepted; `reason` quotes nothing of it, `status` is the HTTP status if it is not signed."""

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

    def decrypt(self, encrypted: bytes) -> bytes | None:
        """Return the decrypted message; return None if it cannot be decrypted, or is for another platform.

        The work depends only on the length of the message and on the number of keys. If it depended on which check
        fails, the time of the answer would be a padding oracle: anyone who can sign messages could decrypt and encrypt
        them without the key.
        """
        try:
            blocks = base64.b64decode(encrypted, validate=True)
        except binascii.Error:
            blocks = b""
        if not blocks or len(blocks) % _AES_BLOCK_SIZE:
            # Decrypts to nonsense, and takes as long as a message of about this length.
            blocks = bytes(len(encrypted) // _AES_BLOCK_SIZE * _AES_BLOCK_SIZE + 2 * _AES_BLOCK_SIZE)
        message = None
        # All keys, also after one that decrypts.
        for key in self.keys:
            opened = _open_padded(key.decrypt(blocks), self.component_appid.encode())
            message = message if opened is None else opened
        return message


def _open_padded(padded: bytes, appid: bytes) -> bytes | None:
    """Return the message in a decrypted *padded* content; return None if padding, length or appid is wrong."""
    size = padded[-1]
    # Zero if the padding has 1 to 32 bytes, each of which is their number. Every position is compared, without `and`
    # and `or`, which would stop at the first difference.
    wrong = (size - 1) // PADDING_BLOCK_SIZE
    for position, byte in enumerate(padded[: -PADDING_BLOCK_SIZE - 1 : -1], 1):
        wrong |= (byte ^ size) * (position <= size)
    start = len(padded) - size - len(appid)
    # The platform of the recipient is part of the ciphertext, so it cannot be forged without the key. A wrong key
    # yields valid padding about once in 256 messages, but then another length and appid. Both are compared at once, and
    # as bytes, because large numbers take longer. The zeros in front give the slice its size for any padding.
    framed = bytes(256 + len(appid)) + padded
    end = len(framed) - size
    expected = ((start - _HEADER_SIZE) % 2**32).to_bytes(4, "big") + appid
    wrong |= not compare_digest(padded[_RANDOM_SIZE:_HEADER_SIZE] + framed[end - len(appid) : end], expected)
    return None if wrong else padded[_HEADER_SIZE:start]
