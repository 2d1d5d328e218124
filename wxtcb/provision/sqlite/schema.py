"""What stands in the tables of a journal, and the questions put to them; all of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import attrs

from wxtcb._sqlite import Kind
from wxtcb.provision.journal import Binding, Home, Moment, Record
from wxtcb.provision.sqlite.document import read, write

T = TypeVar("T")

_HOME: Final = (
    "CREATE TABLE home (component_appid TEXT NOT NULL, on_loopback INTEGER NOT NULL, namespace TEXT NOT NULL)"
)
_RECORDS: Final = (
    "CREATE TABLE records (tenant TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, env TEXT UNIQUE, "
    "open_alias TEXT UNIQUE, document TEXT NOT NULL, history TEXT NOT NULL)"
)
JOURNAL: Final = Kind(
    application=int.from_bytes(b"wxJn"),
    format=1,  # another one for whatever changes in the tables, or in what a `Record` has or means
    tables=(_HOME, _RECORDS),
)
_CLAIM: Final = "INSERT INTO home SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM home)"
_AMONG: Final = " WHERE tenant IN (SELECT value FROM json_each(?))"
_ADD: Final = (
    "INSERT INTO records (version, env, open_alias, document, history, tenant) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_CHANGE: Final = (
    "UPDATE OR IGNORE records SET version = ?, env = ?, open_alias = ?, document = ?, history = history || ?"
    " WHERE tenant = ? AND version = ? - 1"
)


class Unreadable(Exception):
    """What is kept of a tenant is nothing that was ever written."""


@attrs.frozen
class Row:
    """A record on its way into the table; made by who asks, so that the thread has less to do."""

    version: int
    values: tuple[object, ...]

    @classmethod
    def of(cls, record: Record, moment: Moment) -> Row:
        """Raise `ValueError` if there is something in it that cannot be kept."""
        line = moment.write()
        line.encode()
        return cls(record.version, (record.version, *record.claims(), write(record), line, record.tenant))


def claim(db: sqlite3.Connection, home: Home) -> Home:
    """Return the home that is kept; keep *home* if there is none."""
    db.execute(_CLAIM, (home.component_appid, home.on_loopback, home.namespace))
    appid, on_loopback, namespace = db.execute("SELECT * FROM home").fetchone()
    return Home(component_appid=appid, on_loopback=bool(on_loopback), namespace=namespace)


def load(db: sqlite3.Connection, tenants: Iterable[str] | None) -> dict[str, Record]:
    """Return the records of some tenants, or of all."""
    rows = _select(db, "SELECT tenant, CAST(document AS BLOB) FROM records", tenants)
    return {tenant: _understood(read, tenant, document) for tenant, document in rows}


def bound(db: sqlite3.Connection) -> dict[str, Binding]:
    """Return whose each environment is."""
    rows = db.execute("SELECT env, tenant, CAST(document AS BLOB) FROM records WHERE env IS NOT NULL")
    return {
        env: Binding(tenant, _understood(read, tenant, document).opened_at or 0.0) for env, tenant, document in rows
    }


def history(db: sqlite3.Connection, tenants: Iterable[str]) -> dict[str, tuple[Moment, ...]]:
    """Return what became of some tenants."""
    rows = _select(db, "SELECT tenant, CAST(history AS BLOB) FROM records", tenants)
    return {tenant: _understood(_moments, tenant, lines) for tenant, lines in rows}


def commit(db: sqlite3.Connection, row: Row, giver: Row | None) -> bool:
    """Keep a record, and that of who gives up what it claims; both or neither."""
    if giver is None:
        return _keep(db, row)
    db.execute("SAVEPOINT both")
    kept = _keep(db, giver) and _keep(db, row)
    if not kept:
        db.execute("ROLLBACK TO both")
    db.execute("RELEASE both")
    return kept


def _keep(db: sqlite3.Connection, row: Row) -> bool:
    """Keep a record if it is the next version and nothing it claims is another's: the columns are UNIQUE."""
    if row.version == 1:
        return db.execute(_ADD, row.values).rowcount == 1
    return db.execute(_CHANGE, (*row.values, row.version)).rowcount == 1


def _select(db: sqlite3.Connection, statement: str, tenants: Iterable[str] | None) -> sqlite3.Cursor:
    """Ask for some tenants or all, in one pass, and with one variable however many they are.

    What is no name is asked for in vain: `json` writes lone surrogates too, and SQLite would read a text to its NUL.
    """
    if tenants is None:
        return db.execute(statement)
    return db.execute(statement + _AMONG, (json.dumps([name for name in tenants if "\0" not in name]),))


def _moments(lines: bytes) -> tuple[Moment, ...]:
    return Moment.read(lines.decode())


def _understood(reader: Callable[[bytes], T], tenant: str, kept: bytes) -> T:
    """Read what is kept; taken from SQLite as bytes, for it does not say whose a text is that is none."""
    try:
        return reader(kept)
    except Exception:
        reason = f"what is kept of tenant {tenant!r}, in its row of the table records, cannot be read"
    raise Unreadable(reason)
