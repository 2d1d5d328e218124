"""The three kinds of tenants files, from text to rows; what cannot become a row is told as a flaw with its place."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import orjson

from wxtcb.provision.rows import CSV_COLUMNS, FileProblem, TenantRow

_LIST_COLUMNS: Final = ("appids", "services")


def read_csv(text: str) -> Iterator[TenantRow | FileProblem]:
    """Read a header line of columns and a tenant a line; lines of nothing but blanks and commas are skipped."""
    records = _csv_records(text)
    header = next(records, None)
    if header is None or isinstance(header, FileProblem):
        yield header or FileProblem(
            f"the file is empty: its first line must name the columns ({', '.join(CSV_COLUMNS)})"
        )
        return
    line, cells = header
    columns = [cell.lower() for cell in cells]
    yield from (FileProblem(f"line {line}: {text}") for text in _header_errors(columns))
    for record in records:
        if isinstance(record, FileProblem):
            yield record
        elif extra := [cell for cell in record[1][len(columns) :] if cell]:
            place = f"line {record[0]}"
            yield FileProblem(f"{place}: {len(extra)} more cells than columns; quote a value that holds a comma")
        elif "tenant" in columns:
            yield TenantRow(f"line {record[0]}", _csv_fields(columns, record[1]))


def _csv_records(text: str) -> Iterator[tuple[int, list[str]] | FileProblem]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            yield FileProblem(f"line {line}: not CSV from here on ({error})")
            return
        if any(cells):
            yield line, cells


def _header_errors(columns: Sequence[str]) -> Iterator[str]:
    known = ", ".join(CSV_COLUMNS)
    for number, column in enumerate(columns, 1):
        if not column:
            yield f"column {number} has no name"
        elif column not in CSV_COLUMNS:
            yield f"unknown column {column!r}; there are {known}"
        elif column in columns[: number - 1]:
            yield f"column {column!r} is there twice"
    if "tenant" not in columns:
        yield f"there is no column 'tenant'; the first line must name the columns ({known})"


def _csv_fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {"tenant": ""}
    for column, cell in zip(columns, cells, strict=False):
        if column in _LIST_COLUMNS:
            fields[column] = [part for each in cell.split(";") if (part := each.strip())]
        elif cell and column in CSV_COLUMNS:
            fields[column] = cell
    return fields


def read_toml(text: str) -> Iterator[TenantRow | FileProblem]:
    """Read ``[[tenant]]`` tables; their places are their numbers, for TOML keeps no lines."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        yield FileProblem(f"not TOML: {error}")
        return
    except RecursionError:
        yield FileProblem("not a tenants file: it is nested too deeply")
        return
    for name in document:
        if name != "tenant":
            yield FileProblem(f"unknown table or field {name!r}; there is only [[tenant]]")
    tables = document.get("tenant", [])
    if not isinstance(tables, list):
        yield FileProblem("tenant must be a list of tables: write [[tenant]], with two brackets")
        return
    for number, table in enumerate(cast("list[object]", tables), 1):
        yield _table_to_row(f"tenant {number}", table)


def read_json_lines(text: str) -> Iterator[TenantRow | FileProblem]:
    """Read an object a line; blank lines are skipped."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _table_to_row(f"line {number}", orjson.loads(line))
        except orjson.JSONDecodeError as error:
            yield FileProblem(f"line {number}, column {error.colno}: not JSON ({error.msg})")
        else:
            yield from (FileProblem(f"line {number}: field {name!r} is there twice") for name in _duplicate_keys(line))
            yield row


def _duplicate_keys(line: str) -> list[str]:
    """Return the names that an object of *line* holds more than once: orjson keeps the last without a word.

    What is too deep for this look has flaws of its own: no field of a tenant is deep.
    """
    found: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        found.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    with contextlib.suppress(RecursionError):
        json.loads(line, object_pairs_hook=note, parse_int=str)
    return found


def _table_to_row(location: str, table: object) -> TenantRow | FileProblem:
    if isinstance(table, dict):
        return TenantRow(location, cast("Mapping[str, object]", table))
    return FileProblem(f"{location}: must be an object with the fields of a tenant, not {type(table).__name__}")
