"""Journals by URL, as the command line and settings give them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import check_string

if TYPE_CHECKING:
    from wxtcb.provision.postgres.journal import PostgresJournal
    from wxtcb.provision.sqlite.journal import SqliteJournal

__all__ = ["open_journal"]

_SQLITE: Final = "sqlite:///"
_EXPECTED: Final = (
    "expected postgresql://USER:PASSWORD@HOST/DATABASE (with ?schema=NAME for another schema than public), "
    "sqlite:///PATH, or the path of a file"
)


def open_journal(url: str | os.PathLike[str] | Secret) -> SqliteJournal | PostgresJournal:
    """Return the journal at *url*; the caller closes it with `aclose`. Nothing is connected before its first use.

    - ``postgresql://user:password@host/database`` is a `PostgresJournal` and needs the extra ``postgres``. The option
      ``schema`` names the PostgreSQL schema of its tables; all other options are those of libpq.
    - ``sqlite:///journal.db`` is a `SqliteJournal` in the working directory, ``sqlite:////var/lib/journal.db`` one with
      an absolute path; special characters are percent-encoded. A path without a scheme is one, too.

    Raises `InvalidArgument` for anything else. The message quotes no password.
    """
    address = os.fspath(url.reveal() if isinstance(url, Secret) else url)
    check_string("journal", address)
    scheme, is_url, _ = address.partition("://")
    if not is_url or scheme.lower() == "sqlite":
        return _open_sqlite(address)
    if scheme.lower() in ("postgresql", "postgres"):
        return _open_postgres(address)
    # A mistyped URL may contain a password, also in front of "://".
    del url, address, scheme
    raise InvalidArgument(f"unknown scheme of the journal URL: {_EXPECTED}")


def _open_sqlite(address: str) -> SqliteJournal:
    from wxtcb.provision.sqlite.journal import SqliteJournal

    if "://" not in address:
        return SqliteJournal(Path(address))
    path = unquote(address[len(_SQLITE) :])
    if address[: len(_SQLITE)].lower() != _SQLITE or not path or "?" in address or "#" in address:
        raise InvalidArgument(
            "invalid sqlite URL of the journal: write sqlite:///PATH for a file in the working directory or "
            "sqlite:////PATH for an absolute path, with '?' and '#' percent-encoded"
        )
    return SqliteJournal(Path(path))


def _open_postgres(address: str) -> PostgresJournal:
    from wxtcb.provision.postgres.journal import PostgresJournal

    server, _, query = address.partition("?")
    options = query.split("&") if query else []
    schemas = [unquote(option.removeprefix("schema=")) for option in options if option.startswith("schema=")]
    others = "&".join(option for option in options if not option.startswith("schema="))
    url = Secret(f"{server}?{others}" if others else server)
    # The frame is part of the traceback of an error.
    del address, server, query, options, others
    return PostgresJournal(url, schema=schemas[-1]) if schemas else PostgresJournal(url)
