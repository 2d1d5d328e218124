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
_SECRET_NAME: Final = re.compile(
    r"secret|passw|token|ticket|aes_?key|authorization|env_?(params|vars?$)|environment_?variables", re.IGNORECASE
)
_SECRET_REFERENCE_NAME: Final = re.compile(r"secret_?name|image_?pulls?_?secret", re.IGNORECASE)


def is_secret_field(name: str) -> bool:
    """Tell by its name whether a field holds credentials, or variables that may be some.

    `secret_name` holds but the name of one.
    """
    return bool(_SECRET_NAME.search(name)) and not _SECRET_REFERENCE_NAME.fullmatch(name)


def read_body(argument: str) -> Mapping[str, object]:
    """Read a JSON object from an argument, from ``@file``, or from standard input (``-``).

    The values of secret fields are `Secret`, so that no error repeats them. Raises `InvalidArgument`, naming line and
    column of what is no JSON, and the place of a secret in an argument; no value is quoted.
    """
    is_argument = argument != "-" and not argument.startswith("@")
    source = "the body" if is_argument else argument
    fields = _parse_object(os.fsencode(argument) if is_argument else _read_body_bytes(argument), source)
    found: list[str] = []
    try:
        body = {
            name: _wrap_secrets(value, name, found, in_secret=is_secret_field(name)) for name, value in fields.items()
        }
    except RecursionError:
        raise InvalidArgument(f"{source}: it is nested too deeply; nothing was sent") from None
    if is_argument and found:
        raise InvalidArgument(
            f"{source}: {found[0]} is secret, and every program of this machine can read an argument: "
            "give the body as @file or -; nothing was sent"
        )
    return body


def _read_body_bytes(argument: str) -> bytes:
    try:
        if argument == "-":
            return sys.stdin.buffer.read() if sys.stdin else b""
        return Path(argument[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    raise InvalidArgument(f"{argument}: it cannot be read ({reason}); nothing was sent")


def _parse_object(data: bytes, source: str) -> dict[str, object]:
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    else:
        if isinstance(fields, dict):
            return fields
        reason = "a JSON object is needed"
    raise InvalidArgument(f"{source}: {reason}; nothing was sent")


def _wrap_secrets(value: object, path: str, secret_paths: list[str], *, in_secret: bool) -> object:
    """Return a copy of *value* with its secret texts concealed, and add their places to *found*."""
    match value:
        case str() if in_secret and value:
            secret_paths.append(path)
            return Secret(value)
        case dict():
            fields = cast("dict[str, object]", value)
            return {
                name: _wrap_secrets(each, f"{path}.{name}", secret_paths, in_secret=in_secret or is_secret_field(name))
                for name, each in fields.items()
            }
        case list():
            entries = enumerate(cast("list[object]", value))
            return [
                _wrap_secrets(each, f"{path}[{number}]", secret_paths, in_secret=in_secret) for number, each in entries
            ]
        case _:
            return value
