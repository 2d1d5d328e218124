"""Schema of a journal file: its tables, and the queries on records. All queries block."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, TypeVar

import attrs

from wxtcb._files.sqlite import FileFormat
from wxtcb.provision.journal import CommitResult, Committed, Deposed, KeyTaken, Stale
from wxtcb.provision.record import (
    Binding,
    HistoryEntry,
    JournalIdentity,
    TenantRecord,
    collect_bindings,
)
from wxtcb.provision.record_json import dump_entry, load_record

T = TypeVar("T")

_SHARED_TABLES: Final = (
    # `due` is a Unix time. `taken`: the elected process works on the tenant. `alias_key`, in lower case, is NULL only
    # while a transaction exchanges the aliases of several tenants.
    (
        "CREATE TABLE desired (tenant TEXT NOT NULL UNIQUE, alias TEXT NOT NULL, alias_key TEXT UNIQUE, "
        "spec BLOB NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL, decision TEXT, tries INTEGER NOT NULL, "
        "due REAL NOT NULL, changed_at REAL NOT NULL, taken INTEGER NOT NULL)"
    ),
    "CREATE INDEX desired_waiting ON desired (due) WHERE state = 'waiting' AND NOT taken",
    "CREATE INDEX desired_taken ON desired (taken) WHERE taken",
    "CREATE INDEX desired_state ON desired (state, tenant)",
    # `holder` is NULL if the term was released.
    "CREATE TABLE leader (epoch INTEGER NOT NULL, holder TEXT)",
    "INSERT INTO leader VALUES (0, NULL)",
)
JOURNAL_FORMAT: Final = FileFormat(
    application_id=int.from_bytes(b"wxJn"),
    # Raise it with every change of the tables, or of the fields of `TenantRecord` and their meaning.
    schema_version=2,
    create_statements=(
        "CREATE TABLE home (component_appid TEXT NOT NULL, on_loopback INTEGER NOT NULL, namespace TEXT NOT NULL)",
        # NULL is not compared by UNIQUE: `open_alias` holds the alias only while the tenant has, or may have, an
        # environment.
        (
            "CREATE TABLE records (tenant TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, env TEXT UNIQUE, "
            "open_alias TEXT UNIQUE, document TEXT NOT NULL, history TEXT NOT NULL)"
        ),
        *_SHARED_TABLES,
    ),
    # The documents of version 1 have all fields, and can be read.
    upgrades={1: _SHARED_TABLES},
)
# The epoch, ?7, is compared in the same statement: a query of its own costs as much as a tenth of a commit.
_IS_ELECTED: Final = "(?7 IS NULL OR ?7 = (SELECT epoch FROM leader))"
_INSERT_RECORD: Final = (
    "INSERT INTO records (version, env, open_alias, document, history, tenant) SELECT ?1, ?2, ?3, ?4, ?5, ?6"
    f" WHERE {_IS_ELECTED} ON CONFLICT DO NOTHING"
)
# The comparison of versions and the write are one statement, and OR IGNORE covers the UNIQUE columns. No row changes
# if another run was faster, or if another tenant has the environment or the alias.
_UPDATE_RECORD: Final = (
    "UPDATE OR IGNORE records SET version = ?1, env = ?2, open_alias = ?3, document = ?4, history = history || ?5"
    f" WHERE tenant = ?6 AND version = ?1 - 1 AND {_IS_ELECTED}"
)


class CorruptRow(Exception):
    """A row of the records table cannot be read."""


@attrs.frozen
class RecordRow:
    """A record as table values, made by the caller so that the writer thread has less to do."""

    version: int
    values: tuple[object, ...]

    @classmethod
    def from_record(cls, record: TenantRecord, entry: HistoryEntry, epoch: int | None) -> RecordRow:
        """Return the row of a record; raise `UnserializableRecord` if it contains a value that cannot be stored."""
        document, line = dump_entry(record, entry)
        return cls(record.version, (record.version, *record.unique_keys(), document, line, record.tenant, epoch))


def select_identity(db: sqlite3.Connection) -> JournalIdentity | None:
    """Return the stored identity."""
    row = db.execute("SELECT component_appid, on_loopback, namespace FROM home").fetchone()
    return row and JournalIdentity(component_appid=row[0], on_loopback=bool(row[1]), namespace=row[2])


def bind_identity(db: sqlite3.Connection, identity: JournalIdentity) -> JournalIdentity:
    """Return the stored identity; store *identity* if there is none."""
    stored = select_identity(db)
    if stored is None:
        values = (identity.component_appid, identity.on_loopback, identity.namespace)
        db.execute("INSERT INTO home VALUES (?, ?, ?)", values)
    return stored or identity


def select_records(
    db: sqlite3.Connection, tenants: Iterable[str] | None = None, aliases: Iterable[str] = (), envs: Iterable[str] = ()
) -> dict[str, TenantRecord]:
    """Return the records of *tenants*, or of all tenants if None, and the owners of *aliases* and *envs*."""
    select = "SELECT tenant, CAST(document AS BLOB) FROM records"
    conditions = (("tenant", tenants or ()), ("open_alias", map(str.lower, aliases)), ("env", envs))
    found = (_select_where(db, select, column, values) for column, values in conditions)
    rows = chain.from_iterable(found) if tenants is not None else db.execute(select)
    return {tenant: _decode(load_record, tenant, document) for tenant, document in rows}


def select_bindings(db: sqlite3.Connection) -> dict[str, Binding]:
    """Return the tenant of each bound environment."""
    rows = db.execute("SELECT tenant, CAST(document AS BLOB) FROM records WHERE env IS NOT NULL")
    return collect_bindings(_decode(load_record, tenant, raw) for tenant, raw in rows)


def select_history(db: sqlite3.Connection, tenants: Iterable[str]) -> dict[str, tuple[HistoryEntry, ...]]:
    """Return the histories of *tenants*."""
    rows = _select_where(db, "SELECT tenant, CAST(history AS BLOB) FROM records", "tenant", tenants)
    parse = HistoryEntry.parse_lines
    return {tenant: _decode(lambda raw: parse(raw.decode()), tenant, lines) for tenant, lines in rows}


def commit_rows(db: sqlite3.Connection, row: RecordRow, previous_owner: RecordRow | None) -> CommitResult:
    """Store a record, and with it the record of the previous owner of its keys."""
    if previous_owner is None:
        return _write_row(db, row)
    result: CommitResult = Committed()
    with contextlib.suppress(_Undo), savepoint(db):
        # The previous owner first: until its row is written, the UNIQUE columns still hold its keys.
        result = _write_row(db, previous_owner)
        if isinstance(result, Committed):
            result = _write_row(db, row)
        if not isinstance(result, Committed):
            raise _Undo
    return result


def check_epoch(db: sqlite3.Connection, epoch: object) -> None:
    """Raise `Deposed` unless *epoch* is the present one."""
    (present,) = db.execute("SELECT epoch FROM leader").fetchone()
    if epoch != present:
        raise Deposed(f"another process was elected (epoch {present}, not {epoch}); nothing was stored")


@contextlib.contextmanager
def savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """Undo the statements of the block if it raises. The transaction also holds the changes of other callers."""
    db.execute("SAVEPOINT job")
    try:
        yield
    except BaseException:
        # Some errors, such as a full disk, have rolled back the whole transaction.
        if db.in_transaction:
            db.execute("ROLLBACK TO job")
            db.execute("RELEASE job")
        raise
    db.execute("RELEASE job")


def json_list(values: Iterable[str]) -> str:
    """Return *values* for ``json_each``: SQLite limits the number of variables of a statement."""
    # `json` and not `orjson`, because it accepts lone surrogates. A value with NUL is left out, because SQLite would
    # compare it up to the NUL only.
    return json.dumps([value for value in values if "\0" not in value])


class _Undo(Exception):
    """Ends a savepoint without a change."""


def _write_row(db: sqlite3.Connection, row: RecordRow) -> CommitResult:
    statement = _INSERT_RECORD if row.version == 1 else _UPDATE_RECORD
    return Committed() if db.execute(statement, row.values).rowcount == 1 else _find_reason(db, row)


def _find_reason(db: sqlite3.Connection, row: RecordRow) -> Stale | KeyTaken:
    _, env, alias, _, _, tenant, epoch = row.values
    if epoch is not None:
        check_epoch(db, epoch)
    found = db.execute("SELECT version, CAST(document AS BLOB) FROM records WHERE tenant = ?", (tenant,)).fetchone()
    version, document = found or (0, None)
    if version != row.version - 1:
        return Stale(document and _decode(load_record, str(tenant), document))
    owners = "SELECT min(tenant) FROM records WHERE tenant <> ? AND (env = ? OR open_alias = ?)"
    return KeyTaken(db.execute(owners, (tenant, env, alias)).fetchone()[0])


def _select_where(db: sqlite3.Connection, select: str, column: str, values: Iterable[str]) -> sqlite3.Cursor:
    return db.execute(f"{select} WHERE {column} IN (SELECT value FROM json_each(?))", (json_list(values),))


def _decode(decoder: Callable[[bytes], T], tenant: str, raw: bytes) -> T:
    # Callers select CAST(... AS BLOB): for a TEXT that is not UTF-8, sqlite3 raises an error without the row's tenant.
    try:
        return decoder(raw)
    # Any exception means damage: the converter raises different ones for each kind of malformed document.
    except Exception as error:
        raise CorruptRow(f"the row of tenant {tenant!r} in the table records cannot be read") from error
