"""Command `wxtcb endpoints`: the list of all calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console

from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.api import cloudrun, containers, database, environment, functions, hosting, storage, token
from wxtcb.cli.console import align_columns, make_console, print_json, print_table

EndpointRow = Mapping[str, str | None]

# In the order of `wxtcb.endpoints()`.
_ENDPOINTS_BY_GROUP: Final[Mapping[str, tuple[Endpoint[Reply], ...]]] = {
    "environment": environment.ENDPOINTS,
    "database": database.ENDPOINTS,
    "storage": storage.ENDPOINTS,
    "hosting": hosting.ENDPOINTS,
    "functions": functions.ENDPOINTS,
    "cloudrun": cloudrun.ENDPOINTS,
    "containers": containers.ENDPOINTS,
    "token": token.ENDPOINTS,
}


def print_endpoints(*, as_json: bool) -> int:
    """Print all endpoints as a table, or with all their properties as JSON; return the exit code."""
    rows = [endpoint_row(group, endpoint) for endpoint, group in endpoint_groups().items()]
    if as_json:
        print_json(rows)
    else:
        print_endpoint_table(make_console(), rows)
    return 0


def endpoint_groups() -> dict[Endpoint[Reply], str]:
    """Return all endpoints, in the order of `wxtcb.endpoints()`, with the name of their module in `wxtcb.api`."""
    return {endpoint: group for group, endpoints in _ENDPOINTS_BY_GROUP.items() for endpoint in endpoints}


def endpoint_row(group: str, endpoint: Endpoint[Reply]) -> EndpointRow:
    """Return the properties of an endpoint by the names that the JSON document uses."""
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


def print_endpoint_table(console: Console, rows: Sequence[EndpointRow]) -> None:
    """Print a row for each endpoint; on a narrow terminal, print groups, and each path below the name."""
    wide, narrow = ("group", "name", "path", "official", "repeat"), ("name", "official", "repeat")
    cells = [_select_cells(row, wide) for row in rows]
    if console.width >= max(map(len, align_columns([wide, *cells]))):
        print_table(console, wide, cells)
        return
    # Wrapped cells would split the names and paths, which a reader wants to copy.
    header, *lines = align_columns([narrow, *(_select_cells(row, narrow) for row in rows)])
    console.print(header, style="bold", soft_wrap=True)
    for group, group_rows in groupby(zip(rows, lines, strict=True), key=lambda pair: pair[0]["group"]):
        console.file.write(f"\n{group}:\n")
        for row, line in group_rows:
            console.file.write(f"{line}\n  {row['path']}\n")


def _select_cells(row: EndpointRow, column_names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] or "" for name in column_names)
