"""What is remembered of a request: everything but its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from wxtcb.sandbox.request import CREDENTIAL
from wxtcb.sandbox.schema import SECRETS

__all__ = ["mask_body", "mask_query"]

_MASK: Final = "***"
_HIDDEN: Final = SECRETS | {CREDENTIAL}
_MASKED: Final = MappingProxyType({CREDENTIAL: _MASK})
_LONGEST: Final = 4096
_BEGINNING: Final = 64
_DEEPEST: Final = 32  # far below what any call nests, and what a reader of `seen` can encode


def mask_query(query: Mapping[str, str]) -> Mapping[str, str]:
    """Return a query with its token masked, and what else has the name of a secret."""
    if len(query) == 1 and CREDENTIAL in query:
        return _MASKED
    return {name: _MASK if name in _HIDDEN else value for name, value in query.items()}


def mask_body(node: object, depth: int = 0) -> object:
    """Return a copy of a body in which whatever has the name of a secret is masked, wherever it stands.

    What lies deeper than 32 levels is masked too; of a text of more than 4,096 characters the beginning is kept.
    """
    if isinstance(node, str) and len(node) > _LONGEST:
        return f"{node[:_BEGINNING]}... ({len(node)} characters)"
    if not isinstance(node, dict | list):
        return node
    if depth == _DEEPEST:
        return _MASK
    if isinstance(node, list):
        return [mask_body(item, depth + 1) for item in cast("list[object]", node)]
    pairs = cast("dict[str, object]", node).items()
    return {name: _MASK if name in _HIDDEN else mask_body(value, depth + 1) for name, value in pairs}
