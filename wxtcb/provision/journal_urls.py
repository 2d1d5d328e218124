"""Journals by URL, as the command line and settings give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import check_string

if TYPE_CHECKING:
    from wxtcb.provision.postgres.journal import PostgresJournal
    from wxtcb.provision.sqlite.journal import SqliteJournal

__all__ = ["open_journal"]


def open_journal(url: str | os.PathLike[str] | Secret) -> SqliteJournal | PostgresJournal:
    """Return the journal at *url*; the caller closes it with `aclose`. Nothing is connected before its first use.

    - ``postgresql://user:password@host/database`` is a `PostgresJournal` and needs the extra ``postgres``. The option
      ``schema`` names the PostgreSQL schema of its tables; all other options are those of libpq.
    - ``sqlite:///journal.db`` is a `SqliteJournal` in the working directory, ``sqlite:////var/lib/journal.db`` one with
      an absolute path; special characters are percent-encoded. A path without a scheme is one, too.

    Raises `InvalidArgument` for anything else. The message quotes no password.
    """
    journal = _journal_from_url(url)
    if isinstance(journal, InvalidArgument):
        # The frame is part of the traceback, and error reporters print its variables.
        del url
        raise journal
    return journal


def _journal_from_url(url: str | os.PathLike[str] | Secret) -> SqliteJournal | PostgresJournal | InvalidArgument:
    """Return the journal, or the error without a traceback: its frames hold the URL."""
    try:
        address = os.fspath(url.reveal() if isinstance(url, Secret) else url)
        check_string("journal", address)
        scheme, is_url, rest = address.partition("://")
        if not is_url:
            return _open_file(address)
        if scheme.lower() == "sqlite":
            return _open_sqlite(rest)
        if scheme.lower() in ("postgresql", "postgres"):
            return _open_postgres(rest)
    except InvalidArgument as error:
        return error.with_traceback(None)
    # The message does not quote the scheme: a mistyped URL may have the password there.
    return InvalidArgument(
        "unknown scheme of the journal URL: expected postgresql://USER:PASSWORD@HOST/DATABASE (with ?schema=NAME for "
        "another schema than public), sqlite:///PATH, or the path of a file"
    )


def _open_file(path: str) -> SqliteJournal | PostgresJournal:
    from wxtcb.provision.sqlite.journal import SqliteJournal

    return SqliteJournal(Path(path))


def _open_sqlite(rest: str) -> SqliteJournal | PostgresJournal:
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or "?" in rest or "#" in rest:
        raise InvalidArgument(
            "invalid sqlite URL of the journal: write sqlite:///PATH for a file in the working directory or "
            "sqlite:////PATH for an absolute path, with '?' and '#' percent-encoded"
        )
    return _open_file(path)


def _open_postgres(rest: str) -> SqliteJournal | PostgresJournal:
    from wxtcb.provision.postgres.journal import PostgresJournal

    server, _, query = rest.partition("?")
    options = query.split("&") if query else []
    schemas = [unquote(option.removeprefix("schema=")) for option in options if option.startswith("schema=")]
    others = "&".join(option for option in options if not option.startswith("schema="))
    url = f"postgresql://{server}?{others}" if others else f"postgresql://{server}"
    return PostgresJournal(url, schema=schemas[-1]) if schemas else PostgresJournal(url)
