"""Message encryption of the platform: AES-256-CBC, padded to 32 bytes, with a SHA-1 signature. Pure.

Written from the protocol alone. It shares no code with the library's decryption, so that each checks the other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

RANDOM_PREFIX_LENGTH: Final = 16
# Twice the block size of AES: the protocol pads like PKCS#7, but to the length of the key.
_PADDED_SIZE: Final = 32


@frozen
class EncryptedMessage:
    """An encrypted message: the query to append to the receiver's URL, and the body."""

    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def write_xml(fields: Mapping[str, str | int], *, separator: str = "\n") -> bytes:
    """Return the fields as the platform's XML: strings in CDATA, numbers bare."""
    # "]]>" would end the section, so it is split between two sections.
    values = {
        name: value if isinstance(value, int) else f"<![CDATA[{value.replace(']]>', ']]]]><![CDATA[>')}]]>"
        for name, value in fields.items()
    }
    elements = "".join(f"<{name}>{value}</{name}>{separator}" for name, value in values.items())
    return f"<xml>{separator}{elements}</xml>".encode()


def pad_message(message: bytes, appid: str, random_prefix: bytes) -> bytes:
    """Return the plaintext of a message: prefix, length, message, appid, and padding to a multiple of 32 bytes."""
    plain = random_prefix + len(message).to_bytes(4, "big") + message + appid.encode()
    # From 1 to 32 bytes, never 0: the last byte always gives the number of padding bytes.
    missing = _PADDED_SIZE - len(plain) % _PADDED_SIZE
    return plain + bytes([missing]) * missing


def load_encryptor_factory() -> Callable[[bytes], CipherContext]:
    """Return a function from key to encryptor. Raises `ImportError` without the extra `ticket`."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as error:
        raise ImportError("pushes need cryptography for their encryption: pip install 'wxtcb[ticket]'") from error
    # The protocol has no initialisation vector of its own: it is the start of the key.
    return lambda key: Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()


def encrypt(plain: bytes, encoding_aes_key: str) -> str:
    """Return a padded plaintext encrypted, as base64."""
    # An EncodingAESKey is base64 without its final "=".
    encryptor = load_encryptor_factory()(base64.b64decode(f"{encoding_aes_key}="))
    return base64.b64encode(encryptor.update(plain) + encryptor.finalize()).decode()


def sign(*parts: str) -> str:
    """Return the signature of strings, which does not depend on their order."""
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


def encrypt_and_sign(
    message: bytes,
    *,
    appid: str,
    message_token: str,
    encoding_aes_key: str,
    timestamp: int,
    nonce: str,
    random_prefix: bytes,
) -> EncryptedMessage:
    """Return a message encrypted and signed for the third-party platform with this appid."""
    encrypted = encrypt(pad_message(message, appid, random_prefix), encoding_aes_key)
    query = {
        # The older signature does not cover the message; the platform sends both.
        "signature": sign(message_token, str(timestamp), nonce),
        "timestamp": str(timestamp),
        "nonce": nonce,
        "encrypt_type": "aes",
        "msg_signature": sign(message_token, str(timestamp), nonce, encrypted),
    }
    return EncryptedMessage(query, write_xml({"AppId": appid, "Encrypt": encrypted}, separator="\n    "))
