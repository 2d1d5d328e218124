"""Requests to the simulated platform, as values: as received, as validated, and as recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from attrs import field, frozen

from wxtcb.sandbox.errors import platform_error

# wechatpy and node-easywechat send the token under both names, and the platform is not known to reject that.
TOKEN_PARAMS: Final = ("access_token", "component_access_token")
MALFORMED_JSON: Final = 47001


@frozen
class PlatformRequest:
    """A request as received; `error_code` is 0, or the errcode of a body that is not a JSON object."""

    method: str
    path: str
    url: str = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    raw_body: bytes = field(repr=False)
    parsed_body: object = field(repr=False)
    error_code: int

    @classmethod
    def parse(cls, method: str, url: str, query: Mapping[str, str], raw_body: bytes | None) -> PlatformRequest:
        """Return the request with its body parsed; `raw_body` is None if the body was longer than allowed."""
        parsed_body, error_code = None, 45002 if raw_body is None else 44002
        if raw_body:
            # JSON that is not an object is kept as well, so that the request log can show it.
            with contextlib.suppress(orjson.JSONDecodeError):
                parsed_body = orjson.loads(raw_body)
            error_code = 0 if type(parsed_body) is dict else MALFORMED_JSON
        return cls(method, url.partition("?")[0], url, query, raw_body or b"", parsed_body, error_code)


@frozen
class Body:
    """The fields of a validated request, query parameters included; `raw_body` is set if the body is not parsed."""

    fields: Mapping[str, object] = field(repr=False)
    raw_body: bytes = field(default=b"", repr=False)

    # The casts are safe because the validator has compared every field with the facts.

    def string(self, name: str) -> str:
        return cast("str", self.fields[name])

    def optional_string(self, name: str) -> str | None:
        return cast("str | None", self.fields.get(name))

    def integer(self, name: str, default: int) -> int:
        return cast("int", self.fields.get(name, default))

    def boolean(self, name: str, *, default: bool = False) -> bool:
        return cast("bool", self.fields.get(name, default))

    def optional_object(self, name: str) -> Body | None:
        fields = cast("dict[str, object] | None", self.fields.get(name))
        return None if fields is None else Body(fields)

    def strings(self, name: str) -> list[str]:
        return cast("list[str]", self.fields.get(name, []))

    def objects(self, name: str) -> list[Body]:
        return [Body(fields) for fields in cast("list[dict[str, object]]", self.fields.get(name, []))]

    def page(self, *, max_size: int | None = None) -> slice[int, int]:
        """Return the page that `limit` and `offset` select, shortened to *max_size* entries."""
        limit, offset = self.integer("limit", 20), self.integer("offset", 0)
        if limit < 1 or offset < 0:
            raise platform_error(40097, "limit must be at least 1 and offset at least 0")
        return slice(offset, offset + (limit if max_size is None else min(limit, max_size)))


def check_json_object(path: str, text: str) -> None:
    """Raise `PlatformError` unless *text* is a JSON object."""
    try:
        is_object = type(orjson.loads(text)) is dict
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        raise platform_error(40097, f"{path} must be a JSON object in a string")


@frozen
class SeenRequest:
    """A recorded request; tokens, secrets, tickets and passwords are replaced by `***`.

    - `at`: seconds on the world's clock.
    - `errcode`: None if the response contained none that a client could read.
    - `outcome`: "answered", "not found", or the value of the `FaultKind` that applied.
    - `acted`: whether the call took effect, even if the response reported an error.
    - `size`: bytes of the recorded URL and body, by which the number of recorded requests is limited.
    """

    path: str
    query: Mapping[str, str]
    # Any, so that tests can index it: the JSON that the client sent, None if it was not JSON.
    body: Any = field(repr=False)
    at: float = 0.0
    errcode: int | None = None
    outcome: str = "answered"
    acted: bool = False
    size: int = 0
