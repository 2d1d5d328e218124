"""Tenants files: reads tenants from CSV, TOML or JSON Lines, and reports all problems of a file at once."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import attrs
import cattrs
import orjson

from wxtcb._protocol.structuring import describe_error, make_converter
from wxtcb.api.cloudrun import Server
from wxtcb.errors import InvalidArgument
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID, DuplicateCheck, Service, Tenant, is_valid_name

__all__ = ["TenantsFileError", "read_tenants"]

CSV_COLUMNS: Final = ("tenant", "alias", "appids", "services")
TENANT_FIELDS: Final = (*CSV_COLUMNS, "source_type")


class TenantsFileError(InvalidArgument):
    """A tenants file cannot be used; `problems` has all its problems, each with its line (TOML: its number)."""

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join((f"{path}: {count}, no request was sent", *problems)))
        self.path = path
        self.problems: tuple[str, ...] = problems


def read_tenants(path: str | Path, *, namespace: str | None = None) -> tuple[Tenant, ...]:
    """Return the tenants of a file, in its order. The suffix of *path* selects the format.

    - ``.csv``: the column `tenant`, and optionally `alias`, `appids` and `services`. Several values in a cell are
      separated by ``;``. A service is given by its name.
    - ``.toml``: ``[[tenant]]`` tables. ``.jsonl`` and ``.ndjson``: one object a line. Both have the same fields and
      `source_type`. Lists are lists. A service is a name, or the fields of `cloudrun.Server` without `env_id`.

    Two tenants must not have the same name or alias. Derived aliases are compared too if *namespace* is given: the
    component appid, unless you chose another namespace. Blocks: call it in a thread if an event loop runs. Raises
    `TenantsFileError` with all problems.
    """
    path = Path(path)
    try:
        rows = tuple(_read_rows(path))
    except OSError as error:
        raise TenantsFileError(path, (f"cannot read the file ({error.strerror or type(error).__name__})",)) from error
    tenants, duplicate_check = list[Tenant](), DuplicateCheck(namespace)
    problems: list[str] = [] if rows else ["the file contains no tenant"]
    for row in rows:
        if isinstance(row, str):
            problems.append(row)
            continue
        parsed = parse_tenant(row)
        if isinstance(parsed, Tenant):
            tenants.append(parsed)
            name, alias = parsed.name, parsed.alias
        else:
            problems += (f"{row.location}: {problem}" for problem in parsed)
            # A row with other problems is compared too: fixing those must not reveal a duplicate that existed before.
            strings = {key: value.strip() for key, value in row.fields.items() if isinstance(value, str)}
            name, alias = strings.get("tenant", ""), strings.get("alias") or None
        if name and is_valid_name(name):
            problems += (f"{row.location}: {problem}" for problem in duplicate_check.add(name, alias, row.location))
    if problems:
        raise TenantsFileError(path, tuple(problems))
    return tuple(tenants)


@attrs.frozen
class TenantRow:
    """Fields of one tenant, and their location in the file: "line 3" or "tenant 3"."""

    location: str
    # A service may have a password: no repr.
    fields: Mapping[str, object] = attrs.field(repr=False)


# The rows of a file; a string is a problem of the file, which begins with its location.
Rows = Iterator[TenantRow | str]


def _read_rows(path: Path) -> Rows:
    data = path.read_bytes()
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        yield f"unsupported file type {path.suffix!r} (supported: {', '.join(PARSERS)})"
        return
    try:
        # Excel writes a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield f"line {line}: not UTF-8 (byte {error.start}, {data[error.start]:#04x}); save the file as UTF-8"
        return
    yield from parser(text)


def read_csv(text: str) -> Rows:
    """Parse CSV with a header and one tenant a line. Lines of blanks and commas are skipped."""
    # `newline=""` leaves line breaks inside quotes to the reader, which counts them.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns, next_line = list[str](), 1
    try:
        for row in reader:
            line, next_line = next_line, reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = [cell.lower() for cell in cells]
                yield from (f"line {line}: {problem}" for problem in _header_errors(columns))
            elif extra := [cell for cell in cells[len(columns) :] if cell]:
                # A comma in a value that is not quoted shifts the values after it into other columns.
                yield f"line {line}: {len(extra)} more values than columns; quote a value that contains a comma"
            elif "tenant" in columns:
                yield TenantRow(f"line {line}", _csv_fields(columns, cells))
    except csv.Error as error:
        yield f"line {next_line}: invalid CSV ({error}); the rest was not read"
    else:
        if not columns:
            yield f"the file is empty: the first line must be a header ({', '.join(CSV_COLUMNS)})"


def _csv_fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {"tenant": ""}
    # Spreadsheets drop empty cells at the end of a line.
    for column, cell in zip(columns, cells, strict=False):
        if column in ("appids", "services"):
            fields[column] = [part for each in cell.split(";") if (part := each.strip())]
        elif cell and column in CSV_COLUMNS:
            fields[column] = cell
    return fields


def _header_errors(columns: Sequence[str]) -> Iterator[str]:
    known = ", ".join(CSV_COLUMNS)
    for number, column in enumerate(columns, 1):
        if not column:
            yield f"column {number} has no name"
        elif column not in CSV_COLUMNS:
            yield f"unknown column {column!r} (known: {known})"
        elif column in columns[: number - 1]:
            yield f"column {column!r} is duplicated"
    if "tenant" not in columns:
        yield f"column 'tenant' is missing; the first line must be a header ({known})"


def read_toml(text: str) -> Rows:
    """Parse ``[[tenant]]`` tables. Their location is their number, because `tomllib` gives no lines."""
    try:
        document = tomllib.loads(text)
    # `tomllib.TOMLDecodeError`, or the plain `ValueError` of an integer with too many digits.
    except ValueError as error:
        yield f"invalid TOML: {error}"
        return
    except RecursionError:
        yield "invalid tenants file: it is nested too deeply"
        return
    unknown = (name for name in document if name != "tenant")
    yield from (f"unknown table or field {name!r}: only [[tenant]] is supported" for name in unknown)
    tables = document.get("tenant", [])
    if not isinstance(tables, list):
        yield "tenant must be a list of tables: write [[tenant]] with two brackets"
        return
    for number, table in enumerate(cast("list[object]", tables), 1):
        yield _table_to_row(f"tenant {number}", table)


def read_json_lines(text: str) -> Rows:
    """Parse one JSON object a line. Blank lines are skipped."""
    # Not `splitlines`: that would split at line separators inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _table_to_row(f"line {number}", orjson.loads(line))
        except orjson.JSONDecodeError as error:
            yield f"line {number}, column {error.colno}: invalid JSON ({error.msg})"
        else:
            yield from (f"line {number}: field {name!r} is duplicated" for name in _duplicate_keys(line))
            yield row


def _duplicate_keys(line: str) -> list[str]:
    """Return the names that an object of *line* has more than once; orjson silently uses the last one."""
    found: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        found.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    # No field of a tenant is nested deeply: the row has a problem anyway. `parse_int=str` accepts any number of digits.
    with contextlib.suppress(RecursionError):
        json.loads(line, object_pairs_hook=collect, parse_int=str)
    return found


def _table_to_row(location: str, table: object) -> TenantRow | str:
    if isinstance(table, dict):
        return TenantRow(location, cast("Mapping[str, object]", table))
    return f"{location}: expected an object with the fields of a tenant, not {type(table).__name__}"


PARSERS: Final[Mapping[str, Callable[[str], Rows]]] = {
    ".csv": read_csv,
    ".toml": read_toml,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


def parse_tenant(row: TenantRow) -> Tenant | list[str]:
    """Return the tenant of a row, or all its problems; no message quotes a value that may be secret."""
    problems = [] if "tenant" in row.fields else ["the tenant is missing"]
    unknown = (name for name in row.fields if name not in TENANT_FIELDS)
    problems += [f"unknown field {name!r} (known: {', '.join(TENANT_FIELDS)})" for name in unknown]
    # Each field is tried alone: the converter would stop at the first invalid one.
    for name in TENANT_FIELDS:
        if name in row.fields:
            try:
                _structure_tenant({"tenant": "x", name: row.fields[name]})
            except cattrs.BaseValidationError as error:
                problems += map(_format_error, cattrs.transform_error(error, format_exception=_describe_error))
    return problems or _structure_tenant(row.fields)


def _structure_tenant(fields: Mapping[str, object]) -> Tenant:
    stripped = {
        "name" if name == "tenant" else name: value.strip() if isinstance(value, str) else value
        for name, value in fields.items()
    }
    return _CONVERTER.structure(stripped, Tenant)


def _format_error(line: str) -> str:
    """Return "message @ $.path", which cattrs writes, as "path: message"."""
    message, _, path = line.rpartition(" @ $")
    path = path.removeprefix(".")
    path = "tenant" if path == "name" else path
    # Validators of `Tenant` name their field themselves, and cattrs gives no path for them.
    return f"{path}: {message}" if path else message.replace("Tenant: name", "the tenant").removeprefix("Tenant: ")


def _describe_error(error: BaseException, expected_type: type | None) -> str:
    if isinstance(error, InvalidArgument):
        return str(error)
    # The converter names the expected JSON type. `describe_error` would name the Python type.
    return f"expected {error}" if isinstance(error, TypeError) else describe_error(error, expected_type)


def _structure_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.from_name(value.strip())
    if not isinstance(value, dict):
        raise InvalidArgument(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise InvalidArgument("env_id must be left out: the environment does not exist yet")
    return Service(_CONVERTER.structure({"is_public": False, **table, "env_id": PLACEHOLDER_ENV_ID}, Server))


_CONVERTER: Final = make_converter(forbid_extra_keys=True)
# By predicate: `Service` is an attrs class too, and later hooks win.
_CONVERTER.register_structure_hook_func(lambda type_: type_ is Service, _structure_service)
