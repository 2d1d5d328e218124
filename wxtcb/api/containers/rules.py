"""What the platform's pages say of numbers and environment variables, checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, cast

import orjson

from wxtcb.arguments import check_mapping, check_text, is_sendable
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.spelling import JSON_TEXT, Form

Variables = Mapping[str, str | Secret]


def _write_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _read_variables(value: object) -> object:
    found = JSON_TEXT.read(value)
    return {} if found is None else found


VARIABLES: Final = Form(JSON_TEXT.name, _write_variables, _read_variables)
"""Environment variables as JSON in a text, which is empty where there are none, as in the platform's samples."""


def check_percent(name: str, value: object) -> None:
    """Refuse what is no whole percentage."""
    if type(value) is not int or not 0 <= value <= 100:
        raise InvalidArgument(f"{name} must be a whole number from 0 to 100, not {value!r}")


def check_min_num(name: str, value: object) -> None:
    """Refuse what is no least number of replicas."""
    if type(value) is not int or value < 0:
        raise InvalidArgument(f"{name} must be a whole number from 0 on, not {value!r}")


def check_max_num(name: str, value: object) -> None:
    """Refuse what is no greatest number of replicas."""
    if type(value) is not int or value > 50:
        raise InvalidArgument(f"{name} must be a whole number up to 50, not {value!r}")


def check_number(name: str, value: object) -> None:
    """Refuse what is no finite number."""
    if type(value) not in (int, float) or not math.isfinite(cast("float", value)):
        raise InvalidArgument(f"{name} must be a number, not {value!r}")


def check_variables(name: str, value: object) -> None:
    """Refuse what is no mapping from names to texts or secrets, of which none is quoted."""
    check_mapping(name, value)
    for key, text in cast("Mapping[object, object]", value).items():
        check_text(f"{name}: a name", key)
        if not isinstance(text, str | Secret) or not is_sendable(text):
            raise InvalidArgument(f"{name}: {key} must be a text or a Secret, in proper Unicode")


def as_variables(value: Variables | None) -> Variables | None:
    """Copy a mapping, so that it stays as it was checked; what is none is left to be refused."""
    return dict(value) if isinstance(value, Mapping) else value
