"""What object storage answers: nothing much, or the reason of a refusal in XML."""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

import attrs

MAX_BODY_BYTES: Final = 64 * 1024

_ERROR_FIELDS: Final = {"Code": "code", "Message": "message", "RequestId": "request_id"}
_MAX_TEXT_LENGTH: Final = 300


class _UnexpectedXml(Exception):
    """The XML declares things, as no answer of object storage does."""


@attrs.frozen
class StorageResponse:
    """An answer that is no file: its HTTP status, and what its XML tells, if it is some; any of that may be secret."""

    status: int
    code: str | None = attrs.field(default=None, repr=False)
    message: str | None = attrs.field(default=None, repr=False)
    request_id: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, status: int, body: bytes) -> StorageResponse:
        """Read the beginning of an answer."""
        return cls(status, **_parse_error(body)) if status >= 300 else cls(status)

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def signature_expired(self) -> bool:
        """Whether the signature came too late, so that a fresh one will do."""
        return self.status == 403 and "expired" in f"{self.code} {self.message}".lower()

    @property
    def reason(self) -> str:
        return f"HTTP {self.status}" + (f" {self.code}" if self.code else "")


def _parse_error(body: bytes) -> dict[str, str]:
    """Return the texts of the elements that are wanted, right below the root; as much as can be read of them."""
    texts: dict[str, str] = {}
    path: list[str] = []

    def begin(name: str, _: object) -> None:
        path.append(name)

    def end(_: str) -> None:
        path.pop()

    def take(text: str) -> None:
        if len(path) == 2 and path[0] == "Error" and path[1] in _ERROR_FIELDS:
            name = _ERROR_FIELDS[path[1]]
            texts[name] = (texts.get(name, "") + text)[:_MAX_TEXT_LENGTH]

    def refuse(*_: object) -> None:
        raise _UnexpectedXml

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, take
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _UnexpectedXml):
        return {} if not path else texts
    return texts
