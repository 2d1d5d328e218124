"""Environment variables as JSON in a text, which is empty where there are none, as in the platform's samples."""

from __future__ import annotations

from typing import Final

import orjson

from wxtcb._protocol.fields import JSON_TEXT, Form


def _write_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _read_variables(value: object) -> object:
    found = JSON_TEXT.read(value)
    return {} if found is None else found


VARIABLES: Final = Form(JSON_TEXT.name, _write_variables, _read_variables)
