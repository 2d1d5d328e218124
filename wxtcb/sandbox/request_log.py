"""Record of requests: the newest ones, redacted, and the failed ones by request id (rid), for openapi/rid/get."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

import orjson
from attrs import Factory, define, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import DAY
from wxtcb.sandbox.request import TOKEN_PARAMS, PlatformRequest, SeenRequest
from wxtcb.sandbox.schema import SECRET_FIELDS

_REDACTED: Final = "***"
_SECRET_NAMES: Final = SECRET_FIELDS.union(TOKEN_PARAMS)
_REDACTED_TOKEN_QUERY: Final = MappingProxyType({TOKEN_PARAMS[0]: _REDACTED})
# No call nests this deep, and orjson encodes fewer than 254 levels: a deep body must not break GET /_sandbox/seen.
_MAX_DEPTH: Final = 32
_MAX_SEEN_REQUESTS: Final = 100_000
_MAX_SEEN_BYTES: Final = 32 << 20
# Bodies up to this length are counted as received, longer ones as recorded: encoding each body would cost too much.
_SMALL_BODY_BYTES: Final = 4096
_MAX_FAILED_REQUESTS: Final = 10_000
_MAX_FAILED_TEXT_BYTES: Final = 1024
_RID_IN_BODY: Final = re.compile(rb"rid: ([0-9a-f-]+)")
_RID_FORMAT: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]+")


def redact_query(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return the query with the token and all parameters with the name of a secret replaced."""
    # Nearly every request has the token and nothing else: the shared mapping saves a dict for each of 100,000 records.
    if len(query) == 1 and TOKEN_PARAMS[0] in query:
        return _REDACTED_TOKEN_QUERY
    return {name: _REDACTED if name in _SECRET_NAMES else value for name, value in query.items()}


def redact_body(node: object, depth: int = 0) -> object:
    """Return a body without secrets, without anything below 32 levels, and with long strings truncated."""
    # Uploaded code comes as one string of up to 30 MB; 100,000 of them must not be held in memory.
    if isinstance(node, str) and len(node) > 4096:
        return f"{node[:64]}... ({len(node)} characters)"
    if not isinstance(node, dict | list):
        return node
    if depth == _MAX_DEPTH:
        return _REDACTED
    if isinstance(node, list):
        return [redact_body(item, depth + 1) for item in cast("list[object]", node)]
    items = cast("dict[str, object]", node).items()
    return {name: _REDACTED if name in _SECRET_NAMES else redact_body(value, depth + 1) for name, value in items}


@define(eq=False)
class SeenLog:
    """The newest requests: 100,000 at most, and 32 MiB of URLs and bodies."""

    requests: deque[SeenRequest] = Factory(deque[SeenRequest])
    _size: int = 0

    def record(self, request: PlatformRequest, at: float, errcode: int | None, outcome: str, *, acted: bool) -> None:
        """Record a request without its secrets, and drop the oldest ones above the limits."""
        body = redact_body(request.parsed_body)
        body_size = len(request.raw_body) if len(request.raw_body) <= _SMALL_BODY_BYTES else len(orjson.dumps(body))
        query, size = redact_query(request.query), len(request.url) + body_size
        self.add(SeenRequest(request.path, query, body, at, errcode, outcome, acted, size))

    def add(self, seen: SeenRequest) -> None:
        if not self.requests:
            # A test may have cleared them.
            self._size = 0
        self.requests.append(seen)
        self._size += seen.size
        while self._size > _MAX_SEEN_BYTES or len(self.requests) > _MAX_SEEN_REQUESTS:
            self._size -= self.requests.popleft().size


@frozen
class FailedRequest:
    """A request whose response was an error; like the platform, it keeps the token in `request_url`, the query."""

    invoke_time: float
    request_url: str = field(repr=False)
    request_body: str = field(repr=False)
    response_body: str = field(repr=False)


@define(eq=False)
class FailedRequestLog:
    """The last 10,000 failed requests by rid."""

    _requests: OrderedDict[str, FailedRequest] = Factory(OrderedDict[str, FailedRequest])

    def record(self, now: float, query: str, body: bytes, response: bytes) -> None:
        """Record a request if its response contains a rid; *now* is in Unix seconds."""
        # The rid is read from the bytes sent, because a fault may have removed or replaced the errmsg.
        found = _RID_IN_BODY.search(response)
        if found is None:
            return
        # The cut may split a character.
        texts = [data[:_MAX_FAILED_TEXT_BYTES].decode(errors="replace") for data in (body, response)]
        self._requests[found[1].decode()] = FailedRequest(now, query[:_MAX_FAILED_TEXT_BYTES], *texts)
        if len(self._requests) > _MAX_FAILED_REQUESTS:
            self._requests.popitem(last=False)

    def get(self, rid: str, now: float) -> FailedRequest:
        """Return a request, or raise `PlatformError` for a rid that is malformed, unknown, or older than 7 days."""
        if _RID_FORMAT.fullmatch(rid) is None:
            raise platform_error(76002, "invalid rid")
        failed = self._requests.get(rid)
        if failed is None:
            raise platform_error(76001, "rid not found")
        if now - failed.invoke_time > 7 * DAY:
            raise platform_error(76004, "rid is expired")
        return failed
