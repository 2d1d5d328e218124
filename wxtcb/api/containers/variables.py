"""Environment variables as JSON in a text, which is empty where there are none, as in the platform's samples."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb._protocol.fields import JSON_IN_STRING, WireFormat


def _encode_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _decode_variables(value: object) -> object:
    found = JSON_IN_STRING.decode(value)
    return {} if found is None else found


VARIABLES_FORMAT: Final = WireFormat(JSON_IN_STRING.name, _encode_variables, _decode_variables)
