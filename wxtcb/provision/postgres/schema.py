"""Schema of a journal in PostgreSQL: its tables, its format, and the texts that a database accepts.

Table names begin with ``wxtcb_``; `qualify` puts the PostgreSQL schema in front of them. Every statement that wxtcb
executes is a transaction of its own: a process that is stopped between two statements holds no lock, and statements
pass a pooler such as PgBouncer in transaction mode.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final

from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import JournalError, UnserializableRecord
from wxtcb.provision.record import TenantRecord
from wxtcb.provision.record_json import load_record

__all__ = ["FORMAT", "schema_sql"]

# Raise it with every change of the tables, or of the fields of `TenantRecord` and their meaning.
FORMAT: Final = 1
# NOTIFY channel of all journals of a database; the payload is the schema.
CHANNEL: Final = "wxtcb"
# A key of a B-tree index is limited to 2,704 bytes.
MAX_KEY_BYTES: Final = 2500
# An asynchronous commit can be lost in a crash of the server, and a lost intent can cost a second environment. Set for
# the one transaction, because a pooler may give the next one another connection.
DURABLE: Final = "set_config('synchronous_commit', 'on', true)"
NOTIFY: Final = f"pg_notify('{CHANNEL}', :schema)"

# Names are compared by code point, as Python does: collations of the operating system change with its version.
# The unique keys of a record are checked at the end of a statement, so that one statement can move a key.
# `token` identifies the call that wrote a row: a call whose response was lost recognizes its own row by it.
_TABLES: Final = """\
CREATE TABLE IF NOT EXISTS wxtcb_meta (
    only_row boolean PRIMARY KEY CHECK (only_row),
    format integer NOT NULL,
    component_appid text, on_loopback boolean, namespace text,
    timeline text, system text, rolled_back_at timestamptz);
CREATE TABLE IF NOT EXISTS wxtcb_tenants (
    tenant text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    env text COLLATE "C" UNIQUE DEFERRABLE INITIALLY IMMEDIATE,
    open_alias text COLLATE "C" UNIQUE DEFERRABLE INITIALLY IMMEDIATE,
    document text NOT NULL, history text NOT NULL, bound_at timestamptz, token text NOT NULL)
    WITH (fillfactor = 70);
CREATE TABLE IF NOT EXISTS wxtcb_desired (
    tenant text COLLATE "C" PRIMARY KEY,
    alias text NOT NULL,
    alias_key text COLLATE "C" NOT NULL UNIQUE DEFERRABLE INITIALLY IMMEDIATE,
    spec bytea NOT NULL, revision bigint NOT NULL, state text NOT NULL, decision text,
    tries integer NOT NULL, due timestamptz NOT NULL, changed_at timestamptz NOT NULL,
    taken bigint NOT NULL, taken_by text)
    WITH (fillfactor = 85);
CREATE INDEX IF NOT EXISTS wxtcb_waiting ON wxtcb_desired (taken, due) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS wxtcb_leader (
    only_row boolean PRIMARY KEY CHECK (only_row),
    epoch bigint NOT NULL, holder text, until timestamptz NOT NULL);
"""
# Two sessions that create the same table at once would both fail, IF NOT EXISTS or not.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('wxtcb'));\n"
_TABLE_NAME: Final = re.compile(r"(?<!INDEX IF NOT EXISTS )(?<![.\w])wxtcb_\w+")


def check_schema_name(name: str) -> None:
    """Raise `InvalidArgument` unless *name* can be the name of a schema without quotes."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise InvalidArgument(
            f"schema {name!r} is invalid: it must start with a lower-case letter or '_', contain only lower-case "
            "letters, digits and '_', and have at most 63 characters"
        )


@functools.cache
def qualify(sql: str, schema: str) -> str:
    """Return *sql* for the tables in *schema*."""
    return _TABLE_NAME.sub(lambda name: f"{schema}.{name[0]}", sql).replace(":schema", f"'{schema}'")


def creation_script(schema: str) -> str:
    """Return the statements that create what is missing, to be sent in one message, which is one transaction."""
    # CREATE SCHEMA needs more rights than CREATE TABLE, and `public` exists everywhere.
    create = "" if schema == "public" else f"CREATE SCHEMA IF NOT EXISTS {schema};\n"
    return f"{_LOCK}{create}{qualify(_TABLES, schema)}"


def schema_sql(schema: str = "public") -> str:
    """Return the SQL script that creates the tables of a `PostgresJournal`, for a role that may create tables.

    The role of the journal then needs SELECT, INSERT and UPDATE on them, and USAGE of *schema*.
    """
    check_schema_name(schema)
    return f"BEGIN;\n{creation_script(schema)}COMMIT;\n"


def encode_text(value: str) -> str:
    r"""Return *value* without NUL, which PostgreSQL does not store: it becomes ``\0``, and a backslash is doubled."""
    if "\\" in value or "\0" in value:
        value = value.replace("\\", "\\\\").replace("\0", "\\0")
    return value


def decode_text(value: str) -> str:
    """Return the value that `encode_text` encoded."""
    if "\\" in value:
        value = re.sub(r"\\(.)", lambda pair: "\0" if pair[1] == "0" else pair[1], value)
    return value


def encode_key(value: str, label: str) -> str:
    """Return an indexed text for the database; raise `UnserializableRecord` if it cannot be stored."""
    encoded = encode_text(value)
    try:
        size = len(encoded.encode())
    except UnicodeEncodeError:
        # Without the cause, whose message repeats the value in full.
        size = None
    if size is None:
        raise UnserializableRecord(f"{label} {value!r} cannot be stored: use only text that UTF-8 can encode")
    if size > MAX_KEY_BYTES:
        raise UnserializableRecord(f"{label} {value[:40]!r}... is too long: at most {MAX_KEY_BYTES} bytes are stored")
    return encoded


def encode_names(values: Iterable[str]) -> list[str]:
    """Return the texts of *values* that a stored key can equal, each once, for a search."""
    return [encode_text(name) for name in dict.fromkeys(values) if not _has_surrogate(name)]


def load_document(tenant: str, document: str) -> TenantRecord:
    """Return the record of a row; raise `JournalError` if it is malformed."""
    try:
        return load_record(document)
    # The converter raises different errors for each kind of malformed document.
    except Exception as error:
        raise JournalError(
            f"the record of tenant {decode_text(tenant)!r} in the table wxtcb_tenants cannot be read: restore it from "
            "a backup"
        ) from error


_has_surrogate: Final = re.compile("[\ud800-\udfff]").search
