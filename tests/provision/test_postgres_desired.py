"""PostgresDesired on a real server: submissions in transactions of the caller, with each driver; lost responses."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import asyncpg
import attrs
import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import (
    AliasInUse,
    Cancel,
    Decide,
    Decision,
    DecisionPending,
    DesiredState,
    Effect,
    Finish,
    Submit,
)
from wxtcb.provision.journal import JournalError, UnserializableRecord
from wxtcb.provision.postgres import desired as desired_module
from wxtcb.provision.postgres.connection import UniqueConflict
from wxtcb.provision.postgres.journal import PostgresJournal

from .postgres_proxy import proxy_to

SECRET = b'{"secret": "S3CRET-of-a-service"}'


def submit(name, alias=None, spec=b"{}"):
    """Return a submission."""
    return Submit(tenant=name, alias=alias or f"t{name}", spec=spec)


@asynccontextmanager
async def in_async_psycopg(url):
    """Open a transaction whose connection has another row factory and placeholders of another kind."""
    options = {"row_factory": dict_row, "cursor_factory": psycopg.AsyncClientCursor}
    async with await psycopg.AsyncConnection.connect(url, **options) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def in_psycopg(url):
    """Open a transaction of a connection that blocks."""
    with psycopg.connect(url, row_factory=dict_row) as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def in_asyncpg(url):
    """Open a transaction."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def in_asyncpg_pool(url):
    """Open a transaction of a connection from a pool."""
    pool = asyncpg.create_pool(url, min_size=1, max_size=1)
    async with pool, pool.acquire() as connection, connection.transaction():
        yield connection


def in_sqlalchemy(driver, *, session):
    """Return a function that opens a transaction of SQLAlchemy."""

    @asynccontextmanager
    async def transaction(url):
        engine = create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
        try:
            async with AsyncSession(engine) if session else engine.connect() as connection, connection.begin():
                yield connection
        finally:
            await engine.dispose()

    return transaction


DRIVERS = {
    "psycopg": in_async_psycopg,
    "psycopg, blocking": in_psycopg,
    "asyncpg": in_asyncpg,
    "asyncpg pool": in_asyncpg_pool,
    "sqlalchemy psycopg": in_sqlalchemy("psycopg", session=False),
    "sqlalchemy asyncpg": in_sqlalchemy("asyncpg", session=False),
    "session psycopg": in_sqlalchemy("psycopg", session=True),
    "session asyncpg": in_sqlalchemy("asyncpg", session=True),
}


class RollBack(Exception):
    """Ends a transaction of the caller."""


@pytest.fixture(params=DRIVERS)
def transaction(request, postgres_tcp_url):
    """Return a function that opens a transaction with one of the drivers."""
    return lambda: DRIVERS[request.param](postgres_tcp_url)


@pytest.fixture
def postgres_tcp_url(postgres_url, postgres):
    """Return the URL of the database in the form that all drivers know."""
    return f"{postgres_url.split('@')[0]}@127.0.0.1:{postgres.port}{postgres_url.split('@')[1].split('?')[0]}"


async def test_roll_back_of_the_caller_leaves_nothing(postgres_url, transaction):
    """What was submitted in the transaction is there once it is committed, and not before."""
    async with PostgresJournal(postgres_url) as journal:
        await journal.desired.change([submit("a"), submit("b")])
        changes = [submit("a", spec=b"[]"), submit("new"), Cancel("b"), Decide("none", Decision(retry=True))]
        with pytest.raises(RollBack):  # noqa: PT012
            async with transaction() as connection:
                effects = await journal.desired.change(changes, connection=connection)
                assert effects == (Effect.CHANGED, Effect.NEW, Effect.CHANGED, Effect.UNKNOWN_TENANT)
                raise RollBack
        assert [(each.tenant, each.revision) for each in await journal.desired.select()] == [("a", 1), ("b", 1)]
        async with transaction() as connection:
            await journal.desired.change(changes, connection=connection)
            assert len(await journal.desired.select()) == 2
        stored = await journal.desired.select()
        assert [(each.tenant, each.spec) for each in stored] == [("a", b"[]"), ("b", b"{}"), ("new", b"{}")]
        assert stored[1].state is DesiredState.CANCELLED


async def test_conflict_leaves_the_transaction_of_the_caller_usable(postgres_url, transaction):
    """The errors are those of a call without a connection, and other changes of the caller can be committed."""
    async with PostgresJournal(postgres_url) as journal:
        await journal.desired.change([submit("a", "x"), submit("b")])
        await journal.desired.change([Decide("b", Decision(retry=True))])
        async with transaction() as connection:
            with pytest.raises(AliasInUse, match="'a'"):
                await journal.desired.change([submit("c", "X")], connection=connection)
            with pytest.raises(DecisionPending, match="'b'"):
                await journal.desired.change([Decide("b", Decision(adopt="env-1"))], connection=connection)
            await journal.desired.change([submit("d")], connection=connection)
        assert [each.tenant for each in await journal.desired.select()] == ["a", "b", "d"]


async def test_error_of_a_driver_shows_no_spec(postgres_url, transaction):
    """Drivers quote the arguments of a statement, which hold secrets of services."""
    async with PostgresJournal(postgres_url, schema="gone") as journal:
        await journal.desired.counts()
        with psycopg.connect(postgres_url, autocommit=True) as dropping:
            dropping.execute("DROP SCHEMA gone CASCADE")
        async with transaction() as connection:
            with pytest.raises(JournalError, match="42P01") as caught:
                await journal.desired.change([submit("a", spec=SECRET)], connection=connection)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert "S3CRET" not in str(caught.value)


# The blocking connection would stop this process for as long as it waits.
@pytest.mark.parametrize("transaction", [name for name in DRIVERS if "blocking" not in name], indirect=True)
async def test_submitted_alias_of_an_open_transaction_is_a_conflict(postgres, postgres_url, transaction):
    """The second one waits for the first, and its transaction must be rolled back."""
    async with PostgresJournal(postgres_url) as journal:
        with psycopg.connect(postgres_url) as first:
            await journal.desired.change([submit("a", "x")], connection=first)
            second = asyncio.create_task(change_in(journal, transaction, [submit("b", "x", SECRET)]))
            await postgres.wait_for_blocked()
        with pytest.raises(UniqueConflict, match="roll back"):
            await second
        assert [each.tenant for each in await journal.desired.select()] == ["a"]


async def change_in(journal, transaction, changes):
    """Make changes in a transaction."""
    async with transaction() as connection:
        await journal.desired.change(changes, connection=connection)


async def test_own_submission_waits_for_an_open_transaction(postgres, postgres_url):
    """It names the tenant whose alias it finds afterwards."""
    async with PostgresJournal(postgres_url) as journal:
        with psycopg.connect(postgres_url) as first:
            await journal.desired.change([submit("a", "x")], connection=first)
            second = asyncio.create_task(journal.desired.change([submit("b", "x")]))
            await postgres.wait_for_blocked()
        with pytest.raises(AliasInUse, match="'a'"):
            await second


async def test_endless_race_for_an_alias_is_an_error(postgres, postgres_url, monkeypatch):
    """Nothing is changed."""
    async with PostgresJournal(postgres_url) as journal:
        with psycopg.connect(postgres_url) as first:
            await journal.desired.change([submit("a", "x")], connection=first)
            monkeypatch.setattr(desired_module, "MAX_RACES", 1)
            second = asyncio.create_task(journal.desired.change([submit("b", "x")]))
            await postgres.wait_for_blocked()
        with pytest.raises(JournalError, match="without end"):
            await second


async def test_submission_is_a_statement_for_any_driver(postgres_url):
    """Its row gives the effects, or the error; the specs are in no repr."""
    async with PostgresJournal(postgres_url) as journal:
        submission = journal.desired.submission([submit("a", spec=SECRET), submit("b")])
        assert "S3CRET" not in repr(submission)
        with psycopg.connect(postgres_url) as connection:
            await journal.desired.counts()
            row = connection.execute(submission.pyformat, submission.arguments).fetchone()
        assert submission.effects(row) == (Effect.NEW, Effect.NEW)
        late = journal.desired.submission([submit("c", "TA")])
        with psycopg.connect(postgres_url) as connection:
            row = connection.execute(late.pyformat, late.arguments).fetchone()
        with pytest.raises(AliasInUse, match=r"'TA' .*'c' .*'a'"):
            late.effects(row)


async def test_unknown_connections_are_rejected(postgres_url):
    """Also one of SQLAlchemy to another database."""
    engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
    async with PostgresJournal(postgres_url) as journal, engine.connect() as connection:
        with pytest.raises(InvalidArgument, match="Connection"):
            await journal.desired.change([submit("a")], connection=sqlite3.Connection(":memory:"))
        connection.dialect.driver = "other"
        with pytest.raises(InvalidArgument, match="other"):
            await journal.desired.change([submit("a")], connection=connection)
        assert await journal.desired.select() == ()
    await engine.dispose()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ([submit("a"), Cancel("a")], InvalidArgument),
        ([submit("\ud800")], UnserializableRecord),
        ([submit("a", "\ud800")], UnserializableRecord),
        ([submit("x" * 3000)], UnserializableRecord),
        ([Decide("a", Decision(adopt="\ud800"))], UnserializableRecord),
    ],
)
async def test_invalid_changes_are_rejected(postgres_url, changes, error):
    """Nothing is changed."""
    async with PostgresJournal(postgres_url) as journal:
        with pytest.raises(error):
            await journal.desired.change([submit("ok"), *changes])
        assert await journal.desired.select() == ()


async def test_swapped_aliases_are_one_submission(postgres_url):
    """Keys are compared at the end of the statement."""
    async with PostgresJournal(postgres_url) as journal:
        await journal.desired.change([submit("a", "x"), submit("b", "y")])
        assert await journal.desired.change([submit("a", "y"), submit("b", "x")]) == (Effect.CHANGED,) * 2


async def test_names_and_decisions_with_nul_and_backslash_are_stored(postgres_url):
    """Both are escaped."""
    decision = Decision(adopt="env\\0\0")
    async with PostgresJournal(postgres_url) as journal:
        await journal.desired.change([submit("a\\", "x\\0")])
        await journal.desired.change([Decide("a\\", decision)])
        (stored,) = await journal.desired.select(["a\\"])
        assert (stored.tenant, stored.alias, stored.decision) == ("a\\", "x\\0", decision)


async def test_endless_delay_is_stored(postgres_url):
    """It is limited to what a database can store."""
    async with PostgresJournal(postgres_url) as journal:
        await journal.desired.change([submit("a")])
        finish = Finish(tenant="a", revision=1, state=DesiredState.WAITING, delay=float("inf"))
        assert await journal.desired.change([finish]) == (Effect.CHANGED,)
        assert (await journal.desired.select())[0].due_in > 1e8


async def test_changes_whose_response_was_lost_are_made_once(postgres, postgres_tcp_url):
    """The statement is executed again and changes nothing more."""
    async with proxy_to(postgres) as proxy:
        url = postgres_tcp_url.replace(f":{postgres.port}/", f":{proxy.port}/")
        async with PostgresJournal(url) as journal:
            await journal.desired.counts()
            proxy.lose_responses = 1
            await journal.desired.change([submit("a")])
            proxy.lose_responses = 1
            await journal.desired.change([Cancel("a")])
            (stored,) = await journal.desired.select()
            assert (stored.revision, stored.state) == (2, DesiredState.CANCELLED)
            await journal.election.leader()
            proxy.lose_responses = 1
            term = await journal.election.acquire("one", 30.0)
            assert term.epoch == (await journal.election.leader()).epoch
            proxy.lose_responses = 1
            assert await journal.election.renew(term)


async def test_take_whose_response_was_lost_returns_its_tenants(postgres, postgres_tcp_url):
    """They are marked as taken in the database, but were not returned."""
    async with proxy_to(postgres) as proxy:
        url = postgres_tcp_url.replace(f":{postgres.port}/", f":{proxy.port}/")
        async with PostgresJournal(url) as journal:
            term = await journal.election.acquire("one", 30.0)
            await journal.desired.change([submit("a"), submit("b")])
            proxy.lose_responses = 1
            assert [each.tenant for each in await journal.desired.take(term.epoch, 1)] == ["a"]
            # A call that fails for good: the next one returns its tenant.
            proxy.lose_responses = 1
            journal._database.timeout = 0.001
            with pytest.raises(JournalError):
                await journal.desired.take(term.epoch, 1)
            journal._database.timeout = 30.0
            proxy.lose_responses = 0
            assert [each.tenant for each in await journal.desired.take(term.epoch, 1)] == ["b"]
            assert await journal.desired.take(term.epoch, 1) == ()


async def test_cancelled_take_loses_no_tenant(postgres, postgres_url):
    """The next call returns what the cancelled one may have marked; after an hour its mark is forgotten."""
    async with PostgresJournal(postgres_url) as journal:
        term = await journal.election.acquire("one", 30.0)
        await journal.desired.change([submit("a")])
        with psycopg.connect(postgres_url) as locking:
            locking.execute("SELECT FROM wxtcb_leader FOR UPDATE")
            taking = asyncio.create_task(journal.desired.take(term.epoch, 1))
            await postgres.wait_for_blocked()
            taking.cancel()
            await asyncio.wait([taking])
        assert [each.tenant for each in await journal.desired.take(term.epoch, 1)] == ["a"]
        assert len(journal.desired._lost_takes) == 1
        journal.desired._lost_takes = dict.fromkeys(journal.desired._lost_takes, 0.0)
        assert await journal.desired.take(term.epoch, 1) == ()
        assert journal.desired._lost_takes == {}


async def test_locked_tenant_is_not_waited_for(postgres_url):
    """A transaction of a caller that changes a tenant does not stop the elected process."""
    async with PostgresJournal(postgres_url) as journal:
        term = await journal.election.acquire("one", 30.0)
        await journal.desired.change([submit("a"), submit("b")])
        with psycopg.connect(postgres_url) as caller:
            await journal.desired.change([Cancel("a")], connection=caller)
            assert [each.tenant for each in await journal.desired.take(term.epoch, 9)] == ["b"]
            caller.rollback()
        assert [each.tenant for each in await journal.desired.take(term.epoch, 9)] == ["a"]


async def test_submission_of_a_caller_wakes_other_processes(postgres_url):
    """Once it is committed, and not before; also in the process that submits, whose connection is not the journal's."""
    async with PostgresJournal(postgres_url) as journal:
        seen = await journal.desired.wait_for_change(0, 0.0)
        with psycopg.connect(postgres_url) as caller:
            await journal.desired.change([submit("a")], connection=caller)
            assert await journal.desired.wait_for_change(seen, 0.05) == seen
        assert await journal.desired.wait_for_change(seen, 60.0) > seen


async def test_what_changes_nothing_wakes_no_process(postgres_url):
    """A poll for tenants must not wake the process that polls."""
    async with PostgresJournal(postgres_url) as journal, PostgresJournal(postgres_url) as other:
        term = await other.election.acquire("one", 30.0)
        await other.desired.change([submit("a")])
        seen = await journal.desired.wait_for_change(0, 0.0)
        await other.desired.change([submit("a")])
        await other.desired.take(term.epoch, 1)
        await other.election.renew(term)
        assert await journal.desired.wait_for_change(seen, 0.05) == seen


async def test_other_schemas_wake_no_process(postgres_url):
    """Many platforms share a database."""
    async with PostgresJournal(postgres_url) as journal, PostgresJournal(postgres_url, schema="other") as other:
        seen = await journal.desired.wait_for_change(0, 0.0)
        await other.desired.change([submit("a")])
        assert await journal.desired.wait_for_change(seen, 0.05) == seen


async def test_changes_of_the_caller_survive_together(postgres_tcp_url, postgres_url):
    """A table of the application and the submission are in one transaction of SQLAlchemy."""
    engine = create_async_engine(postgres_tcp_url.replace("postgresql:", "postgresql+asyncpg:"))
    async with PostgresJournal(postgres_url) as journal, AsyncSession(engine) as session:
        await session.execute(text("CREATE TABLE customers (name text)"))
        await session.execute(text("INSERT INTO customers VALUES ('a')"))
        await journal.desired.counts()
        await journal.desired.change([submit("a")], connection=session)
        await session.commit()
        assert [each.tenant for each in await journal.desired.select()] == ["a"]
        assert (await session.execute(text("SELECT name FROM customers"))).scalar() == "a"
    await engine.dispose()


async def test_lost_race_with_a_change_of_the_same_tenant(postgres, postgres_url):
    """Two processes submit one tenant at once: the second finds what the first has stored."""
    async with PostgresJournal(postgres_url) as journal:
        with psycopg.connect(postgres_url) as first:
            await journal.desired.change([submit("a")], connection=first)
            same = asyncio.create_task(journal.desired.change([submit("a")]))
            other = asyncio.create_task(journal.desired.change([submit("a", spec=b"[]")]))
            await postgres.wait_for_blocked()
        assert await same in ((Effect.UNCHANGED,), (Effect.CHANGED,))
        assert await other == (Effect.CHANGED,)
        (stored,) = await journal.desired.select()
        assert stored.revision in (2, 3)
        assert attrs.evolve(stored, revision=0).state is DesiredState.WAITING
