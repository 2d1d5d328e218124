"""What the calls answer that do one thing in many places: the places where it went well, and those where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import orjson

from wxtcb._protocol.endpoint import Reply
from wxtcb._protocol.fields import JSON_IN_STRING, WireFormat, aliases


@attrs.frozen(kw_only=True)
class BatchEntry:
    """A place where it went well, by what the call names: a version, the versions' service, or a new version."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None


@attrs.frozen(kw_only=True)
class BatchFailure:
    """A place where it did not, by what the call names, and the platform's reason."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None
    errmsg: str | None = attrs.field(default=None, metadata=aliases("errormsg"))


@attrs.frozen(kw_only=True)
class BatchResult(Reply):
    """How it went, place by place."""

    succ_list: tuple[BatchEntry, ...] = ()
    fail_list: tuple[BatchFailure, ...] = ()

    @property
    def failed(self) -> Sequence[BatchFailure]:
        return self.fail_list


def _encode_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _decode_variables(value: object) -> object:
    found = JSON_IN_STRING.decode(value)
    return {} if found is None else found


VARIABLES_FORMAT: Final = WireFormat(JSON_IN_STRING.name, _encode_variables, _decode_variables)
