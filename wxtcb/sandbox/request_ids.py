"""Log of failed requests by request id (rid), which openapi/rid/get (getRidInfo) reads."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from attrs import Factory, define, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import DAY

_RID_IN_BODY: Final = re.compile(rb"rid: ([0-9a-f-]+)")
_RID_FORMAT: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]+")
_RETENTION_SECONDS: Final = 7 * DAY
_MAX_REQUESTS: Final = 10_000
_MAX_BODY_LENGTH: Final = 1024


@frozen
class FailedRequest:
    """A request whose response was an error.

    `invoke_time` is in Unix seconds. Bodies are truncated to 1,024 bytes. Nothing is redacted, since the platform
    redacts nothing either: `request_url` is the query with the token.
    """

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
        texts = [data[:_MAX_BODY_LENGTH].decode(errors="replace") for data in (body, response)]
        self._requests[found[1].decode()] = FailedRequest(now, query, *texts)
        if len(self._requests) > _MAX_REQUESTS:
            self._requests.popitem(last=False)

    def get(self, rid: str, now: float) -> FailedRequest:
        """Return a request, or raise `PlatformError` for a rid that is malformed, unknown, or older than 7 days."""
        if _RID_FORMAT.fullmatch(rid) is None:
            raise platform_error(76002, "invalid rid")
        failed = self._requests.get(rid)
        if failed is None:
            raise platform_error(76001, "rid not found")
        if now - failed.invoke_time > _RETENTION_SECONDS:
            raise platform_error(76004, "rid is expired")
        return failed
