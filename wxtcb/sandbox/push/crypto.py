"""The platform's message encryption: AES-256-CBC, padded to 32 bytes, under a SHA-1 signature. Pure.

Written from the protocol alone, like everything here: what the library reads, and what is written here, have no line
in common.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

__all__ = [
    "EncryptedMessage",
    "encrypt",
    "encrypt_and_sign",
    "load_encryptor_factory",
    "pad_message",
    "sign",
    "write_xml",
]

RANDOM_PREFIX_LENGTH: Final = 16
_BLOCK_SIZE: Final = 32


@frozen
class EncryptedMessage:
    """A message as it goes over the wire: the query behind the receiver's address, and the body."""

    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def write_xml(fields: Mapping[str, str | int], *, separator: str = "\n") -> bytes:
    """Write fields as the platform does: texts in CDATA, numbers bare."""
    return f"<xml>{separator}{''.join(f'<{name}>{_xml_value(it)}</{name}>{separator}' for name, it in fields.items())}</xml>".encode()


def _xml_value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"<![CDATA[{value.replace(']]>', ']]]]><![CDATA[>')}]]>"


def pad_message(message: bytes, appid: str, random_prefix: bytes) -> bytes:
    """Put a message between 16 bytes of filler and the appid, and pad the whole to a multiple of 32 bytes."""
    plain = random_prefix + len(message).to_bytes(4, "big") + message + appid.encode()
    missing = _BLOCK_SIZE - len(plain) % _BLOCK_SIZE
    return plain + bytes([missing]) * missing


def load_encryptor_factory() -> Callable[[bytes], CipherContext]:
    """Return what makes an encryptor of a key; `ImportError` says what to install where that is missing."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise ImportError(
            "pushes are encrypted, for which cryptography is needed: pip install 'wxtcb[ticket]'"
        ) from None
    return lambda key: Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()


def encrypt(plain: bytes, encoding_aes_key: str) -> str:
    """Encrypt what is framed; its first block is bound to the key, for the protocol has no other start."""
    encryptor = load_encryptor_factory()(base64.b64decode(f"{encoding_aes_key}="))
    return base64.b64encode(encryptor.update(plain) + encryptor.finalize()).decode()


def sign(*parts: str) -> str:
    """Sign texts, in whatever order they are given."""
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
    """Encrypt and sign a message for the platform of that appid."""
    encrypted = encrypt(pad_message(message, appid, random_prefix), encoding_aes_key)
    at = str(timestamp)
    query = {
        "signature": sign(message_token, at, nonce),
        "timestamp": at,
        "nonce": nonce,
        "encrypt_type": "aes",
        "msg_signature": sign(message_token, at, nonce, encrypted),
    }
    return EncryptedMessage(query, write_xml({"AppId": appid, "Encrypt": encrypted}, separator="\n    "))
