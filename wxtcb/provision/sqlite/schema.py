"""Schema of a journal file: its tables, its queries, and the JSON form of a record. All queries block."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import attrs

from wxtcb._files.sqlite import FileFormat
from wxtcb.provision import journal
from wxtcb.provision.record_json import dump_entry, load_record

T = TypeVar("T")

JOURNAL_FORMAT: Final = FileFormat(
    application_id=int.from_bytes(b"wxJn"),
    # Raise it with every change of the tables, or of the fields of `TenantRecord` and their meaning.
    schema_version=1,
    create_statements=(
        "CREATE TABLE home (component_appid TEXT NOT NULL, on_loopback INTEGER NOT NULL, namespace TEXT NOT NULL)",
        # NULL is not compared by UNIQUE: `open_alias` holds the alias only while the tenant has, or may have, an
        # environment.
        (
            "CREATE TABLE records (tenant TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, env TEXT UNIQUE, "
            "open_alias TEXT UNIQUE, document TEXT NOT NULL, history TEXT NOT NULL)"
        ),
    ),
)
_WHERE_TENANT_IN: Final = " WHERE tenant IN (SELECT value FROM json_each(?))"
_INSERT_RECORD: Final = (
    "INSERT INTO records (version, env, open_alias, document, history, tenant) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
# The comparison of versions and the write are one statement, and OR IGNORE covers the UNIQUE columns. No row changes
# if another run was faster, or if another tenant has the environment or the alias.
_UPDATE_RECORD: Final = (
    "UPDATE OR IGNORE records SET version = ?, env = ?, open_alias = ?, document = ?, history = history || ?"
    " WHERE tenant = ? AND version = ? - 1"
)


class CorruptRow(Exception):
    """A row of the records table cannot be read."""


@attrs.frozen
class RecordRow:
    """A record as table values, made by the caller so that the writer thread has less to do."""

    version: int
    values: tuple[object, ...]

    @classmethod
    def from_record(cls, record: journal.TenantRecord, entry: journal.HistoryEntry) -> RecordRow:
        """Return the row of a record; raise `UnserializableRecord` if it contains a value that cannot be stored."""
        document, line = dump_entry(record, entry)
        return cls(record.version, (record.version, *record.unique_keys(), document, line, record.tenant))


def bind_identity(db: sqlite3.Connection, identity: journal.JournalIdentity) -> journal.JournalIdentity:
    """Return the stored identity; store *identity* if there is none."""
    insert = "INSERT INTO home SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM home)"
    db.execute(insert, (identity.component_appid, identity.on_loopback, identity.namespace))
    appid, on_loopback, namespace = db.execute("SELECT * FROM home").fetchone()
    return journal.JournalIdentity(component_appid=appid, on_loopback=bool(on_loopback), namespace=namespace)


def select_records(db: sqlite3.Connection, tenants: Iterable[str] | None) -> dict[str, journal.TenantRecord]:
    """Return the records of *tenants*, or of all tenants if None."""
    rows = _select_tenants(db, "SELECT tenant, CAST(document AS BLOB) FROM records", tenants)
    return {tenant: _decode(load_record, tenant, document) for tenant, document in rows}


def select_bindings(db: sqlite3.Connection) -> dict[str, journal.Binding]:
    """Return the tenant of each bound environment."""
    rows = db.execute("SELECT env, tenant, CAST(document AS BLOB) FROM records WHERE env IS NOT NULL")
    records = ((env, tenant, _decode(load_record, tenant, raw)) for env, tenant, raw in rows)
    return {env: journal.Binding(tenant, record.opened_at or 0.0) for env, tenant, record in records}


def select_history(db: sqlite3.Connection, tenants: Iterable[str]) -> dict[str, tuple[journal.HistoryEntry, ...]]:
    """Return the histories of *tenants*."""
    rows = _select_tenants(db, "SELECT tenant, CAST(history AS BLOB) FROM records", tenants)
    parse = journal.HistoryEntry.parse_lines
    return {tenant: _decode(lambda raw: parse(raw.decode()), tenant, lines) for tenant, lines in rows}


def commit_rows(db: sqlite3.Connection, row: RecordRow, previous_owner: RecordRow | None) -> bool:
    """Store a record, and with it the record of the previous owner of its keys; return False if neither is stored."""
    if previous_owner is None:
        return _write_row(db, row)
    # A savepoint, because the transaction also holds the commits of other callers.
    db.execute("SAVEPOINT both")
    # The previous owner first: until its row is written, the UNIQUE columns still hold its keys.
    stored = _write_row(db, previous_owner) and _write_row(db, row)
    if not stored:
        db.execute("ROLLBACK TO both")
    db.execute("RELEASE both")
    return stored


def _write_row(db: sqlite3.Connection, row: RecordRow) -> bool:
    """Write a row if it is the next version and its keys are free; return whether it was written."""
    statement = (_INSERT_RECORD, row.values) if row.version == 1 else (_UPDATE_RECORD, (*row.values, row.version))
    return db.execute(*statement).rowcount == 1


def _select_tenants(db: sqlite3.Connection, statement: str, tenants: Iterable[str] | None) -> sqlite3.Cursor:
    if tenants is None:
        return db.execute(statement)
    # One JSON variable for all names: SQLite limits the number of variables. `json` and not `orjson`, because it
    # accepts lone surrogates. A name with NUL is left out, because SQLite would compare it up to the NUL only.
    names = json.dumps([name for name in tenants if "\0" not in name])
    return db.execute(statement + _WHERE_TENANT_IN, (names,))


def _decode(decoder: Callable[[bytes], T], tenant: str, raw: bytes) -> T:
    # Callers select CAST(... AS BLOB): for a TEXT that is not UTF-8, sqlite3 raises an error without the row's tenant.
    try:
        return decoder(raw)
    # Any exception means damage: the converter raises different ones for each kind of malformed document.
    except Exception as error:
        raise CorruptRow(f"the row of tenant {tenant!r} in the table records cannot be read") from error
