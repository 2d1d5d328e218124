"""One request and the platform's answer to it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from attrs import field, frozen

__all__ = ["TOKEN_PARAM", "Body", "PlatformRequest", "PlatformResponse", "SeenRequest", "success"]

TOKEN_PARAM: Final = "access_token"


@frozen
class PlatformRequest:
    """A request off the wire; `error_code` is the errcode of a body that cannot be read as a JSON object, else 0."""

    method: str
    path: str
    url: str = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    raw_body: bytes = field(repr=False)
    parsed_body: object = field(repr=False)
    error_code: int

    @classmethod
    def parse(cls, method: str, url: str, query: Mapping[str, str], raw_body: bytes | None) -> PlatformRequest:
        """Read a request; `raw_body` is None when the body was over the limit."""
        document, flaw = _parse_body(raw_body)
        return cls(method, url.partition("?")[0], url, query, raw_body or b"", document, flaw)


def _parse_body(raw_body: bytes | None) -> tuple[object, int]:
    if raw_body is None:
        return None, 45002
    if not raw_body:
        return None, 44002
    try:
        document = orjson.loads(raw_body)
    except orjson.JSONDecodeError:
        return None, 47001
    return document, 0 if type(document) is dict else 47001


@frozen
class PlatformResponse:
    """What the platform says; `acted` when the call took effect."""

    errcode: int
    body: bytes
    acted: bool


@frozen
class Body:
    """What passed the validator, so that its fields are known to have the types the facts state.

    Query parameters that the facts name stand among the fields; where a call sends one twice, the body's counts. `raw_body`
    is the body of a call whose body is not looked into.
    """

    fields: Mapping[str, object] = field(repr=False)
    raw_body: bytes = field(default=b"", repr=False)

    def string(self, name: str) -> str:
        """Return a required string."""
        return cast("str", self.fields[name])

    def optional_string(self, name: str) -> str | None:
        """Return an optional string."""
        return cast("str | None", self.fields.get(name))

    def integer(self, name: str, default: int) -> int:
        """Return an optional integer, *default* where it is not given."""
        return cast("int", self.fields.get(name, default))

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Return an optional boolean, *default* where it is not given."""
        return cast("bool", self.fields.get(name, default))

    def optional_object(self, name: str) -> Body | None:
        """Return an optional object."""
        row = cast("dict[str, object] | None", self.fields.get(name))
        return None if row is None else Body(row)

    def strings(self, name: str) -> list[str]:
        """Return an array of strings, none where it is not given."""
        return cast("list[str]", self.fields.get(name, []))

    def objects(self, name: str) -> list[Body]:
        """Return an array of objects, none where it is not given."""
        return [Body(row) for row in cast("list[dict[str, object]]", self.fields.get(name, []))]


def success(**fields: object) -> bytes:
    """Encode a success with these reply fields after errcode and errmsg."""
    return orjson.dumps({"errcode": 0, "errmsg": "ok", **fields})


@frozen
class SeenRequest:
    """What came and what was done with it; tokens, secrets, tickets and passwords are replaced by `***`.

    `errcode` is None where no readable one was answered. `outcome` is "answered", "not found", or the name of the
    fault that was played. `at` is on the world's clock. `acted`: the call took effect, whatever the client got to see.
    """

    path: str
    query: Mapping[str, str]
    body: Any = field(repr=False)  # whatever JSON the client sent; None if it was not JSON
    at: float = 0.0
    errcode: int | None = None
    outcome: str = "answered"
    acted: bool = False
