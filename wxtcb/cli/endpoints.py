"""`wxtcb endpoints`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console

from wxtcb import api
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.cli.console import align_columns, make_console, print_json, print_table

_WIDE_COLUMNS: Final = ("group", "name", "path", "official", "repeat")
_NARROW_COLUMNS: Final = ("name", "official", "repeat")

EndpointRow = Mapping[str, str | None]


def print_endpoints(*, as_json: bool) -> int:
    """Print every endpoint, as a table or, with all that there is to know, as JSON."""
    rows = [_endpoint_row(group, endpoint) for endpoint, group in endpoint_groups().items()]
    if as_json:
        print_json(rows)
    else:
        _print_endpoint_table(make_console(), rows)
    return 0


def endpoint_groups() -> dict[Endpoint[Reply], str]:
    """Return all endpoints in their order, with the name of the group in `wxtcb.api` that each belongs to."""
    groups = [name for name in api.__all__ if name != "endpoints"]
    known = {endpoint: name for name in groups for endpoint in getattr(api, name).ENDPOINTS}
    return {endpoint: known[endpoint] for endpoint in api.endpoints()}


def _print_endpoint_table(console: Console, rows: Sequence[EndpointRow]) -> None:
    """Print a row each; where the screen is too narrow the path stands below the name, and the group above."""
    wide = [_select_cells(row, _WIDE_COLUMNS) for row in rows]
    if console.width >= max(map(len, align_columns([_WIDE_COLUMNS, *wide]))):
        print_table(console, _WIDE_COLUMNS, wide)
        return
    header, *lines = align_columns([_NARROW_COLUMNS, *(_select_cells(row, _NARROW_COLUMNS) for row in rows)])
    console.print(header, style="bold", soft_wrap=True)
    for group, of_group in groupby(zip(rows, lines, strict=True), key=lambda pair: pair[0]["group"]):
        console.file.write(f"\n{group}:\n")
        for row, line in of_group:
            console.file.write(f"{line}\n  {row['path']}\n")


def _select_cells(row: EndpointRow, column_names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] or "" for name in column_names)


def _endpoint_row(group: str, endpoint: Endpoint[Reply]) -> EndpointRow:
    return {
        "group": group,
        "name": endpoint.name,
        "path": endpoint.path,
        "action": endpoint.action,
        "official": endpoint.official,
        "repeat": endpoint.repeat.name.lower(),
        "reply": endpoint.reply.__name__,
        "credential": endpoint.credential.name.lower(),
    }
