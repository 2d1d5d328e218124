"""Responses of object storage: their status, and the error in the XML body."""

from __future__ import annotations

from typing import Final
from xml.parsers import expat

import attrs

from wxtcb._protocol.limits import LIMITS

MAX_BODY_BYTES: Final = LIMITS.storage_reply_bytes

_ERROR_FIELDS: Final = {"Code": "code", "Message": "message", "RequestId": "request_id"}
_MAX_TEXT_LENGTH: Final = 300


class _UnexpectedXml(Exception):
    """The XML contains a DOCTYPE, which no response of object storage does."""


@attrs.frozen
class StorageResponse:
    """Response that is not a file: its HTTP status, and the error from its XML body, which may contain secrets."""

    status: int
    code: str | None = attrs.field(default=None, repr=False)
    message: str | None = attrs.field(default=None, repr=False)
    request_id: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, status: int, body: bytes) -> StorageResponse:
        """Return the response for *status* and *body*, which may be truncated."""
        return cls(status, **_parse_error(body)) if status >= 300 else cls(status)

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def signature_expired(self) -> bool:
        """Whether the link expired before it was used, so that a new link will work."""
        # COS reports this with the code AccessDenied and the message "Request has expired".
        return self.status == 403 and "expired" in f"{self.code} {self.message}".lower()

    @property
    def reason(self) -> str:
        return f"HTTP {self.status}" + (f" {self.code}" if self.code else "")


def _parse_error(body: bytes) -> dict[str, str]:
    """Return the bounded direct children of an XML error's root; of a truncated document, those before the break."""
    texts: dict[str, str] = {}
    path: list[str] = []

    def begin(name: str, _: object) -> None:
        path.append(name)

    def end(_: str) -> None:
        path.pop()

    def read_text(text: str) -> None:
        # expat may deliver the text of one element in several pieces.
        if len(path) == 2 and path[0] == "Error" and path[1] in _ERROR_FIELDS:
            name = _ERROR_FIELDS[path[1]]
            texts[name] = (texts.get(name, "") + text)[:_MAX_TEXT_LENGTH]

    def reject(*_: object) -> None:
        # A DOCTYPE can define entities that expand to gigabytes, or name files. Error bodies have none.
        raise _UnexpectedXml

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, read_text
    parser.StartDoctypeDeclHandler = reject
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _UnexpectedXml):
        return {} if not path else texts
    return texts
