"""What stands in the tables of a journal, and the questions put to them; all of it blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import eq
from typing import Final, TypeVar

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxtcb._sqlite import FileFormat
from wxtcb.provision.journal import (
    EMPTY_MAPPING,
    NO_SERVICES,
    Binding,
    HistoryEntry,
    Intent,
    JournalIdentity,
    ServiceState,
    TenantRecord,
)

_SERVICE_STATES: Final = {state.value: state for state in ServiceState}


def dump_record(record: TenantRecord) -> str:
    """Return it as JSON; `ValueError` if it holds what JSON has no place for."""
    try:
        return orjson.dumps(_unstructure_record(record)).decode()
    except orjson.JSONEncodeError as error:
        reason = str(error)
    raise ValueError(reason)


def load_record(document: bytes | str) -> TenantRecord:
    """Return the record that `dump_record` wrote; an exception of whatever kind if it was written by anything else."""
    record: TenantRecord = _structure_record(orjson.loads(document), TenantRecord)
    return record


def _structure_str_mapping(raw: Mapping[str, str], _: object) -> Mapping[str, str]:
    return raw or EMPTY_MAPPING


def _structure_services(raw: Mapping[str, str], _: object) -> Mapping[str, ServiceState]:
    return {name: _SERVICE_STATES[state] for name, state in raw.items()} if raw else NO_SERVICES


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for mapping, hook in (
        (Mapping[str, str], _structure_str_mapping),
        (Mapping[str, ServiceState], _structure_services),
    ):
        converter.register_structure_hook_func(partial(eq, mapping), hook)
    # Journals of earlier versions store `metadata` under the key "marks".
    metadata = override(rename="marks")
    converter.register_structure_hook(
        Intent,
        make_dict_structure_fn(Intent, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False),
    )
    converter.register_structure_hook(
        TenantRecord,
        make_dict_structure_fn(
            TenantRecord,
            converter,
            _cattrs_forbid_extra_keys=True,
            _cattrs_detailed_validation=False,
            metadata=metadata,
        ),
    )
    converter.register_unstructure_hook(
        TenantRecord, make_dict_unstructure_fn(TenantRecord, converter, metadata=metadata)
    )
    return converter


_CONVERTER: Final = _make_converter()
_unstructure_record: Final = _CONVERTER.get_unstructure_hook(TenantRecord)
_structure_record: Final = _CONVERTER.get_structure_hook(TenantRecord)


T = TypeVar("T")

_CREATE_HOME_TABLE: Final = (
    "CREATE TABLE home (component_appid TEXT NOT NULL, on_loopback INTEGER NOT NULL, namespace TEXT NOT NULL)"
)
_CREATE_RECORDS_TABLE: Final = (
    "CREATE TABLE records (tenant TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, env TEXT UNIQUE, "
    "open_alias TEXT UNIQUE, document TEXT NOT NULL, history TEXT NOT NULL)"
)
JOURNAL_FORMAT: Final = FileFormat(
    application_id=int.from_bytes(b"wxJn"),
    schema_version=1,  # another one for whatever changes in the tables, or in what a `Record` has or means
    create_statements=(_CREATE_HOME_TABLE, _CREATE_RECORDS_TABLE),
)
_INSERT_IDENTITY: Final = "INSERT INTO home SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM home)"
_WHERE_TENANT_IN: Final = " WHERE tenant IN (SELECT value FROM json_each(?))"
_INSERT_RECORD: Final = (
    "INSERT INTO records (version, env, open_alias, document, history, tenant) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_UPDATE_RECORD: Final = (
    "UPDATE OR IGNORE records SET version = ?, env = ?, open_alias = ?, document = ?, history = history || ?"
    " WHERE tenant = ? AND version = ? - 1"
)


class CorruptRow(Exception):
    """What is kept of a tenant is nothing that was ever written."""


@attrs.frozen
class RecordRow:
    """A record on its way into the table; made by who asks, so that the thread has less to do."""

    version: int
    values: tuple[object, ...]

    @classmethod
    def from_record(cls, record: TenantRecord, entry: HistoryEntry) -> RecordRow:
        """Raise `ValueError` if there is something in it that cannot be kept."""
        line = entry.to_line()
        line.encode()
        return cls(record.version, (record.version, *record.unique_keys(), dump_record(record), line, record.tenant))


def bind_identity(db: sqlite3.Connection, identity: JournalIdentity) -> JournalIdentity:
    """Return the home that is kept; keep *home* if there is none."""
    db.execute(_INSERT_IDENTITY, (identity.component_appid, identity.on_loopback, identity.namespace))
    appid, on_loopback, namespace = db.execute("SELECT * FROM home").fetchone()
    return JournalIdentity(component_appid=appid, on_loopback=bool(on_loopback), namespace=namespace)


def select_records(db: sqlite3.Connection, tenants: Iterable[str] | None) -> dict[str, TenantRecord]:
    """Return the records of some tenants, or of all."""
    rows = _select_tenants(db, "SELECT tenant, CAST(document AS BLOB) FROM records", tenants)
    return {tenant: _decode(load_record, tenant, document) for tenant, document in rows}


def select_bindings(db: sqlite3.Connection) -> dict[str, Binding]:
    """Return whose each environment is."""
    rows = db.execute("SELECT env, tenant, CAST(document AS BLOB) FROM records WHERE env IS NOT NULL")
    return {
        env: Binding(tenant, _decode(load_record, tenant, document).opened_at or 0.0) for env, tenant, document in rows
    }


def select_history(db: sqlite3.Connection, tenants: Iterable[str]) -> dict[str, tuple[HistoryEntry, ...]]:
    """Return what became of some tenants."""
    rows = _select_tenants(db, "SELECT tenant, CAST(history AS BLOB) FROM records", tenants)
    return {tenant: _decode(_parse_history, tenant, lines) for tenant, lines in rows}


def commit_rows(db: sqlite3.Connection, row: RecordRow, previous_owner: RecordRow | None) -> bool:
    """Keep a record, and that of who gives up what it claims; both or neither."""
    if previous_owner is None:
        return _write_row(db, row)
    db.execute("SAVEPOINT both")
    kept = _write_row(db, previous_owner) and _write_row(db, row)
    if not kept:
        db.execute("ROLLBACK TO both")
    db.execute("RELEASE both")
    return kept


def _write_row(db: sqlite3.Connection, row: RecordRow) -> bool:
    """Keep a record if it is the next version and nothing it claims is another's: the columns are UNIQUE."""
    if row.version == 1:
        return db.execute(_INSERT_RECORD, row.values).rowcount == 1
    return db.execute(_UPDATE_RECORD, (*row.values, row.version)).rowcount == 1


def _select_tenants(db: sqlite3.Connection, statement: str, tenants: Iterable[str] | None) -> sqlite3.Cursor:
    """Ask for some tenants or all, in one pass, and with one variable however many they are.

    What is no name is asked for in vain: `json` writes lone surrogates too, and SQLite would read a text to its NUL.
    """
    if tenants is None:
        return db.execute(statement)
    return db.execute(statement + _WHERE_TENANT_IN, (json.dumps([name for name in tenants if "\0" not in name]),))


def _parse_history(lines: bytes) -> tuple[HistoryEntry, ...]:
    return HistoryEntry.parse_lines(lines.decode())


def _decode(decoder: Callable[[bytes], T], tenant: str, raw: bytes) -> T:
    """Read what is kept; taken from SQLite as bytes, for it does not say whose a text is that is none."""
    try:
        return decoder(raw)
    except Exception:
        reason = f"what is kept of tenant {tenant!r}, in its row of the table records, cannot be read"
    raise CorruptRow(reason)
