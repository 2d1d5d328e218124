"""Invocation of functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import InvalidArgument
from wxtcb.validation import is_valid_unicode, to_secret_or_none

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session

FunctionEvent = Mapping[str, object] | Sequence[object] | str | bytes | None


@attrs.frozen
class InvocationResult(Reply):
    """Return value of a function: `resp_data` is the text that the platform returned, or None."""

    resp_data: str | None = None

    # A function returns any JSON value, so `Any`: `object` would force a cast on every caller.
    @property
    def result(self) -> Any:
        """`resp_data` parsed as JSON, or the text itself if it is not JSON; see `is_json`."""
        return self._parsed[0]

    @property
    def is_json(self) -> bool:
        """Whether `resp_data` is JSON."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[Any, bool]:
        if self.resp_data is None:
            return None, False
        try:
            return orjson.loads(self.resp_data), True
        except orjson.JSONDecodeError:
            return self.resp_data, False


# Only the caller knows whether the function may run twice.
INVOKE_CLOUD_FUNCTION: Final = Endpoint(
    "/tcb/invokecloudfunction",
    InvocationResult,
    Repeat.NEVER,
    name="invoke_cloud_function",
    official="invokeCloudFunction",
)

ENDPOINTS: Final = (INVOKE_CLOUD_FUNCTION,)


async def invoke_cloud_function(
    session: Session, env: str, function_name: str, event: FunctionEvent = None, *, token: str | Secret | None = None
) -> InvocationResult:
    """Invoke a function with *event*, wait for it, and return its result.

    Bytes are sent unchanged, a string as UTF-8, everything else as JSON, and an empty event as ``{}``. The call uses
    the session's token, or *token*, the access token of an authoriser. The platform allows 5 seconds, and passes no
    OPENID to the function.

    A call that may have run the function is never sent again, not even if the platform is busy (-1): it raises
    `OutcomeUnknown`. Raises `InvalidArgument` for an event that cannot be written as JSON.

    Official interface: invokeCloudFunction, page cloudbase-batch/scf-mgnt/invokeCloudFunction.
    """
    token = to_secret_or_none(token)
    query = {"env": env, "name": function_name}
    return await session.call(INVOKE_CLOUD_FUNCTION, _encode_event(event) or b"{}", query=query, token=token)


def _encode_event(event: FunctionEvent) -> bytes:
    if event is None or isinstance(event, bytes):
        return event or b""
    if isinstance(event, str):
        if not is_valid_unicode(event):
            raise InvalidArgument("event is not valid Unicode: it contains a lone surrogate")
        return event.encode()
    try:
        data = orjson.dumps(event, default=_json_default)
    except orjson.JSONEncodeError as error:
        raise InvalidArgument(f"event cannot be written as JSON: {error}") from error
    # orjson writes NaN and infinity as null. Searching the bytes first avoids the walk through most events.
    if b"null" in data and not _is_finite(event):
        raise InvalidArgument("event cannot be written as JSON: it contains NaN or infinity")
    return data


def _is_finite(value: object) -> bool:
    """Return whether all numbers in an event are finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, Sequence) or isinstance(value, str) or all(map(_is_finite, value))


def _json_default(value: object) -> object:
    """Return a dict or list for a mapping or sequence that orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
