"""Tenants files: CSV, TOML or JSON Lines to tenants, or every problem of the file at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from wxtcb.errors import InvalidArgument
from wxtcb.provision.formats import read_csv, read_json_lines, read_toml
from wxtcb.provision.rows import Flaw, Row, tenant_of
from wxtcb.provision.tenant import Roll, Tenant, is_name

Format = Callable[[str], Iterator[Row | Flaw]]

FORMATS: Final[Mapping[str, Format]] = {
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
        tenants, flaws = _judge(_rows(path), Roll(namespace))
    except OSError as error:
        tenants, flaws = (), (Flaw(f"the file cannot be read ({error.strerror or type(error).__name__})"),)
    if not tenants and not flaws:
        flaws = (Flaw("there is no tenant in it"),)
    if flaws:
        raise TenantsFileError(path, tuple(flaw.text for flaw in flaws))
    return tenants


def _rows(path: Path) -> Iterator[Row | Flaw]:
    data = path.read_bytes()
    read = FORMATS.get(path.suffix.lower())
    if read is None:
        yield Flaw(f"unknown ending {path.suffix!r}; wanted is {', '.join(FORMATS)}")
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        yield Flaw(f"line {line}: not UTF-8 (byte {error.start}, {data[error.start]:#04x}); save the file as UTF-8")
        return
    yield from read(text)


def _judge(rows: Iterator[Row | Flaw], roll: Roll) -> tuple[tuple[Tenant, ...], tuple[Flaw, ...]]:
    tenants: list[Tenant] = []
    flaws: list[Flaw] = []
    for row in rows:
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        match tenant_of(row):
            case Tenant() as tenant:
                tenants.append(tenant)
                flaws += _doubles(row.place, tenant.name, tenant.alias, roll)
            case wrong:
                flaws += (*wrong, *_doubles(row.place, row.text("tenant"), row.text("alias"), roll))
    return tuple(tenants), tuple(flaws)


def _doubles(place: str, name: str | None, alias: str | None, roll: Roll) -> tuple[Flaw, ...]:
    """Compare a tenant with those before it, also one with other flaws, as far as its fields can be used."""
    if not name or not is_name(name):
        return ()
    return tuple(Flaw(f"{place}: {problem}") for problem in roll.add(name, alias, place))
