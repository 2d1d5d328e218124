"""Results of batch calls, and the wire format of environment variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import orjson

from wxtcb._protocol.endpoint import Reply
from wxtcb._protocol.fields import JSON_IN_STRING, WireFormat, aliases


@attrs.frozen(kw_only=True)
class BatchEntry:
    """An entry that succeeded, by its environment, service and version; the fields depend on the call."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None


@attrs.frozen(kw_only=True)
class BatchFailure:
    """An entry that failed, by its environment, service and version, and the platform's reason."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None
    errmsg: str | None = attrs.field(default=None, metadata=aliases("errormsg"))


@attrs.frozen(kw_only=True)
class BatchResult(Reply):
    """Result of a batch call, entry by entry."""

    succ_list: tuple[BatchEntry, ...] = ()
    fail_list: tuple[BatchFailure, ...] = ()

    @property
    def failed(self) -> Sequence[BatchFailure]:
        return self.fail_list


# The platform's samples write "" where there are no variables, in requests and in replies.
def _encode_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _decode_variables(value: object) -> object:
    variables = JSON_IN_STRING.decode(value)
    return {} if variables is None else variables


VARIABLES_FORMAT: Final = WireFormat(JSON_IN_STRING.name, _encode_variables, _decode_variables)
