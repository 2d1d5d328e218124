"""Tenants files: reads tenants from CSV, TOML or JSON Lines, and reports all problems of a file at once.

Each format is parsed to rows. A row becomes a tenant, or the list of its problems.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Final, cast, get_args, get_origin

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn

from wxtcb.api.cloudrun import Server
from wxtcb.errors import InvalidArgument
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID, DuplicateCheck, Service, Tenant, is_valid_name
from wxtcb.secret import Secret

CSV_COLUMNS: Final = ("tenant", "alias", "appids", "services")
TENANT_FIELDS: Final = (*CSV_COLUMNS, "source_type")
_LIST_COLUMNS: Final = ("appids", "services")


class TenantsFileError(InvalidArgument):
    """A tenants file cannot be used; no request was sent.

    `problems` has all problems of the file at `path`, each with its line. TOML files give the number of the tenant.
    """

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
    component appid, unless you chose another namespace.

    The function blocks: call it in a thread if an event loop runs. Raises `TenantsFileError` with all problems.
    """
    path = Path(path)
    try:
        tenants, problems = _parse_rows(_read_rows(path), DuplicateCheck(namespace))
    except OSError as error:
        raise TenantsFileError(path, (f"cannot read the file ({error.strerror or type(error).__name__})",)) from error
    if not tenants and not problems:
        problems = (FileProblem("the file contains no tenant"),)
    if problems:
        raise TenantsFileError(path, tuple(problem.message for problem in problems))
    return tenants


@attrs.frozen
class TenantRow:
    """Fields of one tenant, and their location in the file: "line 3" or "tenant 3"."""

    location: str
    # A service may have a password: no repr.
    fields: Mapping[str, object] = attrs.field(repr=False)

    def get_string(self, name: str) -> str | None:
        """Return a field without outer blanks, or None if it is not a non-empty string."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None


@attrs.frozen
class FileProblem:
    """Problem of a tenants file; the message begins with its location."""

    message: str


def _read_rows(path: Path) -> Iterator[TenantRow | FileProblem]:
    data = path.read_bytes()
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        yield FileProblem(f"unsupported file type {path.suffix!r} (supported: {', '.join(PARSERS)})")
        return
    try:
        # Excel writes a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield FileProblem(
            f"line {line}: not UTF-8 (byte {error.start}, {data[error.start]:#04x}); save the file as UTF-8"
        )
        return
    yield from parser(text)


def _parse_rows(
    rows: Iterator[TenantRow | FileProblem], duplicate_check: DuplicateCheck
) -> tuple[tuple[Tenant, ...], tuple[FileProblem, ...]]:
    tenants: list[Tenant] = []
    problems: list[FileProblem] = []
    for row in rows:
        if isinstance(row, FileProblem):
            problems.append(row)
            continue
        parsed = parse_tenant(row)
        if isinstance(parsed, Tenant):
            tenants.append(parsed)
            name, alias = parsed.name, parsed.alias
        else:
            problems += parsed
            # A row with other problems is compared too: fixing those must not reveal a duplicate that existed before.
            name, alias = row.get_string("tenant") or "", row.get_string("alias")
        if name and is_valid_name(name):
            problems += (
                FileProblem(f"{row.location}: {problem}") for problem in duplicate_check.add(name, alias, row.location)
            )
    return tuple(tenants), tuple(problems)


def read_csv(text: str) -> Iterator[TenantRow | FileProblem]:
    """Parse CSV with a header and one tenant a line. Lines of blanks and commas are skipped."""
    records = _csv_records(text)
    header = next(records, None)
    if header is None or isinstance(header, FileProblem):
        yield header or FileProblem(f"the file is empty: the first line must be a header ({', '.join(CSV_COLUMNS)})")
        return
    line, cells = header
    columns = [cell.lower() for cell in cells]
    yield from (FileProblem(f"line {line}: {problem}") for problem in _header_errors(columns))
    for record in records:
        if isinstance(record, FileProblem):
            yield record
            continue
        line, cells = record
        if extra := [cell for cell in cells[len(columns) :] if cell]:
            # A comma in a value that is not quoted shifts the values after it into other columns.
            problem = f"{len(extra)} more values than columns; quote a value that contains a comma"
            yield FileProblem(f"line {line}: {problem}")
        elif "tenant" in columns:
            yield TenantRow(f"line {line}", _csv_fields(columns, cells))


def _csv_records(text: str) -> Iterator[tuple[int, list[str]] | FileProblem]:
    # `newline=""` leaves line breaks inside quotes to the reader, which counts them.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            yield FileProblem(f"line {line}: invalid CSV ({error}); the rest was not read")
            return
        if any(cells):
            yield line, cells


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


def _csv_fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {"tenant": ""}
    # Spreadsheets drop empty cells at the end of a line.
    for column, cell in zip(columns, cells, strict=False):
        if column in _LIST_COLUMNS:
            fields[column] = [part for each in cell.split(";") if (part := each.strip())]
        elif cell and column in CSV_COLUMNS:
            fields[column] = cell
    return fields


def read_toml(text: str) -> Iterator[TenantRow | FileProblem]:
    """Parse ``[[tenant]]`` tables. Their location is their number, because `tomllib` gives no lines."""
    try:
        document = tomllib.loads(text)
    # `tomllib.TOMLDecodeError`, or the plain `ValueError` of an integer with too many digits.
    except ValueError as error:
        yield FileProblem(f"invalid TOML: {error}")
        return
    except RecursionError:
        yield FileProblem("invalid tenants file: it is nested too deeply")
        return
    for name in document:
        if name != "tenant":
            yield FileProblem(f"unknown table or field {name!r}: only [[tenant]] is supported")
    tables = document.get("tenant", [])
    if not isinstance(tables, list):
        yield FileProblem("tenant must be a list of tables: write [[tenant]] with two brackets")
        return
    for number, table in enumerate(cast("list[object]", tables), 1):
        yield _table_to_row(f"tenant {number}", table)


def read_json_lines(text: str) -> Iterator[TenantRow | FileProblem]:
    """Parse one JSON object a line. Blank lines are skipped."""
    # Not `splitlines`: that would split at line separators inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _table_to_row(f"line {number}", orjson.loads(line))
        except orjson.JSONDecodeError as error:
            yield FileProblem(f"line {number}, column {error.colno}: invalid JSON ({error.msg})")
        else:
            yield from (FileProblem(f"line {number}: field {name!r} is duplicated") for name in _duplicate_keys(line))
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


def _table_to_row(location: str, table: object) -> TenantRow | FileProblem:
    if isinstance(table, dict):
        return TenantRow(location, cast("Mapping[str, object]", table))
    return FileProblem(f"{location}: expected an object with the fields of a tenant, not {type(table).__name__}")


PARSERS: Final[Mapping[str, Callable[[str], Iterator[TenantRow | FileProblem]]]] = {
    ".csv": read_csv,
    ".toml": read_toml,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


def parse_tenant(row: TenantRow) -> Tenant | tuple[FileProblem, ...]:
    """Return the tenant of a row, or all its problems. Types are strict.

    Messages name the field. They never quote a value that may be secret.
    """
    problems = [] if "tenant" in row.fields else ["the tenant is missing"]
    problems += [
        f"unknown field {name!r} (known: {', '.join(TENANT_FIELDS)})"
        for name in row.fields
        if name not in TENANT_FIELDS
    ]
    # Each field is tried alone: the converter would stop at the first invalid one.
    for name in TENANT_FIELDS:
        if name in row.fields:
            try:
                _structure_tenant({"tenant": "x", name: row.fields[name]})
            except cattrs.BaseValidationError as error:
                lines = cattrs.transform_error(error, format_exception=_describe_error)
                problems += [_format_error(line) for line in lines]
    if problems:
        return tuple(FileProblem(f"{row.location}: {problem}") for problem in problems)
    return _structure_tenant(row.fields)


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


def _describe_error(error: BaseException, _type: type | None) -> str:
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"unknown field {', '.join(map(repr, sorted(error.extra_fields)))}"
        case _:
            return str(error)


StructureHook = Callable[[object, object], object]

_TYPE_NAMES: Final = {str: "a string", int: "an integer", bool: "true or false"}


def _exact_type_hook(type_: type) -> StructureHook:
    def structure(value: object, _: object) -> object:
        # Not `isinstance`: a bool is an int.
        if type(value) is type_:
            return value
        raise TypeError(f"must be {_TYPE_NAMES[type_]}, not {type(value).__name__}")

    return structure


def _structure_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("must be a non-empty string")


def _structure_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.from_name(value.strip())
    if not isinstance(value, dict):
        raise TypeError(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise TypeError("env_id must be left out: the environment does not exist yet")
    return Service(_CONVERTER.structure({"is_public": False, **table, "env_id": PLACEHOLDER_ENV_ID}, Server))


def _is_tuple(type_: object) -> bool:
    return get_origin(type_) is tuple


def _list_hook(type_: object, converter: cattrs.Converter) -> StructureHook:
    list_type = GenericAlias(list, get_args(type_)[:1])
    structure_list = converter.get_structure_hook(list_type)

    def structure(value: object, _: object) -> tuple[object, ...]:
        # cattrs would accept any iterable, and split a string into letters.
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {type(value).__name__}")
        return tuple(structure_list(value, list_type))

    return structure


def _table_hook(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> StructureHook:
    structure_fields = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def structure(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {type(value).__name__}")
        return structure_fields(cast("dict[str, object]", value), cls)

    return structure


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for type_ in _TYPE_NAMES:
        converter.register_structure_hook(type_, _exact_type_hook(type_))
    converter.register_structure_hook_factory(_is_tuple, _list_hook)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    # Later hooks win: `Secret` and `Service` are attrs classes too.
    converter.register_structure_hook_func(lambda type_: type_ is Secret, _structure_secret)
    converter.register_structure_hook_func(lambda type_: type_ is Service, _structure_service)
    return converter


_CONVERTER: Final = _make_converter()
