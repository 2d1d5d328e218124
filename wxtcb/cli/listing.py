"""`wxtcb endpoints`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console

from wxtcb.api import endpoints
from wxtcb.cli.output import console, print_json, print_table
from wxtcb.endpoint import Endpoint, Reply

_WIDE: Final = 108


def print_endpoints(*, as_json: bool) -> int:
    """Print every endpoint, as a table or as JSON."""
    rows = [_facts(endpoint) for endpoint in endpoints()]
    if as_json:
        print_json(rows)
    else:
        _print_table(console(), rows)
    return 0


def _print_table(screen: Console, rows: Sequence[dict[str, str]]) -> None:
    """Print a row each; where the screen is narrow the path stands below the name."""
    if screen.width >= _WIDE:
        print_table(screen, [*rows[0]], [[*row.values()] for row in rows])
    else:
        print_table(screen, ["name", "reply", "repeat", "credential"], _stacked(rows))


def _stacked(rows: Sequence[dict[str, str]]) -> Iterator[Sequence[str]]:
    for row in rows:
        yield row["name"], row["reply"], row["repeat"], row["credential"]
        yield f"  {row['path']}", "", "", ""


def _facts(endpoint: Endpoint[Reply]) -> dict[str, str]:
    return {
        "name": endpoint.name,
        "path": endpoint.path,
        "reply": endpoint.reply.__name__,
        "repeat": endpoint.repeat.name.lower(),
        "credential": endpoint.credential.name.lower(),
    }
