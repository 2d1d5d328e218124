"""Command `wxtcb endpoints`: the list of all calls, and the search in it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console

from wxtcb import api
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.api import cloudrun, containers, database, environment, functions, hosting, storage, token
from wxtcb.cli.console import align_columns, make_console, print_json, print_table
from wxtcb.errors import InvalidArgument

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
_OFFICIAL_PAGE: Final = re.compile(r"Official interface: \S+, page (\S+)\.$")
_DOCUMENTATION_URL: Final = "https://developers.weixin.qq.com/doc/oplatform/"


def print_endpoints(search: str | None = None, *, as_json: bool) -> int:
    """Print the endpoints that contain *search* in any property, in any case; without it, print all.

    They are printed as a table, with their descriptions and official pages if there is a search, or as JSON with all
    properties. Return the exit code. Raises `InvalidArgument` if there is none.
    """
    rows = [endpoint_row(group, endpoint) for endpoint, group in endpoint_groups().items()]
    if search is not None:
        wanted = search.casefold()
        rows = [row for row in rows if any(wanted in (value or "").casefold() for value in row.values())]
    if not rows:
        raise InvalidArgument(f"no call contains {search!r}; `wxtcb endpoints` lists all calls")
    if as_json:
        print_json(rows)
    elif search is not None:
        print_descriptions(make_console(), rows)
    else:
        print_endpoint_table(make_console(), rows)
    return 0


def endpoint_groups() -> dict[Endpoint[Reply], str]:
    """Return all endpoints, in the order of `wxtcb.endpoints()`, with the name of their module in `wxtcb.api`."""
    return {endpoint: group for group, endpoints in _ENDPOINTS_BY_GROUP.items() for endpoint in endpoints}


def endpoint_row(group: str, endpoint: Endpoint[Reply]) -> EndpointRow:
    """Return the properties of an endpoint by the names that the JSON document uses."""
    description, page = _describe(getattr(getattr(api, group), endpoint.name))
    return {
        "group": group,
        "name": endpoint.name,
        "path": endpoint.path,
        "action": endpoint.action,
        "official": endpoint.official,
        "repeat": endpoint.repeat.name.lower(),
        "reply": endpoint.reply.__name__,
        "credential": endpoint.credential.name.lower(),
        "description": description,
        "page": page,
    }


def _describe(coroutine: object) -> tuple[str, str | None]:
    """Return the first sentence of a docstring, and the URL of the official page at its end."""
    # With -OO there are no docstrings.
    text = " ".join((inspect.getdoc(coroutine) or "").split())
    found = _OFFICIAL_PAGE.search(text)
    if found is None:
        return re.split(r"(?<=\.)\s", text, maxsplit=1)[0], None
    folder = "" if found[1].startswith("Third-party_Platforms/") else "openApi/OpenApiDoc/"
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0], f"{_DOCUMENTATION_URL}{folder}{found[1]}.html"


def print_descriptions(console: Console, rows: Sequence[EndpointRow]) -> None:
    """Print a paragraph for each endpoint."""
    for row in rows:
        action = f" (action {row['action']})" if row["action"] else ""
        console.print(row["name"], style="bold", soft_wrap=True, markup=False, highlight=False)
        console.file.write(f"  {row['description']}\n  group {row['group']}, repeat {row['repeat']}\n")
        console.file.write(f"  {row['path']}{action}\n  {row['official']}: {row['page'] or '-'}\n")


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
