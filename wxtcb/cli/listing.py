"""`wxtcb endpoints`."""

from __future__ import annotations

import sys
from typing import Final

import orjson
from rich.table import Table

from wxtcb.api import endpoints
from wxtcb.cli.output import console
from wxtcb.endpoint import Endpoint, Reply

_WIDE: Final = 108


def print_endpoints(*, as_json: bool) -> int:
    """Print every endpoint, as a table or as JSON."""
    rows = [_facts(endpoint) for endpoint in endpoints()]
    if as_json:
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0
    screen = console()
    screen.print(_table(rows, narrow=screen.width < _WIDE))
    return 0


def _table(rows: list[dict[str, str]], *, narrow: bool) -> Table:
    """Lay the rows out; on a *narrow* screen the path stands below the name."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for row in map(_stacked, rows) if narrow else rows:
        if not table.columns:
            for column in row:
                table.add_column(column, overflow="fold")
        table.add_row(*row.values())
    return table


def _stacked(row: dict[str, str]) -> dict[str, str]:
    return {"name": f"{row['name']}\n  {row['path']}"} | {key: row[key] for key in ("reply", "repeat", "credential")}


def _facts(endpoint: Endpoint[Reply]) -> dict[str, str]:
    return {
        "name": endpoint.name,
        "path": endpoint.path,
        "reply": endpoint.reply.__name__,
        "repeat": endpoint.repeat.name.lower(),
        "credential": endpoint.credential.name.lower(),
    }
