"""Tenants files: reads tenants from CSV, TOML or JSON Lines, and reports all problems of a file at once."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, cast

import attrs
import orjson

from wxtcb.errors import InvalidArgument
from wxtcb.provision.tenant import DuplicateCheck, Tenant, is_valid_name
from wxtcb.provision.tenant_spec import CSV_COLUMNS, parse_tenant

__all__ = ["TenantsFileError", "read_adoptions", "read_tenants"]

ADOPTION_COLUMNS: Final = ("tenant", "env")

_FIRST_LINE: Final = re.compile(r"\s*([^\r\n]*)")
_JOINED_APPIDS: Final = re.compile(r"wx\w{16}[\s|]+wx")
# Chinese keyboards have full-width separators, and Excel writes Alt+Enter as a line break. None of them can be part of
# an appid or of the name of a service.
_SEPARATORS: Final = re.compile(r"[;,\uff1b\uff0c\u3001\r\n]")

# These limits bound time and memory for any file.
MAX_FILE_SIZE: Final = 8 * 2**20  # bytes
MAX_LINES: Final = 100_000
# tomllib needs 50 times the size of a document in memory. A JSON line, and a row of CSV, are parsed as a whole as well.
MAX_DOCUMENT_SIZE: Final = 2**20  # characters
MAX_PROBLEMS: Final = 1_000
_MAX_PROBLEM_LENGTH: Final = 500
# tomllib needs quadratic time for a name of many parts. No field of a tenant is nested deeper than 4.
_LONG_TOML_NAME: Final = re.compile(r"""(?:(?:"[^"\n]*"|'[^'\n]*'|(?<![\w-])[\w-]+)[ \t]*\.[ \t]*){32}""")


class TenantsFileError(InvalidArgument):
    """A tenants file cannot be used; `problems` has all its problems, each with its line (TOML: its number)."""

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join((f"{path}: {count}, no request was sent", *problems)))
        self.path = path
        self.problems: tuple[str, ...] = problems


def read_tenants(path: str | Path, *, namespace: str | None = None) -> tuple[Tenant, ...]:
    """Return the tenants of a file, in its order. The suffix of *path* selects the format.

    - ``.csv``: the column `tenant`, and optionally `alias`, `appids`, `services` and `env`. Several values in a cell
      are separated by ``;`` or ``,``, also in full-width form, or by ``、``. A service is given by its name.
    - ``.toml``: ``[[tenant]]`` tables. ``.jsonl`` and ``.ndjson``: one object a line. Both have the same fields and
      `source_type`. Lists are lists. A service is a name, or the fields of `cloudrun.Server` without `env_id`.

    The file is UTF-8. It has at most 8 MiB (TOML: 1 MiB) and 100,000 lines, and a text at most 32,767 characters.

    Two tenants must not have the same name or alias. Derived aliases are compared too if *namespace* is given: the
    component appid, unless you chose another namespace. Blocks: call it in a thread if an event loop runs. Raises
    `TenantsFileError` with all problems, at most the first 1,000.
    """
    path, tenants = Path(path), list[Tenant]()
    problems = _collect_problems(path, _parse_tenants(_read_rows(path), DuplicateCheck(namespace), tenants))
    if problems or not tenants:
        raise TenantsFileError(path, problems or ("the file contains no tenant",))
    return tuple(tenants)


def read_adoptions(path: str | Path) -> dict[str, str]:
    """Return the environment to adopt of each tenant: the argument `adopt` of `Provisioner.plan`, from a CSV file.

    The file has the columns `tenant` and `env`; other columns and rows without an environment are ignored. So the CSV
    report of a run can be read. Blocks. Raises
    `TenantsFileError` with all problems.
    """
    path, adoptions = Path(path), dict[str, str]()

    def parse() -> Iterator[str]:
        for row in _read_rows(path, {".csv": _read_adoption_rows}):
            if isinstance(row, str):
                yield row
            elif env := row.fields.get("env"):
                name = str(row.fields["tenant"])
                if not name:
                    yield f"{row.location}: the tenant is missing"
                elif name in adoptions:
                    yield f"{row.location}: tenant {name!r} is duplicated"
                adoptions[name] = str(env)

    if problems := _collect_problems(path, parse()):
        raise TenantsFileError(path, problems)
    return adoptions


def _collect_problems(path: Path, problems: Iterable[str]) -> tuple[str, ...]:
    try:
        found = [_truncate(problem) for problem in islice(problems, MAX_PROBLEMS)]
    except OSError as error:
        raise TenantsFileError(path, (f"cannot read the file ({error.strerror or type(error).__name__})",)) from error
    if len(found) == MAX_PROBLEMS:
        found.append(f"the rest was not read after {MAX_PROBLEMS:,} problems")
    return tuple(found)


def _truncate(problem: str) -> str:
    return problem if len(problem) <= _MAX_PROBLEM_LENGTH else f"{problem[:_MAX_PROBLEM_LENGTH]}…"


def _parse_tenants(rows: Rows, duplicate_check: DuplicateCheck, tenants: list[Tenant]) -> Iterator[str]:
    """Append the tenants of *rows* to *tenants*, and yield the problems of the other rows."""
    for row in rows:
        if isinstance(row, str):
            yield row
            continue
        parsed = parse_tenant(row.fields)
        if isinstance(parsed, Tenant):
            tenants.append(parsed)
            name, alias, env = parsed.name, parsed.alias, parsed.env
        else:
            yield from (f"{row.location}: {problem}" for problem in parsed)
            # A row with other problems is compared too: fixing those must not reveal a duplicate that existed before.
            strings = {key: value for key, value in row.fields.items() if isinstance(value, str)}
            name, alias, env = strings.get("tenant", ""), strings.get("alias") or None, strings.get("env") or None
        if name and is_valid_name(name):
            duplicates = duplicate_check.add(name, alias, row.location, env=env)
            yield from (f"{row.location}: {problem}" for problem in duplicates)


@attrs.frozen
class TenantRow:
    """Fields of one tenant, and their location in the file: "line 3" or "tenant 3"."""

    location: str
    # A service may have a password: no repr.
    fields: Mapping[str, object] = attrs.field(repr=False)


# The rows of a file; a string is a problem of the file, which begins with its location.
Rows = Iterator[TenantRow | str]
Parser = Callable[[str], Rows]


def _read_rows(path: Path, parsers: Mapping[str, Parser] | None = None) -> Rows:
    parsers = parsers or PARSERS
    with path.open("rb") as file:
        data = file.read(MAX_FILE_SIZE + 1)
    parser = parsers.get(path.suffix.lower())
    if parser is None:
        yield f"unsupported file type {path.suffix!r} (supported: {', '.join(parsers)})"
        return
    if problem := _size_error(data):
        yield problem
        return
    try:
        # Excel writes a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        # Not guessed: in a wrong encoding, names would change silently, and with them the derived aliases.
        advice = "in Excel, choose Save As, 'CSV UTF-8 (Comma delimited)' (CSV UTF-8(逗号分隔))"
        yield (
            f"line {line}: not UTF-8 (byte {error.start}, {data[error.start]:#04x}); save the file as UTF-8"
            f"{f'; {advice}' if path.suffix.lower() == '.csv' else ''}"
        )
        return
    yield from parser(text)


def _size_error(data: bytes) -> str | None:
    if len(data) > MAX_FILE_SIZE:
        return f"the file is larger than {MAX_FILE_SIZE // 2**20} MiB: split it"
    # CSV files may have the line breaks of old Macs.
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_LINES:
        return f"the file has more than {MAX_LINES:,} lines: split it"
    return None


def read_csv(text: str) -> Rows:
    """Parse CSV with a header and one tenant a line. Lines of blanks and commas are skipped."""
    for row in _read_csv(text, CSV_COLUMNS, _header_errors):
        # Not in `_read_csv`: an adoption file may have any other columns.
        appids = () if isinstance(row, str) else cast("Iterable[str]", row.fields.get("appids", ()))
        if isinstance(row, TenantRow) and any(_JOINED_APPIDS.search(each) for each in appids):
            yield f"{row.location}: appids: separate several appids by ';'"
            # Without them: they would be reported once more, as one invalid appid.
            yield attrs.evolve(row, fields={**row.fields, "appids": []})
        else:
            yield row


def _read_adoption_rows(text: str) -> Rows:
    return _read_csv(text, ADOPTION_COLUMNS, _adoption_header_errors)


def _read_csv(text: str, expected: Sequence[str], check_header: Callable[[Sequence[str]], Iterator[str]]) -> Rows:
    if separator := _find_wrong_separator(text):
        yield f"the columns are separated by {separator!r}; save the file with commas"
        return
    columns: list[str] | None = None
    for row in _split_csv(text):
        if isinstance(row, str):
            yield row
            return
        location, cells = row
        if columns is None:
            columns = [cell.lower() for cell in cells]
            yield from (f"{location}: {problem}" for problem in check_header(columns))
        elif extra := [cell for cell in cells[len(columns) :] if cell]:
            # A comma in a value that is not quoted shifts the values after it into other columns.
            yield f"{location}: {len(extra)} more values than columns; quote a value that contains a comma"
        elif "tenant" in columns:
            yield TenantRow(location, _csv_fields(columns, cells))
    if columns is None:
        yield f"the file is empty: the first line must be a header ({', '.join(expected)})"


def _find_wrong_separator(text: str) -> str | None:
    """Return the semicolon or tab that separates the names of the header, or None."""
    header = cast("re.Match[str]", _FIRST_LINE.match(text))[1].lower()
    for separator in ";\t":
        # Some programs quote the names.
        names = [name.strip(' "') for name in header.split(separator)]
        if len(names) > 1 and "tenant" in names and "," not in header:
            return separator
    return None


def _split_csv(text: str) -> Iterator[tuple[str, list[str]] | str]:
    """Yield location and cells of each row that is not blank, and at last the problem that ends the reading."""
    row_length = 0

    def lines() -> Iterator[str]:
        nonlocal row_length
        # `newline=""` leaves line breaks inside quotes to the reader, which counts them.
        for line in io.StringIO(text, newline=""):
            row_length += len(line)
            if row_length > MAX_DOCUMENT_SIZE:
                raise csv.Error(f"a row is longer than {MAX_DOCUMENT_SIZE:,} characters")
            yield line

    reader, next_line = csv.reader(lines(), strict=True), 1
    try:
        for row in reader:
            line, next_line, row_length = next_line, reader.line_num + 1, 0
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield f"line {line}", cells
    except csv.Error as error:
        yield f"line {next_line}: invalid CSV ({error}); the rest was not read"


def _csv_fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {"tenant": ""}
    # Spreadsheets drop empty cells at the end of a line.
    for column, cell in zip(columns, cells, strict=False):
        if column in ("appids", "services"):
            fields[column] = [part for each in _SEPARATORS.split(cell) if (part := each.strip())]
        elif cell and column in CSV_COLUMNS:
            fields[column] = cell
    return fields


def _header_errors(columns: Sequence[str]) -> Iterator[str]:
    known, seen = ", ".join(CSV_COLUMNS), set[str]()
    for number, column in enumerate(columns, 1):
        if not column:
            yield f"column {number} has no name"
        elif column not in CSV_COLUMNS:
            yield f"unknown column {column!r} (known: {known})"
        elif column in seen:
            yield f"column {column!r} is duplicated"
        seen.add(column)
    if "tenant" not in columns:
        yield f"column 'tenant' is missing; the first line must be a header ({known})"


def _adoption_header_errors(columns: Sequence[str]) -> Iterator[str]:
    for column in ADOPTION_COLUMNS:
        if columns.count(column) != 1:
            yield f"the header must have the column {column!r} once"


def read_toml(text: str) -> Rows:
    """Parse ``[[tenant]]`` tables. Their location is their number, because `tomllib` gives no lines."""
    if len(text) > MAX_DOCUMENT_SIZE:
        yield f"the file is larger than {MAX_DOCUMENT_SIZE // 2**20} MiB: use .jsonl or .csv"
        return
    if match := _LONG_TOML_NAME.search(text):
        yield f"line {text.count(chr(10), 0, match.start()) + 1}: a name has more than 32 parts"
        return
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
        if len(line) > MAX_DOCUMENT_SIZE:
            yield f"line {number}: longer than {MAX_DOCUMENT_SIZE:,} characters"
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
        fields = cast("Mapping[str, object]", table).items()
        return TenantRow(location, {name: value.strip() if isinstance(value, str) else value for name, value in fields})
    return f"{location}: expected an object with the fields of a tenant, not {type(table).__name__}"


PARSERS: Final[Mapping[str, Parser]] = {
    ".csv": read_csv,
    ".toml": read_toml,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
