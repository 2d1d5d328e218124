"""PostgresJournal on a real server: restarts, crashes, fail-over, rights, and what a caller sees of them."""

from __future__ import annotations

import asyncio
import builtins
import gc
import importlib
import os
import sys
import traceback
import warnings
from types import SimpleNamespace

import attrs
import psycopg
import pytest

from tests.postgres_server import start_postgres
from wxtcb.errors import InvalidArgument
from wxtcb.provision.election import Term
from wxtcb.provision.journal import Committed, Deposed, JournalError, KeyTaken, Stale, UnserializableRecord
from wxtcb.provision.postgres import commits, connection, notifications
from wxtcb.provision.postgres.connection import Failure, Lane
from wxtcb.provision.postgres.journal import PostgresJournal
from wxtcb.provision.postgres.schema import FORMAT, schema_sql
from wxtcb.provision.record import HistoryEntry, JournalIdentity, TenantRecord

from .postgres_proxy import proxy_to

ENTRY = HistoryEntry(1.7e9, "noted")
IDENTITY = JournalIdentity(component_appid="wx", on_loopback=True, namespace="n")
PASSWORD = "pa55word-of-the-database"


def record(name="a", version=1, **fields):
    """Return a record of a tenant."""
    return TenantRecord(**{"tenant": name, "alias": f"t{name}", "version": version, **fields})


def show(error):
    """Return the traceback with the local variables of all frames but that of the test, as error reporters show it."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    del shown.stack[0]
    return "".join(shown.format())


async def until(condition):
    """Wait until the condition holds."""
    while not condition():
        await asyncio.sleep(0.01)


@pytest.fixture
def database(postgres):
    """Return the name of an empty database."""
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def url(postgres, database):
    """Return its URL."""
    return postgres.url(database)


async def test_commits_survive_restarts(postgres, url):
    """Commits that wait while the server restarts, or crashes, are stored when it is back."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record(), ENTRY)
        for version, stop in ((2, postgres.shutdown), (3, postgres.crash)):
            stop()
            waiting = asyncio.create_task(journal.commit(record(version=version), ENTRY))
            await asyncio.sleep(0)
            postgres.start()
            assert await waiting == Committed()
        assert await journal.load() == {"a": record(version=3)}


async def test_commits_survive_a_crash_whatever_the_default_of_the_database_is():
    """The control, a transaction with the default of the database, is lost."""
    server = start_postgres(synchronous_commit="off", wal_writer_delay="10s")
    try:
        url = server.url()
        server.execute("CREATE TABLE control (number integer)", "CHECKPOINT")
        async with PostgresJournal(url) as journal:
            await journal.commit(record(), ENTRY)
            server.execute("INSERT INTO control VALUES (1)")
            server.crash()
            server.start()
            assert await journal.load() == {"a": record()}
            await journal.election.acquire("one", 30.0)
            server.crash()
            server.start()
            assert (await journal.election.leader()).holder == "one"
            server.execute("INSERT INTO control VALUES (2)")
            server.crash()
            server.start()
        assert (2,) not in server.execute("SELECT number FROM control")
    finally:
        server.stop()


async def test_commit_whose_response_was_lost_is_stored_once(postgres, database):
    """It is asked again, and recognizes its own record; the history has one entry. The same holds for a batch."""
    async with proxy_to(postgres) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
        async with PostgresJournal(url) as journal:
            await journal.load()
            proxy.lose_responses = 1
            assert await journal.commit(record(), ENTRY) == Committed()
            proxy.lose_responses = 1
            names = [f"b{number}" for number in range(5)]
            assert set(await asyncio.gather(*(journal.commit(record(name), ENTRY) for name in names))) == {Committed()}
            owner = record("owner", env="env-1")
            assert await journal.commit(owner, ENTRY) == Committed()
            proxy.lose_responses = 1
            left = (attrs.evolve(owner, version=2, env=None), ENTRY)
            assert await journal.commit(record("heir", env="env-1"), ENTRY, left) == Committed()
            histories = await journal.history(["a", *names, "owner", "heir"])
            assert {name: len(entries) for name, entries in histories.items()} == {
                **dict.fromkeys(["a", *names, "heir"], 1),
                "owner": 2,
            }
            assert proxy.connections == 4


async def test_the_same_record_of_another_call_is_stale(url):
    """Only the call that stored a record recognizes it: another process may have sent a create for it."""
    async with PostgresJournal(url) as one, PostgresJournal(url) as two:
        assert await one.commit(record(), ENTRY) == Committed()
        assert await two.commit(record(), ENTRY) == Stale(record())
        assert await one.commit(record(), ENTRY) == Stale(record())


async def test_statement_of_a_terminated_backend_is_executed_again(postgres, database, url):
    """An operator ends the connection while a commit waits for a lock."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record(), ENTRY)
        with psycopg.connect(url) as locking:
            locking.execute("SELECT FROM wxtcb_tenants FOR UPDATE")
            waiting = asyncio.create_task(journal.commit(record(version=2), ENTRY))
            blocked = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{database}' AND wait_event_type = 'Lock'"
            )
            await until(lambda: postgres.execute(blocked))
        assert await waiting == Committed()


async def test_silent_database_is_an_error_after_the_timeout(postgres, database):
    """When the database answers again, the journal continues."""
    async with proxy_to(postgres) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
        async with PostgresJournal(url, timeout=0.2) as journal:
            await journal.load()
            proxy.silent = True
            with pytest.raises(JournalError, match="failed"):
                await journal.commit(record(), ENTRY)
            proxy.silent = False
            journal._database.timeout = 30.0
            assert await journal.load() in ({}, {"a": record()})


async def test_statement_that_waits_for_a_lock_is_an_error_after_the_timeout(url):
    """It is cancelled in the database, too, and stores nothing later."""
    async with PostgresJournal(url, timeout=0.2) as journal:
        await journal.load()
        with psycopg.connect(url) as locking:
            locking.execute("LOCK wxtcb_tenants")
            with pytest.raises(JournalError, match="did not answer in time"):
                await journal.commit(record(), ENTRY)
        assert await journal.load() == {}


async def test_cancellation_is_not_lost_with_the_connection(postgres, database):
    """The caller is cancelled, also if the connection is lost meanwhile."""
    async with proxy_to(postgres) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
        async with PostgresJournal(url) as journal:
            await journal.desired.counts()
            proxy.silent = True
            counting = asyncio.create_task(journal.desired.counts())
            await asyncio.sleep(0.05)
            counting.cancel()
            await asyncio.wait([counting])
            assert counting.cancelled()


async def test_database_that_is_gone_is_an_error_after_the_timeout(postgres, url):
    """Every call that waits gets an error of its own."""
    async with PostgresJournal(url, timeout=0.3) as journal:
        await journal.load()
        postgres.shutdown()
        try:
            answers = await asyncio.gather(
                journal.load(),
                *(journal.commit(record(name), ENTRY) for name in "ab"),
                journal.election.leader(),
                journal.desired.counts(),
                return_exceptions=True,
            )
        finally:
            postgres.start()
        assert [type(answer) for answer in answers] == [JournalError] * 5
        assert len({id(answer) for answer in answers}) == 5
        journal._database.timeout = 30.0
        assert await journal.load() == {}


async def test_fail_over_to_an_older_copy_is_noticed():
    """All processes learn when it happened, also those that connect later."""
    server = start_postgres()
    try:
        async with PostgresJournal(server.url()) as journal, PostgresJournal(server.url()) as other:
            await journal.commit(record(), ENTRY)
            server.save()
            assert await journal.commit(record(version=2), ENTRY) == Committed()
            assert await other.load() == {"a": record(version=2)}
            assert journal.rolled_back_at is other.rolled_back_at is None
            server.fail_over()
            assert await journal.load() == await other.load() == {"a": record()}
            assert abs(journal.rolled_back_at - other.rolled_back_at) < 1.0
            async with PostgresJournal(server.url()) as late:
                await late.load()
                assert abs(journal.rolled_back_at - late.rolled_back_at) < 1.0
                restarted_at = late.rolled_back_at
                server.restart()
                await late.load()
                assert abs(late.rolled_back_at - restarted_at) < 1.0
    finally:
        server.stop()


async def test_fail_over_goes_unnoticed_without_rights(postgres, database, url):
    """Where the role may not read the state of the cluster, the journal works without it."""
    postgres.execute(
        f"CREATE ROLE limited_{database} LOGIN",
        f"GRANT ALL ON SCHEMA public TO limited_{database}",
        "REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC",
        database=database,
    )
    try:
        async with PostgresJournal(postgres.url(database, user=f"limited_{database}")) as journal:
            assert await journal.commit(record(), ENTRY) == Committed()
        assert postgres.execute("SELECT timeline, system FROM wxtcb_meta", database=database) == [(None, None)]
    finally:
        postgres.execute(f"DROP OWNED BY limited_{database}", f"DROP ROLE limited_{database}", database=database)
    async with PostgresJournal(url) as journal:
        # It notes what it can read; nothing is known to be lost.
        await journal.bind_identity(IDENTITY)
        assert journal.rolled_back_at is None


async def test_read_only_database_is_an_error(postgres, database, url):
    """The message names the reason, and what can be read is read."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record(), ENTRY)
    postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    async with PostgresJournal(url) as journal:
        assert await journal.load() == {"a": record()}
        with pytest.raises(JournalError, match="read-only"):
            await journal.commit(record(version=2), ENTRY)
        with pytest.raises(JournalError, match="read-only"):
            await journal.election.acquire("one", 30.0)


async def test_tables_of_another_format_are_an_error(postgres, database, url):
    """Nothing is changed."""
    async with PostgresJournal(url) as journal:
        await journal.load()
    postgres.execute(f"UPDATE wxtcb_meta SET format = {FORMAT + 1}", database=database)
    async with PostgresJournal(url) as journal:
        with pytest.raises(JournalError, match=f"format {FORMAT + 1}"):
            await journal.commit(record(), ENTRY)
    assert postgres.execute("SELECT count(*) FROM wxtcb_tenants", database=database) == [(0,)]


async def test_role_without_rights_needs_the_script(postgres, database):
    """Without tables the error names it; after it the role can do everything."""
    role = f"poor_{database}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    try:
        async with PostgresJournal(postgres.url(database, user=role)) as journal:
            with pytest.raises(JournalError, match="wxtcb init --sql"):
                await journal.load()
        postgres.execute(
            schema_sql(), f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}", database=database
        )
        async with PostgresJournal(postgres.url(database, user=role)) as journal:
            assert await journal.commit(record(), ENTRY) == Committed()
            assert await journal.election.acquire("one", 30.0)
    finally:
        postgres.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=database)


async def test_each_schema_has_a_journal_of_its_own(postgres, database, url):
    """Several platforms share a database; the script creates the schema, too."""
    postgres.execute(schema_sql("shop"), database=database)
    async with PostgresJournal(url) as one, PostgresJournal(url, schema="shop") as two:
        await one.bind_identity(IDENTITY)
        await two.bind_identity(attrs.evolve(IDENTITY, namespace="m"))
        await one.commit(record(), ENTRY)
        assert await two.load() == {}
        assert (await two.bind_identity()).namespace == "m"


async def test_processes_create_the_tables_at_once(url):
    """All of them find the tables."""
    journals = [PostgresJournal(url, schema="new") for _ in range(8)]
    assert await asyncio.gather(*(journal.load() for journal in journals)) == [{}] * 8
    for journal in journals:
        await journal.aclose()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"database": "missing"}, "missing"),
        ({"user": "missing"}, "missing"),
        ({"user": "locked", "password": PASSWORD}, "password authentication failed"),
    ],
)
async def test_wrong_settings_are_an_error_at_once(postgres, url, changes, word):
    """No time-out passes, and the password is in no message, repr or traceback."""
    postgres.execute("DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'other'")
    async with PostgresJournal(postgres.url(**changes), timeout=1e6) as journal:
        with pytest.raises(JournalError, match=word) as caught:
            await journal.load()
        assert PASSWORD not in show(caught.value) + repr(journal)
    postgres.execute("DROP ROLE locked")


async def test_server_that_starts_during_the_first_call_is_waited_for(postgres, url, monkeypatch):
    """It accepts connections when it is asked whether it does, but did not when it was connected to."""
    pq = connection.pq

    def start_and_ping(conninfo):
        if postgres._process is None:
            postgres.start()
        return pq.PGconn.ping(conninfo)

    # The class of psycopg cannot be changed.
    changed = {**vars(pq), "PGconn": SimpleNamespace(ping=start_and_ping)}
    monkeypatch.setattr(connection, "pq", SimpleNamespace(**changed))
    async with PostgresJournal(url) as journal:
        postgres.shutdown()
        assert await journal.load() == {}


async def test_cancelled_connection_shows_no_password():
    """The frames of psycopg, which hold the URL, are not in the traceback."""
    held = asyncio.Event()

    async def hold(reader, writer):
        held.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with PostgresJournal(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d") as journal:
        connecting = asyncio.create_task(journal._database.connect())
        await held.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await connecting
    assert PASSWORD not in show(caught.value)
    server.close()


@pytest.mark.parametrize(
    "conninfo",
    [
        f"postgresql://u:{PASSWORD}@/d?{PASSWORD}",
        f"postgresql://u:x@{PASSWORD}@host/d",
        f"postgresql://u:{PASSWORD}%zz@host/d",
        f"user=u {PASSWORD}",
    ],
)
def test_invalid_url_is_rejected(conninfo):
    """The message and the traceback do not repeat it."""
    with pytest.raises(InvalidArgument, match="invalid") as caught:
        PostgresJournal(conninfo)
    assert PASSWORD not in show(caught.value)


@pytest.mark.parametrize("options", [{"schema": "Shop"}, {"schema": 'a"; DROP'}, {"timeout": 0.0}])
def test_invalid_options_are_rejected(options):
    """The message names the option."""
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        PostgresJournal("postgresql:///d", **options)
    gc.collect()


@pytest.mark.parametrize(
    "fields",
    [{"tenant": "\ud800"}, {"env": "\udfff"}, {"tranid": "\ud800"}, {"tenant": "x" * 3000}, {"env": "商" * 900}],
)
async def test_unserializable_record_fails_alone(url, fields):
    """The commits that were requested with it are stored."""
    async with PostgresJournal(url) as journal:
        answers = await asyncio.gather(
            journal.commit(record("b"), ENTRY),
            journal.commit(record(**fields), ENTRY),
            journal.commit(record("c"), ENTRY),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Committed, UnserializableRecord, Committed]


async def test_nul_and_backslash_are_stored(url):
    """PostgreSQL stores no NUL; keys that differ only in it stay different."""
    texts = ["a\0", "a\\0", "a\\", "a\\\\", "a"]
    async with PostgresJournal(url) as journal:
        await journal.bind_identity(attrs.evolve(IDENTITY, namespace="n\0\\"))
        for number, text in enumerate(texts):
            await journal.commit(record(f"{number}", env=text, alias=text), HistoryEntry(1.0, text))
        assert set(await journal.bindings(0.0)) == set(texts)
        assert (await journal.history(["1"]))["1"][0].change == "a\\0"
        assert (await journal.bind_identity()).namespace == "n\0\\"


async def test_damaged_record_is_an_error(postgres, database, url):
    """The message names the tenant."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record(), ENTRY)
        postgres.execute("UPDATE wxtcb_tenants SET document = '[]'", database=database)
        with pytest.raises(JournalError, match="'a'"):
            await journal.load()
        with pytest.raises(JournalError, match="'a'"):
            await journal.commit(record(), ENTRY)


async def test_keys_of_a_batch_are_judged_in_order(url):
    """A key that a later commit of the same statement releases is still in use for an earlier one."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record("a", env="env-1"), ENTRY)
        release = record("a", 2)
        claim, late = record("b", env="env-1"), record("c", env="env-1")
        calls = [journal.commit(each, ENTRY) for each in (claim, release, late, record("d"))]
        assert await asyncio.gather(*calls) == [KeyTaken("a"), Committed(), Committed(), Committed()]
        # Two claims of one key are in two statements.
        calls = [journal.commit(record(name, env="env-2"), ENTRY) for name in "ef"]
        assert await asyncio.gather(*calls) == [Committed(), KeyTaken("e")]
        # A key of a tenant outside of the batch.
        calls = [journal.commit(record("g", env="env-2"), ENTRY), journal.commit(record("h"), ENTRY)]
        assert await asyncio.gather(*calls) == [KeyTaken("e"), Committed()]


async def test_waiting_commits_share_statements(url, monkeypatch):
    """A hundred commits of different tenants take two."""
    statements = []
    fetch = Lane.fetch

    async def counted(self, statement, *args, **options):
        statements.append(statement)
        return await fetch(self, statement, *args, **options)

    async with PostgresJournal(url) as journal:
        await journal.load()
        monkeypatch.setattr(Lane, "fetch", counted)
        monkeypatch.setattr(commits, "MAX_BATCH", 60)
        calls = (journal.commit(record(f"{number}"), ENTRY) for number in range(100))
        assert set(await asyncio.gather(*calls)) == {Committed()}
        assert len(statements) == 2


async def test_endless_race_is_an_error(url, monkeypatch):
    """A commit that others overtake at every attempt ends, and stores nothing."""

    async def nothing_written(*_):
        return True, True, set()

    async with PostgresJournal(url) as journal:
        monkeypatch.setattr(commits.CommitQueue, "_write", nothing_written)
        with pytest.raises(JournalError, match="without end"):
            await journal.commit(record(), ENTRY)


async def test_cancelled_caller_affects_no_other(postgres, url):
    """The commits that share its statement, and the calls behind it, get their answers."""
    async with PostgresJournal(url) as journal:
        await journal.commit(record("z"), ENTRY)
        with psycopg.connect(url) as locking:
            locking.execute("LOCK wxtcb_tenants IN EXCLUSIVE MODE")
            calls = [asyncio.create_task(journal.commit(record(name), ENTRY)) for name in "abc"]
            calls.append(asyncio.create_task(journal.load(["a"])))
            await postgres.wait_for_blocked()
            calls[0].cancel()
            calls[2].cancel()
            await asyncio.wait([calls[0], calls[2]])
        assert await calls[1] == Committed()
        await calls[3]
        assert set(await journal.load()) == {"a", "b", "c", "z"}


async def test_cancelled_statement_leaves_its_connection_usable(postgres, url):
    """The next statement uses it, or a new one."""
    async with PostgresJournal(url) as journal:
        await journal.desired.counts()
        with psycopg.connect(url) as locking:
            locking.execute("LOCK wxtcb_desired")
            counting = asyncio.create_task(journal.desired.counts())
            await postgres.wait_for_blocked()
            counting.cancel()
            await asyncio.wait([counting])
        assert counting.cancelled()
        assert sum((await journal.desired.counts()).values()) == 0


async def test_close_finishes_pending_calls(url):
    """Later calls fail, and it may be closed again."""
    journal = PostgresJournal(url)
    calls = [asyncio.create_task(journal.commit(record(name), ENTRY)) for name in "ab"]
    await asyncio.sleep(0)
    await journal.aclose()
    assert [await call for call in calls] == [Committed(), Committed()]
    for call in (journal.load(), journal.desired.counts(), journal.election.renew(Term(1, 1.0))):
        with pytest.raises(JournalError, match="closed"):
            await call
    await journal.aclose()


async def test_calls_after_the_close_began_fail(url):
    """They would be executed after the journal is closed."""
    journal = PostgresJournal(url)
    first = asyncio.create_task(journal.commit(record(), ENTRY))
    await asyncio.sleep(0)
    closing = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="closed"):
        await journal.load()
    assert await first == Committed()
    await closing


async def test_cancelled_close_closes_the_connections(postgres, url):
    """The calls that wait get an error."""
    journal = PostgresJournal(url)
    await journal.load()
    with psycopg.connect(url) as locking:
        locking.execute("LOCK wxtcb_tenants")
        call = asyncio.create_task(journal.load())
        await postgres.wait_for_blocked()
        closing = asyncio.create_task(journal.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        assert not journal._database.is_open
        with pytest.raises(JournalError, match="closed"):
            await call


async def test_worker_that_is_cancelled_answers_its_callers(postgres, url):
    """As at the end of the event loop."""
    async with PostgresJournal(url) as journal:
        await journal.load()
        with psycopg.connect(url) as locking:
            locking.execute("LOCK wxtcb_tenants")
            calls = [asyncio.create_task(journal.load()) for _ in range(2)]
            await postgres.wait_for_blocked()
            journal._queue._worker.cancel()
            for call in calls:
                with pytest.raises(JournalError, match="closed before"):
                    await call


def test_forgotten_journal_warns(url):
    """Its connections are closed."""

    async def forget():
        journal = PostgresJournal(url)
        await journal.load()

    with pytest.warns(ResourceWarning, match="PostgresJournal was never closed"):
        asyncio.run(forget())


def test_fork_leaves_the_connections_of_the_parent(url):
    """A child that forgets the journal neither warns nor closes them."""
    journals = [PostgresJournal(url)]
    with asyncio.Runner() as runner:
        runner.run(journals[0].load())
        backends = journals[0]._database.backends
        if os.fork() == 0:
            status = 1
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                journals[0].__del__()
                status = len(caught)
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        runner.run(journals[0].load())
        assert journals[0]._database.backends == backends
        runner.run(journals[0].aclose())


async def test_stored_commit_is_known_to_a_deposed_process(postgres, database, url, monkeypatch):
    """Its response was lost, and another process was elected before it was asked again."""
    attempt, lost = Lane._attempt, []

    async def lose_response(self, *args):
        rows = await attempt(self, *args)
        if lost or not isinstance(rows, list) or not rows or rows[0][0] is not True:
            return rows
        lost.append(rows)
        postgres.execute("UPDATE wxtcb_leader SET epoch = epoch + 1", database=database)
        return Failure(JournalError("lost"), transient=True)

    async with PostgresJournal(url) as journal:
        term = await journal.election.acquire("one", 30.0)
        monkeypatch.setattr(Lane, "_attempt", lose_response)
        assert await journal.commit(record(), ENTRY, epoch=term.epoch) == Committed()
        assert lost
        with pytest.raises(Deposed):
            await journal.commit(record(version=2), ENTRY, epoch=term.epoch)
        assert await journal.load() == {"a": record()}


def test_journal_of_another_loop_is_an_error(url):
    """Its connections belong to the loop in which it was used first."""
    journal = PostgresJournal(url)
    with asyncio.Runner() as one, asyncio.Runner() as two:
        one.run(journal.load())
        with pytest.raises(JournalError, match="event loop"):
            two.run(journal.load())
        with pytest.raises(JournalError, match="event loop"):
            two.run(journal.desired.wait_for_change(0, 0.0))
        one.run(journal.aclose())


async def test_statements_pass_a_pooler_in_transaction_mode(postgres, database, url, monkeypatch):
    """Each statement may get any connection, which has forgotten all settings and prepared statements."""
    idle = []

    async def discard_all(lane, connection):
        await connection.execute("DISCARD ALL")
        idle.append(connection)

    monkeypatch.setattr(Lane, "_give_back", discard_all)
    async with PostgresJournal(url) as journal:
        for lane in (journal._queue._lane, journal.desired._lane, journal.election._lane):
            lane._idle = idle
        await journal.bind_identity(IDENTITY)
        term = await journal.election.acquire("one", 30.0)
        for version in range(1, 12):
            calls = (journal.commit(record(name, version), ENTRY, epoch=term.epoch) for name in "abc")
            assert await asyncio.gather(*calls) == [Committed()] * 3
            assert await journal.election.renew(term)
            assert await journal.desired.take(term.epoch, 9) == ()
        with pytest.raises(Deposed):
            await journal.commit(record("d"), ENTRY, epoch=term.epoch + 1)
        assert len(idle) < 4


async def test_lost_listener_connects_again(postgres, database, url, monkeypatch):
    """Those who wait are woken, because changes may have gone unnoticed; changes of others are noticed again."""
    monkeypatch.setattr(notifications, "MAX_PAUSE", 0.01)
    async with PostgresJournal(url) as journal, PostgresJournal(url) as other:
        seen = await journal.desired.wait_for_change(0, 0.0)
        waiting = asyncio.create_task(journal.desired.wait_for_change(seen, 60.0))
        await asyncio.sleep(0)
        postgres.disconnect(database)
        assert await waiting > seen
        seen = await journal.desired.wait_for_change(0, 0.0)
        await other.commit(record(), ENTRY)
        assert await journal.desired.wait_for_change(seen, 60.0) > seen


async def test_wait_without_a_database_ends_by_its_timeout(postgres, url, monkeypatch):
    """Who waits looks from time to time, and gets the error there."""
    monkeypatch.setattr(notifications, "CONNECT_TIMEOUT", 0.01)
    async with PostgresJournal(postgres.url("missing")) as journal:
        assert await journal.desired.wait_for_change(0, 0.0) == 0
        assert await journal.desired.wait_for_change(0, 0.0) == 0


async def test_epoch_of_an_older_copy_is_not_given_again(postgres, database, url):
    """A process that was elected before the fail-over does not take its successor's term for its own."""
    async with PostgresJournal(url) as one, PostgresJournal(url) as two:
        lost = await one.election.acquire("one", 30.0)
        postgres.execute("UPDATE wxtcb_leader SET epoch = 1, holder = NULL", database=database)
        # The control: an epoch that only grows by one would be given again in time.
        assert (await two.election.acquire("two", 30.0)).epoch >= lost.epoch > 1_000_000_000


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.errors.DiskFull("full"), "disk is full"),
        (psycopg.errors.SerializationFailure("again"), "again"),
        (psycopg.DataError("bad"), "bad"),
    ],
)
async def test_errors_of_the_server_are_explained(error, words):
    """The message says what to do where that is known."""
    journal = PostgresJournal("postgresql:///d")
    failure = await journal._database.describe(error)
    assert words in str(failure.error)
    assert failure.transient == isinstance(error, psycopg.errors.SerializationFailure)


async def test_records_survive_the_process(url):
    """A platform outside of loopback may be provisioned with it, and an apply needs no election."""
    journal = PostgresJournal(url)
    assert journal.durable
    assert journal.wait is None


@pytest.mark.parametrize(("missing", "message"), [("psycopg", "wxtcb\\[postgres\\]"), ("libpq", "libpq")])
def test_missing_extra_is_named(monkeypatch, missing, message):
    """An error of another module that psycopg needs is not hidden."""
    importing = builtins.__import__

    def fail(name, *args):
        if name == "psycopg":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return importing(name, *args)

    monkeypatch.delitem(sys.modules, "wxtcb.provision.postgres.connection")
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(ModuleNotFoundError, match=message):
        importlib.import_module("wxtcb.provision.postgres.connection")


async def test_unexpected_error_of_the_driver_is_a_journal_error(url, monkeypatch):
    """All calls that wait get it, without its message, which may quote a password."""

    async def broken(self, *args):
        raise ZeroDivisionError("S3CRET")

    async with PostgresJournal(url) as journal:
        await journal.load()
        with monkeypatch.context() as patch:
            patch.setattr(Lane, "fetch", broken)
            results = await asyncio.gather(*(journal.load() for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [JournalError] * 3
        assert all("ZeroDivisionError" in str(result) and "S3CRET" not in str(result) for result in results)
        assert await journal.load() == {}
