"""Tenants files: CSV, TOML or JSON Lines to tenants, or every problem of the file at once."""

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


class TenantsFileError(InvalidArgument):
    """A tenants file cannot be used; nothing was sent.

    `path` is the file, `problems` all that is wrong with it, each with its line (in TOML: the number of the tenant).
    """

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join((f"{path}: {count}, nothing was sent", *problems)))
        self.path = path
        self.problems: tuple[str, ...] = problems


def read_tenants(path: str | Path, *, namespace: str | None = None) -> tuple[Tenant, ...]:
    """Read the tenants of a file in the order they stand in; the file's ending says what it is.

    ``.csv``: columns `tenant`, and where wanted `alias`, `appids`, `services`; several values parted by ``;``, a
    service by its name alone. ``.toml`` (``[[tenant]]``) and ``.jsonl`` or ``.ndjson`` (an object a line): the same
    fields, lists as lists, a service as a name or as the fields of `cloudrun.Server` without `env_id`, and
    `source_type`.

    Given aliases are compared with each other, and with the derived ones where *namespace* (the component appid, unless
    you chose another) is given.

    Raises `TenantsFileError` with every problem of the file. It blocks: call it in a thread from a coroutine.
    """
    path = Path(path)
    try:
        tenants, flaws = _parse_rows(_read_rows(path), DuplicateCheck(namespace))
    except OSError as error:
        tenants, flaws = (), (FileProblem(f"the file cannot be read ({error.strerror or type(error).__name__})"),)
    if not tenants and not flaws:
        flaws = (FileProblem("there is no tenant in it"),)
    if flaws:
        raise TenantsFileError(path, tuple(flaw.message for flaw in flaws))
    return tenants


def _read_rows(path: Path) -> Iterator[TenantRow | FileProblem]:
    data = path.read_bytes()
    read = PARSERS.get(path.suffix.lower())
    if read is None:
        yield FileProblem(f"unknown ending {path.suffix!r}; wanted is {', '.join(PARSERS)}")
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield FileProblem(
            f"line {line}: not UTF-8 (byte {error.start}, {data[error.start]:#04x}); save the file as UTF-8"
        )
        return
    yield from read(text)


def _parse_rows(
    rows: Iterator[TenantRow | FileProblem], duplicate_check: DuplicateCheck
) -> tuple[tuple[Tenant, ...], tuple[FileProblem, ...]]:
    tenants: list[Tenant] = []
    flaws: list[FileProblem] = []
    for row in rows:
        if isinstance(row, FileProblem):
            flaws.append(row)
            continue
        match parse_tenant(row):
            case Tenant() as tenant:
                tenants.append(tenant)
                flaws += _duplicate_errors(row.location, tenant.name, tenant.alias, duplicate_check)
            case wrong:
                flaws += (
                    *wrong,
                    *_duplicate_errors(
                        row.location, row.get_string("tenant"), row.get_string("alias"), duplicate_check
                    ),
                )
    return tuple(tenants), tuple(flaws)


def _duplicate_errors(
    location: str, name: str | None, alias: str | None, duplicate_check: DuplicateCheck
) -> tuple[FileProblem, ...]:
    """Compare a tenant with those before it, also one with other flaws, as far as its fields can be used."""
    if not name or not is_valid_name(name):
        return ()
    return tuple(FileProblem(f"{location}: {problem}") for problem in duplicate_check.add(name, alias, location))


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


StructureHook = Callable[[object, object], object]

CSV_COLUMNS: Final = ("tenant", "alias", "appids", "services")
TENANT_FIELDS: Final = (*CSV_COLUMNS, "source_type")
_TYPE_NAMES: Final = {str: "a text", int: "a whole number", bool: "true or false"}


@attrs.frozen
class TenantRow:
    """The fields of one tenant; `location` is where they stand, "line 3" or "tenant 3". Values may be secret: no repr."""

    location: str
    fields: Mapping[str, object] = attrs.field(repr=False)

    def get_string(self, name: str) -> str | None:
        """Return a field if it is a text that is not empty."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None


@attrs.frozen
class FileProblem:
    """Something wrong with the file, and where."""

    message: str


def parse_tenant(row: TenantRow) -> Tenant | tuple[FileProblem, ...]:
    """Read the fields of a row strictly; what is wrong is told by field, never by a value that may be secret."""
    found = [*_missing_field_errors(row.fields), *_unknown_field_errors(row.fields)]
    for name in TENANT_FIELDS:
        if name in row.fields:
            found += _field_errors(name, row.fields[name])
    if found:
        return tuple(FileProblem(f"{row.location}: {text}") for text in found)
    return _structure_tenant({_attribute_name(name): value for name, value in row.fields.items()})


def _missing_field_errors(fields: Mapping[str, object]) -> list[str]:
    return [] if "tenant" in fields else ["the tenant is missing"]


def _unknown_field_errors(fields: Mapping[str, object]) -> list[str]:
    return [
        f"unknown field {name!r}; a tenant has {', '.join(TENANT_FIELDS)}"
        for name in fields
        if name not in TENANT_FIELDS
    ]


def _field_errors(name: str, value: object) -> list[str]:
    """Try a field alone, so that a row shows the flaws of all its fields."""
    try:
        _structure_tenant({"name": "x", _attribute_name(name): value})
    except cattrs.BaseValidationError as error:
        return [_format_error(line) for line in cattrs.transform_error(error, format_exception=_describe_error)]
    return []


def _attribute_name(name: str) -> str:
    return "name" if name == "tenant" else name


def _structure_tenant(fields: Mapping[str, object]) -> Tenant:
    return _CONVERTER.structure(_strip_values(fields), Tenant)


def _strip_values(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}


def _format_error(line: str) -> str:
    """Turn "what @ $.where" into "where: what"."""
    what, _, where = line.rpartition(" @ $")
    where = where.removeprefix(".")
    where = "tenant" if where == "name" else where
    return f"{where}: {what}" if where else what.replace("Tenant: name", "the tenant").removeprefix("Tenant: ")


def _describe_error(error: BaseException, _type: type | None) -> str:
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"unknown field {', '.join(map(repr, sorted(error.extra_fields)))}"
        case _:
            return str(error)


def _exact_type_hook(type_: type) -> StructureHook:
    def read(value: object, _: object) -> object:
        if type(value) is type_:
            return value
        raise TypeError(f"must be {_TYPE_NAMES[type_]}, not {type(value).__name__}")

    return read


def _structure_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("must be a text that is not empty")


def _structure_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.from_name(value.strip())
    if not isinstance(value, dict):
        raise TypeError(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise TypeError("env_id is not known yet: leave it out")
    return Service(_CONVERTER.structure({"is_public": False, **table, "env_id": PLACEHOLDER_ENV_ID}, Server))


def _is_tuple(type_: object) -> bool:
    return get_origin(type_) is tuple


def _list_hook(type_: object, converter: cattrs.Converter) -> StructureHook:
    entries = GenericAlias(list, get_args(type_)[:1])
    fill = converter.get_structure_hook(entries)

    def read(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {type(value).__name__}")
        return tuple(fill(value, entries))

    return read


def _table_hook(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> StructureHook:
    fill = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def read(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {type(value).__name__}")
        return fill(cast("dict[str, object]", value), cls)

    return read


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kind in _TYPE_NAMES:
        made.register_structure_hook(kind, _exact_type_hook(kind))
    made.register_structure_hook_factory(_is_tuple, _list_hook)
    made.register_structure_hook_factory(attrs.has, _table_hook)
    made.register_structure_hook_func(lambda kind: kind is Secret, _structure_secret)
    made.register_structure_hook_func(lambda kind: kind is Service, _structure_service)
    return made


_CONVERTER: Final = _make_converter()


Parser = Callable[[str], Iterator[TenantRow | FileProblem]]

PARSERS: Final[Mapping[str, Parser]] = {
    ".csv": read_csv,
    ".toml": read_toml,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
