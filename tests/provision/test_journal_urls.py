"""Journals by URL."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.provision import PostgresJournal, SqliteJournal, open_journal
from wxtcb.secret import Secret

PASSWORD = "pa55word-of-the-database"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("journal.db", "journal.db"),
        (Path("/var/a b.db"), "/var/a b.db"),
        ("sqlite:///journal.db", "journal.db"),
        ("SQLITE:////var/a%20b.db", "/var/a b.db"),
    ],
)
def test_paths_and_sqlite_urls_are_files(url, path):
    """Nothing is opened before the first use."""
    journal = open_journal(url)
    assert isinstance(journal, SqliteJournal)
    assert journal.path.absolute() == Path(path).absolute()


@pytest.mark.parametrize(
    ("url", "schema"),
    [
        (f"postgresql://u:{PASSWORD}@host/d", "public"),
        (Secret(f"postgres://u:{PASSWORD}@host:5432/d?sslmode=require"), "public"),
        (f"POSTGRESQL://u:{PASSWORD}@host/d?schema=shop", "shop"),
        (f"postgresql://u:{PASSWORD}@host/d?sslmode=require&schema=shop&connect_timeout=5", "shop"),
    ],
)
def test_postgres_urls_are_databases(url, schema):
    """The option `schema` is that of the journal, all others are those of libpq; the repr shows no password."""
    journal = open_journal(url)
    assert isinstance(journal, PostgresJournal)
    assert repr(journal) == f"PostgresJournal(schema={schema!r})"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        (f"mysql://u:{PASSWORD}@host/d", "expected"),
        (f"{PASSWORD}://host", "expected"),
        (f"postgresql://u:{PASSWORD}@host/d?schema=Shop", "schema"),
        (f"postgresql://u:x@{PASSWORD}@host/d", "invalid"),
        (f"sqlite://{PASSWORD}/journal.db", "sqlite:///PATH"),
        (f"sqlite:///journal.db?key={PASSWORD}", "sqlite:///PATH"),
        ("sqlite:///", "sqlite:///PATH"),
        ("", "journal"),
    ],
)
def test_other_urls_are_rejected(url, word):
    """The message and the frames of wxtcb do not repeat the password."""
    with pytest.raises(InvalidArgument, match=word) as caught:
        open_journal(url)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    del shown.stack[0]
    assert PASSWORD not in "".join(shown.format())
