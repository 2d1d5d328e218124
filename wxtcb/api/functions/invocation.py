"""Calling functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_string, is_valid_unicode, to_secret_or_none

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session

FunctionEvent = Mapping[str, object] | Sequence[object] | str | bytes | None


@attrs.frozen
class InvocationResult(Reply):
    """What a function returned: `resp_data` is the text as it came, None where there was none."""

    resp_data: str | None = None

    @property
    def result(self) -> Any:
        """The value that `resp_data` holds as JSON; where it holds none (`is_json` tells), the text itself."""
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
    """Run a function with *event*, wait for its end, and return what it gave back.

    An event of bytes is sent as it is, a text as UTF-8, all else as JSON; one that is empty as ``{}``. It goes out with
    the token of the session, or with *token*, the access token of an authoriser. A function that is called in this way
    has 5 seconds, and no OPENID.

    What a function does is its own, so a call that may have run it is never sent again, not even when the platform is
    busy: that is `OutcomeUnknown`.

    Official interface: invokeCloudFunction, page cloudbase-batch/scf-mgnt/invokeCloudFunction.
    """
    token = to_secret_or_none(token)
    check_string("env", env)
    check_string("function_name", function_name)
    query = {"env": env, "name": function_name}
    return await session.call(INVOKE_CLOUD_FUNCTION, _encode_event(event) or b"{}", query=query, token=token)


def _encode_event(event: FunctionEvent) -> bytes:
    """Return the bytes of an event; none at all for one that is empty."""
    if event is None or isinstance(event, bytes):
        return event or b""
    if isinstance(event, str):
        if not is_valid_unicode(event):
            raise InvalidArgument("event must be in proper Unicode")
        return event.encode()
    if not isinstance(event, Mapping | Sequence):
        raise InvalidArgument(f"event must be a mapping, a list, a text, bytes or None, not {type(event).__name__}")
    try:
        data = orjson.dumps(event, default=_json_default)
    except orjson.JSONEncodeError as error:
        reason = str(error)
    else:
        if b"null" not in data or _is_finite(event):
            return data
        reason = "JSON has neither NaN nor infinity"
    raise InvalidArgument(f"event cannot be written as JSON: {reason}")


def _is_finite(value: object) -> bool:
    """Tell whether no number in an event is one of those that would go out as null."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, Sequence) or isinstance(value, str) or all(map(_is_finite, value))


def _json_default(value: object) -> object:
    """Return what stands in JSON for a mapping or a sequence that is none of Python's own."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
