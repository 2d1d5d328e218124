"""What the platform's console shows its developer beside appid and secret: the token and the key of its messages."""

from __future__ import annotations

import string
from random import Random
from typing import Final

from attrs import define, field

__all__ = ["MessageSettings"]

_ALPHABET: Final = string.ascii_letters + string.digits


@define(eq=False)
class MessageSettings:
    """The settings of message encryption, made up; the names are the console's.

    `previous_encoding_aes_key` is the key before the last change, None before there was one.
    """

    _random: Random = field(repr=False)
    message_token: str = field(init=False, repr=False)
    encoding_aes_key: str = field(init=False, repr=False)
    previous_encoding_aes_key: str | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.message_token = self._random_string(32)
        self.encoding_aes_key = self._random_string(43)

    def rotate_key(self) -> str:
        """Change the key; what is pushed from now on is encrypted with the new one."""
        self.previous_encoding_aes_key, self.encoding_aes_key = self.encoding_aes_key, self._random_string(43)
        return self.encoding_aes_key

    def _random_string(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))
