"""Journal of a command: selected by an option, a variable or the tenants file; opened, closed and created."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from wxtcb.cli.console import echo_err, echo_out, escape_unprintable
from wxtcb.cli.runner import EXIT_FAILED, Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument
from wxtcb.provision import JournalError, MemoryJournal, SqliteJournal
from wxtcb.provision.journal import SharedJournal
from wxtcb.provision.journal_urls import open_journal
from wxtcb.provision.record import JournalIdentity
from wxtcb.tokens.env_vars import DEFAULT_BASE_URL, PREFIX, Variables, naming_variable
from wxtcb.validation import is_loopback

if TYPE_CHECKING:
    # It needs the extra `[postgres]`.
    from wxtcb.provision.postgres.journal import PostgresJournal

DurableJournal: TypeAlias = "SqliteJournal | PostgresJournal"
Action = Callable[[SharedJournal, asyncio.Runner], int]

# libpq takes everything up to the "@" for user and password, and accepts passwords as options too.
_PASSWORD: Final = re.compile(r"://[^/]*:[^/]+@|password=", re.IGNORECASE)


def select_journal(option: str | None, *, sandbox: bool = False) -> DurableJournal | None:
    """Return the journal of --journal, or else of WXTCB_JOURNAL, or None; nothing is opened or created yet.

    With *sandbox*, the variable is ignored: a simulated platform must not use the journal of a real one. Raises
    `InvalidArgument`, which quotes no password.
    """
    if option is not None:
        if _PASSWORD.search(option):
            raise InvalidArgument(
                f"--journal must not contain a password, because other programs can read the arguments: set {PREFIX}"
                f"JOURNAL to the URL, or {PREFIX}JOURNAL_FILE to a file that contains it; or give the URL without "
                "password, and the password by PGPASSFILE or PGPASSWORD. No request was sent"
            )
        with naming_variable("--journal"):
            return open_journal(option)
    if sandbox:
        return None
    variables = Variables.read(None, None, None)
    variables.check([])
    if (url := variables.values.get("JOURNAL")) is None:
        return None
    with naming_variable(f"{variables.prefix}JOURNAL"):
        return open_journal(url)


def require_selection(journal: DurableJournal | None) -> DurableJournal:
    """Return *journal*; raise `InvalidArgument` if none was selected."""
    if journal is None:
        raise InvalidArgument(
            f"no journal is selected: set {PREFIX}JOURNAL or pass --journal: a postgresql:// URL, or a path. "
            "No request was sent"
        )
    return journal


def require_journal(journal: DurableJournal) -> DurableJournal:
    """Return *journal*; raise `InvalidArgument` if it is a file that does not exist."""
    if isinstance(journal, SqliteJournal) and not journal.path.exists():
        raise InvalidArgument(
            f"there is no journal at {journal.path}: pass an existing one by --journal, or create one by `wxtcb init`. "
            "No request was sent"
        )
    return journal


def announce_new_journal(journal: DurableJournal | None) -> None:
    """Print a message if *journal* is a file that will be created.

    A mistyped path would otherwise go unnoticed: without its journal, a run treats its environments as unknown.
    """
    if isinstance(journal, SqliteJournal) and not journal.path.exists() and journal.path.parent.is_dir():
        echo_err(escape_unprintable(f"{journal.path} does not exist: starting with a new journal."))


def run_with_journal(journal: DurableJournal | None, action: Action) -> int:
    """Call *action* with *journal*, or with one in memory if that is None; return its exit code.

    *action* runs everything that uses the journal with the given runner: a journal belongs to one event loop. An error
    at closing it is reported, and makes an exit code of 0 a failure.
    """
    with asyncio.Runner() as runner:
        if journal is None:
            return action(MemoryJournal(), runner)
        exit_code = 0
        try:
            exit_code = action(journal, runner)
        finally:
            try:
                runner.run(journal.aclose())
            except JournalError as error:
                # Not raised, because it would replace an exception of *action*.
                echo_err(escape_unprintable(f"The journal could not be closed: {error}"))
                exit_code = max(exit_code, EXIT_FAILED)
        return exit_code


def init(option: str | None, *, sql: bool) -> int:
    """Create the journal of a platform, or with *sql* print the statements that create its tables in PostgreSQL.

    Return the exit code. An existing journal stays unchanged. Raises `InvalidArgument` if it belongs to another
    platform, and `JournalError` if it cannot be used.
    """
    journal = select_journal(option)
    if sql:
        return _print_sql(journal)
    variables = Variables.read(None, None, None)
    variables.check(variables.missing("COMPONENT_APPID"))
    appid = variables.text("COMPONENT_APPID")
    on_loopback = is_loopback(variables.text("BASE_URL") or DEFAULT_BASE_URL)
    wanted = JournalIdentity(component_appid=appid, on_loopback=on_loopback, namespace=appid)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        stored = run_until_signal(journal.bind_identity(wanted), runner=runner)
        if isinstance(stored, Interrupted):
            return stored.exit_code
        # Another namespace is not an error: the provisioner uses the stored one.
        if (stored.component_appid, stored.on_loopback) != (appid, on_loopback):
            raise InvalidArgument(
                f"the journal belongs to {_describe_platform(stored)}, not to {_describe_platform(wanted)}; it was not "
                "changed"
            )
        echo_out(f"The journal is ready for {_describe_platform(stored)}.")
        return 0

    return run_with_journal(require_selection(journal), action)


def _print_sql(journal: DurableJournal | None) -> int:
    if isinstance(journal, SqliteJournal):
        raise InvalidArgument(f"--sql: {journal.path} is a file, which `wxtcb init` creates; only PostgreSQL needs SQL")
    from wxtcb.provision.postgres.schema import schema_sql

    sys.stdout.write(schema_sql() if journal is None else schema_sql(journal.schema))
    return 0


def _describe_platform(identity: JournalIdentity) -> str:
    return f"component {identity.component_appid} {'on loopback' if identity.on_loopback else 'of the real platform'}"
