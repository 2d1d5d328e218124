"""Replies with something taken out of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import orjson

__all__ = ["omit_environments", "strip_field"]


def strip_field(reply: bytes, name: str) -> bytes:
    """Take a field out of a reply; in a dotted name every step but the last may be an object or an array."""
    document: object = orjson.loads(reply)
    _strip(document, name.split("."))
    return orjson.dumps(document)


def _strip(node: object, steps: list[str]) -> None:
    if isinstance(node, list):
        for item in cast("list[object]", node):
            _strip(item, steps)
    if not isinstance(node, dict):
        return
    holder = cast("dict[str, object]", node)
    if len(steps) == 1:
        holder.pop(steps[0], None)
    else:
        _strip(holder.get(steps[0]), steps[1:])


def omit_environments(reply: bytes, envs: Collection[str], newest: int | None) -> bytes:
    """Take environments out of a describeenvs reply: those named, or the last so many, or all of them."""
    document: dict[str, object] = orjson.loads(reply)
    if "info_list" not in document:
        return reply
    rows = cast("list[dict[str, str]]", document["info_list"])
    count = max(0, len(rows) - newest) if newest else 0
    document["info_list"] = [row for row in rows if row["env"] not in envs] if envs else rows[:count]
    return orjson.dumps(document)
