"""Redaction of requests before they are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from wxtcb.sandbox.request import TOKEN_PARAM
from wxtcb.sandbox.schema import SECRET_FIELDS

_REDACTED: Final = "***"
_SECRET_NAMES: Final = SECRET_FIELDS | {TOKEN_PARAM}
_REDACTED_TOKEN_QUERY: Final = MappingProxyType({TOKEN_PARAM: _REDACTED})
_MAX_STRING_LENGTH: Final = 4096
_TRUNCATED_LENGTH: Final = 64
# No call nests this deep, and orjson encodes fewer than 254 levels: a deep body must not break GET /_sandbox/seen.
_MAX_DEPTH: Final = 32


def redact_query(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return the query with the token and all parameters with the name of a secret replaced."""
    # Nearly every request has the token and nothing else: the shared mapping saves a dict for each of 100,000 records.
    if len(query) == 1 and TOKEN_PARAM in query:
        return _REDACTED_TOKEN_QUERY
    return {name: _REDACTED if name in _SECRET_NAMES else value for name, value in query.items()}


def redact_body(node: object, depth: int = 0) -> object:
    """Return a copy of a body in which every field with the name of a secret is replaced, at any depth.

    Everything below 32 levels is replaced too. A string of more than 4,096 characters is truncated.
    """
    # Uploaded code comes as one string of up to 30 MB; 100,000 of them must not be held in memory.
    if isinstance(node, str) and len(node) > _MAX_STRING_LENGTH:
        return f"{node[:_TRUNCATED_LENGTH]}... ({len(node)} characters)"
    if not isinstance(node, dict | list):
        return node
    if depth == _MAX_DEPTH:
        return _REDACTED
    if isinstance(node, list):
        return [redact_body(item, depth + 1) for item in cast("list[object]", node)]
    items = cast("dict[str, object]", node).items()
    return {name: _REDACTED if name in _SECRET_NAMES else redact_body(value, depth + 1) for name, value in items}
