"""Storages of journals: `STORAGES` has each kind, which passes the conformance tests of the three protocols."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import pytest
import pytest_asyncio

from wxtcb.provision.journal import SharedJournal
from wxtcb.provision.memory import MemoryJournal


@attrs.define
class Storage:
    """A storage that several processes share; `journal` is the object of one of them.

    `open_journal` returns a new object on the same storage.
    """

    open_journal: Callable[[], SharedJournal]
    journal: SharedJournal = attrs.field(init=False)
    _others: list[SharedJournal] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.journal = self.open_journal()

    async def reopen(self) -> None:
        """Close `journal`, and open it as another process would."""
        await self.journal.aclose()
        self.journal = self.open_journal()

    def second(self) -> SharedJournal | None:
        """Return another object on the storage, while `journal` stays open; None if only one process can use it."""
        self._others.append(self.open_journal())
        return self._others[-1]

    async def expire_lease(self) -> None:
        """End the term of the elected process, which uses `journal`, without its help; `journal` may be reopened."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all objects."""
        for journal in (*self._others, self.journal):
            await journal.aclose()


@attrs.define
class MemoryStorage(Storage):
    """The memory of this process; `seconds` is how far its clock was set forward."""

    open_journal: Callable[[], SharedJournal] = attrs.field(init=False)
    seconds: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.journal = MemoryJournal(lambda: time.time() + self.seconds)

    async def reopen(self) -> None:
        """Do nothing: another process would find nothing."""

    def second(self) -> None:
        return None

    async def expire_lease(self) -> None:
        self.seconds += 3600.0

    async def aclose(self) -> None:
        """Do nothing."""


class SqliteStorage(Storage):
    """A file. The lock of the elected process ends with its object."""

    async def expire_lease(self) -> None:
        await self.reopen()


@contextlib.asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Storage]:
    """Open a storage in memory."""
    yield MemoryStorage()


@contextlib.asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Storage]:
    """Open a storage in a file."""
    # Loaded only here, so that the other storages can be tested without it.
    from wxtcb.provision.sqlite.journal import SqliteJournal  # noqa: PLC0415

    storage = SqliteStorage(lambda: SqliteJournal(folder / "j.db"))
    try:
        yield storage
    finally:
        await storage.aclose()


@attrs.define
class PostgresStorage(Storage):
    """The tables of a `database`; `execute` executes a statement in it."""

    execute: Callable[[str], object] = attrs.field(kw_only=True)

    async def expire_lease(self) -> None:
        self.execute("UPDATE wxtcb_leader SET until = clock_timestamp()")


@functools.cache
def create_postgres_database() -> str:
    """Return the database of all storages: to empty its tables takes a tenth of the time of a new database."""
    from tests.postgres_server import shared_postgres  # noqa: PLC0415

    return shared_postgres().create_database()


@contextlib.asynccontextmanager
async def postgres(_: Path) -> AsyncIterator[Storage]:
    """Open a storage in PostgreSQL."""
    # Loaded only here, so that the other storages can be tested without it.
    from tests.postgres_server import shared_postgres  # noqa: PLC0415
    from wxtcb.provision.postgres.journal import PostgresJournal  # noqa: PLC0415

    server, database = shared_postgres(), create_postgres_database()
    execute = functools.partial(server.execute, database=database)
    storage = PostgresStorage(lambda: PostgresJournal(server.url(database)), execute=execute)
    try:
        yield storage
    finally:
        await storage.aclose()
        server.truncate(database)


# Each is called with an empty folder, and opens an empty storage.
STORAGES = {"memory": memory, "sqlite": sqlite, "postgres": postgres}

NewStorage = Callable[[], AbstractAsyncContextManager[Storage]]


@pytest.fixture(params=STORAGES)
def new_storage(request, tmp_path_factory) -> NewStorage:
    """Return a function that opens a new, empty storage of one kind, and closes it at the end of the context."""
    return lambda: STORAGES[request.param](tmp_path_factory.mktemp("journal"))


@pytest_asyncio.fixture
async def storage(new_storage: NewStorage) -> AsyncIterator[Storage]:
    """Open a storage of one kind."""
    async with new_storage() as opened:
        yield opened


@pytest.fixture
def journal(storage: Storage) -> SharedJournal:
    """Return its journal."""
    return storage.journal


@pytest.fixture
def other(storage: Storage) -> SharedJournal:
    """Return another object on the same storage, or the same object if there can be no other."""
    return storage.second() or storage.journal
