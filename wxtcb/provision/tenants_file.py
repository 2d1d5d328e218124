"""Tenants files: CSV, TOML or JSON Lines to tenants, or every problem of the file at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from wxtcb.errors import InvalidArgument
from wxtcb.provision.formats import read_csv, read_json_lines, read_toml
from wxtcb.provision.rows import FileProblem, TenantRow, parse_tenant
from wxtcb.provision.tenant import DuplicateCheck, Tenant, is_valid_name

Parser = Callable[[str], Iterator[TenantRow | FileProblem]]

PARSERS: Final[Mapping[str, Parser]] = {
    ".csv": read_csv,
    ".toml": read_toml,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


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
