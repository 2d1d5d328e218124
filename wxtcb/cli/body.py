"""The body of a call as the command line gives it: an argument, a file, or standard input.

An argument can be read by every program of the machine, so it may hold nothing secret. What is secret is known by its
field's name, so that a call that is new to wxtcb is covered as well; one field too many only asks for a file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import orjson

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

_BOM: Final = b"\xef\xbb\xbf"
_SECRET: Final = re.compile(
    r"secret|passw|token|ticket|aes_?key|authorization|env_?(params|vars?$)|environment_?variables", re.IGNORECASE
)
_NAMES_OF_SECRETS: Final = re.compile(r"secret_?name|image_?pulls?_?secret", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell by its name whether a field holds credentials, or variables that may be some.

    `secret_name` holds but the name of one.
    """
    return bool(_SECRET.search(name)) and not _NAMES_OF_SECRETS.fullmatch(name)


def read_body(given: str) -> Mapping[str, object]:
    """Read a JSON object from an argument, from ``@file``, or from standard input (``-``).

    The values of secret fields are `Secret`, so that no error repeats them. Raises `InvalidArgument`, naming line and
    column of what is no JSON, and the place of a secret in an argument; no value is quoted.
    """
    is_argument = given != "-" and not given.startswith("@")
    source = "the body" if is_argument else given
    fields = _parse(os.fsencode(given) if is_argument else _read(given), source)
    found: list[str] = []
    try:
        body = {name: _conceal(value, name, found, hidden=is_secret(name)) for name, value in fields.items()}
    except RecursionError:
        raise InvalidArgument(f"{source}: it is nested too deeply; nothing was sent") from None
    if is_argument and found:
        raise InvalidArgument(
            f"{source}: {found[0]} is secret, and every program of this machine can read an argument: "
            "give the body as @file or -; nothing was sent"
        )
    return body


def _read(given: str) -> bytes:
    try:
        if given == "-":
            return sys.stdin.buffer.read() if sys.stdin else b""
        return Path(given[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    raise InvalidArgument(f"{given}: it cannot be read ({reason}); nothing was sent")


def _parse(data: bytes, source: str) -> dict[str, object]:
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    else:
        if isinstance(fields, dict):
            return fields
        reason = "a JSON object is needed"
    raise InvalidArgument(f"{source}: {reason}; nothing was sent")


def _conceal(value: object, place: str, found: list[str], *, hidden: bool) -> object:
    """Return a copy of *value* with its secret texts concealed, and add their places to *found*."""
    match value:
        case str() if hidden and value:
            found.append(place)
            return Secret(value)
        case dict():
            fields = cast("dict[str, object]", value)
            return {
                name: _conceal(each, f"{place}.{name}", found, hidden=hidden or is_secret(name))
                for name, each in fields.items()
            }
        case list():
            entries = enumerate(cast("list[object]", value))
            return [_conceal(each, f"{place}[{number}]", found, hidden=hidden) for number, each in entries]
        case _:
            return value
