"""`wxtcb endpoints`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console

from wxtcb import api
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.cli.console import columns, console, print_json, print_table

_SHOWN: Final = ("group", "name", "path", "official", "repeat")
_STACKED: Final = ("name", "official", "repeat")

Row = Mapping[str, str | None]


def print_endpoints(*, as_json: bool) -> int:
    """Print every endpoint, as a table or, with all that there is to know, as JSON."""
    rows = [_facts(group, endpoint) for endpoint, group in group_of().items()]
    if as_json:
        print_json(rows)
    else:
        _print_table(console(), rows)
    return 0


def group_of() -> dict[Endpoint[Reply], str]:
    """Return all endpoints in their order, with the name of the group in `wxtcb.api` that each belongs to."""
    groups = [name for name in api.__all__ if name != "endpoints"]
    known = {endpoint: name for name in groups for endpoint in getattr(api, name).ENDPOINTS}
    return {endpoint: known[endpoint] for endpoint in api.endpoints()}


def _print_table(screen: Console, rows: Sequence[Row]) -> None:
    """Print a row each; where the screen is too narrow the path stands below the name, and the group above."""
    wide = [_cells(row, _SHOWN) for row in rows]
    if screen.width >= max(map(len, columns([_SHOWN, *wide]))):
        print_table(screen, _SHOWN, wide)
        return
    header, *lines = columns([_STACKED, *(_cells(row, _STACKED) for row in rows)])
    screen.print(header, style="bold", soft_wrap=True)
    for group, of_group in groupby(zip(rows, lines, strict=True), key=lambda pair: pair[0]["group"]):
        screen.file.write(f"\n{group}:\n")
        for row, line in of_group:
            screen.file.write(f"{line}\n  {row['path']}\n")


def _cells(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] or "" for name in names)


def _facts(group: str, endpoint: Endpoint[Reply]) -> Row:
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
