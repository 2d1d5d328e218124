"""What is remembered of a request: everything but its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from wxtcb.sandbox.request import TOKEN_PARAM
from wxtcb.sandbox.schema import SECRET_FIELDS

__all__ = ["redact_body", "redact_query"]

_REDACTED: Final = "***"
_SECRET_NAMES: Final = SECRET_FIELDS | {TOKEN_PARAM}
_REDACTED_TOKEN_QUERY: Final = MappingProxyType({TOKEN_PARAM: _REDACTED})
_MAX_STRING_LENGTH: Final = 4096
_TRUNCATED_LENGTH: Final = 64
_MAX_DEPTH: Final = 32  # far below what any call nests, and what a reader of `seen` can encode


def redact_query(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return a query with its token masked, and what else has the name of a secret."""
    if len(query) == 1 and TOKEN_PARAM in query:
        return _REDACTED_TOKEN_QUERY
    return {name: _REDACTED if name in _SECRET_NAMES else value for name, value in query.items()}


def redact_body(node: object, depth: int = 0) -> object:
    """Return a copy of a body in which whatever has the name of a secret is masked, wherever it stands.

    What lies deeper than 32 levels is masked too; of a text of more than 4,096 characters the beginning is kept.
    """
    if isinstance(node, str) and len(node) > _MAX_STRING_LENGTH:
        return f"{node[:_TRUNCATED_LENGTH]}... ({len(node)} characters)"
    if not isinstance(node, dict | list):
        return node
    if depth == _MAX_DEPTH:
        return _REDACTED
    if isinstance(node, list):
        return [redact_body(item, depth + 1) for item in cast("list[object]", node)]
    pairs = cast("dict[str, object]", node).items()
    return {name: _REDACTED if name in _SECRET_NAMES else redact_body(value, depth + 1) for name, value in pairs}
