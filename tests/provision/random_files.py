"""Random tenants files: valid ones, nearly valid ones, and arbitrary bytes, as hypothesis strategies."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from hypothesis import strategies as st

from wxtcb.provision import Tenant, TenantsFileError, read_tenants

WORDS = st.sampled_from(
    ["tenant", "alias", "appids", "services", "env", "source_type", "service_name", "is_public", "es_info", "password"]
)
TEXTS = st.one_of(
    st.from_regex("wx[0-9a-z]{16}", fullmatch=True),
    st.from_regex("[a-z][a-zA-Z0-9-]{0,8}", fullmatch=True),
    st.text(max_size=12),
    st.text(st.sampled_from(";\uff1b,\uff0c、\"'\n\r\t\0\ufeff\u200b="), max_size=8),
    WORDS,
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | TEXTS, inner, max_size=4),
    max_leaves=8,
)
TABLES = st.dictionaries(WORDS, VALUES, max_size=5) | st.builds(
    lambda name, rest: {"tenant": name, **rest}, TEXTS, st.dictionaries(WORDS, VALUES, max_size=3)
)


@st.composite
def csv_files(draw: st.DrawFn) -> str:
    """Return a file of cells, whose header may be valid."""
    header = draw(st.just(["tenant", "alias", "appids", "services", "env"]) | st.lists(WORDS | TEXTS, max_size=6))
    output = io.StringIO(newline="")
    writer = csv.writer(output, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    writer.writerows([header, *draw(st.lists(st.lists(TEXTS, max_size=6), max_size=6))])
    return output.getvalue()


def _as_toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {_as_toml(each)}" for key, each in value.items()) + "}"
        case list():
            return f"[{', '.join(map(_as_toml, value))}]"
        case None:
            return '""'
        case float():
            return repr(value)
        case _:
            return json.dumps(value)


JSON_LINES = st.lists(TABLES | VALUES, max_size=5).map(lambda rows: "\n".join(map(json.dumps, rows)))
TOML_FILES = st.lists(TABLES, max_size=4).map(lambda tables: f"tenant = [{', '.join(map(_as_toml, tables))}]\n")
FRAGMENTS = st.sampled_from(
    ['"', "'", '"""', "[", "]", "{", "}", "[[tenant]]", "\n", "=", ".", ",", "\\", "#", "\0", "a"]
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a file; a file may be damaged, cut or in another encoding."""
    suffix = draw(st.sampled_from([".csv", ".toml", ".jsonl", ".ndjson"]))
    formats = {".csv": csv_files(), ".toml": TOML_FILES}
    text = draw(formats.get(suffix, JSON_LINES) | st.lists(FRAGMENTS | TEXTS, max_size=12).map("".join))
    if draw(st.booleans()):
        position = draw(st.integers(0, len(text)))
        text = text[:position] + draw(FRAGMENTS | st.just("")) + text[position + draw(st.integers(0, 3)) :]
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "gb18030", "utf-16"]))
    return suffix, draw(st.just(text.encode(encoding, "surrogatepass")) | st.binary(max_size=40))


def check_file(folder: Path, file: tuple[str, bytes]) -> None:
    """Read a file; raise unless it has tenants, or problems that each name something."""
    suffix, data = file
    path = folder / f"tenants{suffix}"
    path.write_bytes(data)
    try:
        tenants: tuple[Tenant, ...] = read_tenants(path, namespace="wx")
        problems: tuple[str, ...] = ()
    except TenantsFileError as error:
        tenants, problems = (), error.problems
    assert bool(tenants) != bool(problems)
    assert all(problems)
    assert all(type(tenant) is Tenant for tenant in tenants)
    assert len({tenant.resolve_alias("wx").lower() for tenant in tenants}) == len(tenants)
