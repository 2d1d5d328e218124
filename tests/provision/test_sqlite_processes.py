"""The file of a SqliteJournal with several processes: readers, writers, kills, forks and replaced files."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys

import attrs
import pytest

from wxtcb.provision.desired import Cancel, DesiredState, Submit
from wxtcb.provision.journal import JournalError, JournalInUse
from wxtcb.provision.record import TenantRecord
from wxtcb.provision.sqlite import file, schema
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import (
    ENTRY,
    IDENTITY,
    create_journal,
    environment,
    read_files,
    record,
    run_python,
    store_record,
)


@pytest.fixture
def path(tmp_path):
    """Return the path of a file that does not exist yet."""
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path):
    """Open a journal in it."""
    async with SqliteJournal(path) as opened:
        yield opened


@contextlib.contextmanager
def writing(path):
    """Hold the write lock of the file, with a change that is not committed."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE records SET version = 7")
        yield
        db.execute("ROLLBACK")


@pytest.fixture
def impatient(monkeypatch):
    """Let a journal wait only a moment for a process that writes."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.02)


async def test_readers_do_not_wait_for_a_writer(path, journal):
    """They see what was stored before; a journal may even be opened meanwhile."""
    await journal.bind_identity(IDENTITY)
    await store_record(journal, env="env-1")
    await journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")])
    with writing(path):
        async with SqliteJournal(path) as other:
            for each in (journal, other):
                assert (await each.load())["a"].version == 1
                assert await each.bind_identity() == await each.bind_identity(IDENTITY) == IDENTITY
                assert [*await each.bindings(0.0)] == ["env-1"]
                assert (await each.history(["a"]))["a"] == (ENTRY,)
                assert (await each.desired.counts())[DesiredState.WAITING] == 1
                assert await each.election.leader() is None


@pytest.mark.usefixtures("impatient")
async def test_writer_that_waits_too_long_gets_a_clear_error(path, journal):
    """Calls of the same moment that only read succeed, and the next one can write again."""
    await store_record(journal)
    with writing(path):
        with pytest.raises(JournalInUse, match=r"nothing was stored.*let it go on or kill it"):
            await store_record(journal, "b")
        before, failed, after = await asyncio.gather(
            journal.load(), store_record(journal, "b"), journal.load(), return_exceptions=True
        )
        assert isinstance(failed, JournalInUse)
        assert [*before] == [*after] == ["a"]
    await store_record(journal, "b")


async def test_reader_that_meets_a_lock_gets_a_clear_error(path, monkeypatch):
    """A program that locks the whole file keeps out readers too."""
    await create_journal(path)
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        async with SqliteJournal(path) as journal:
            with pytest.raises(JournalInUse):
                await journal.load()


STOPPED = """
import asyncio, os, sys
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite import schema
from wxtcb.provision.sqlite.journal import SqliteJournal

row = schema.RecordRow.from_record(TenantRecord(tenant="b", alias="tb", version=1), HistoryEntry(1.0, "noted"), None)

def write(db):
    schema.commit_rows(db, row, None)
    os.write(1, b"written\\n")
    sys.stdin.readline()

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        await journal._thread.run(write, write=True)

asyncio.run(main())
"""


@contextlib.contextmanager
def process_in_mid_write(path):
    """Start a process that has written a record, but not committed it."""
    command = [sys.executable, "-c", STOPPED, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        try:
            assert process.stdout.readline() == b"written\n"
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("impatient")
async def test_process_stopped_in_mid_write_goes_on_later(path, journal):
    """Others that write get an error until then; its record and theirs are both stored."""
    await store_record(journal)
    with process_in_mid_write(path) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(JournalInUse, match="stopped"):
            await store_record(journal, "c")
        assert [*await journal.load()] == ["a"]
        process.send_signal(signal.SIGCONT)
        process.communicate(b"\n", timeout=60)
        assert process.returncode == 0
    await store_record(journal, "c")
    assert [*await journal.load()] == ["a", "b", "c"]


@pytest.mark.usefixtures("impatient")
async def test_process_killed_in_mid_write_stores_nothing(path, journal):
    """Its lock ends with it, so that others can write at once."""
    await store_record(journal)
    with process_in_mid_write(path) as process:
        process.kill()
        process.wait(60)
        await store_record(journal, "c")
    assert [*await journal.load()] == ["a", "c"]


RACER = """
import asyncio, sys
import attrs
from wxtcb.provision.journal import Committed, Stale
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

async def main():
    counts = {Committed: 0, Stale: 0}
    async with SqliteJournal(sys.argv[1]) as journal:
        record = TenantRecord(tenant="a", alias="ta")
        while record.version < 300:
            following = attrs.evolve(record, version=record.version + 1)
            result = await journal.commit(following, HistoryEntry(1.0, "noted"))
            counts[type(result)] += 1
            record = result.record if isinstance(result, Stale) else following
    print(*counts.values())

asyncio.run(main())
"""


async def test_each_version_is_committed_by_one_process(path, journal):
    """Of two processes that commit to one record, one gets `Committed`, the other the newer record."""
    outputs = await asyncio.gather(*(asyncio.to_thread(run_python, RACER, path) for _ in range(2)))
    counts = [[int(count) for count in output.split()] for output in outputs]
    assert sum(committed for committed, _ in counts) == 300
    assert len((await journal.history(["a"]))["a"]) == 300


FORKED = """
import asyncio, os, sys
from wxtcb.provision.journal import Committed
from wxtcb.provision.record import HistoryEntry, TenantRecord
from wxtcb.provision.sqlite.journal import SqliteJournal

def store(journal, name):
    record = TenantRecord(tenant=name, alias=f"t{name}", version=1)
    assert asyncio.run(journal.commit(record, HistoryEntry(1.0, "noted"))) == Committed()

parent = SqliteJournal(sys.argv[1])
store(parent, "a")
(opened, open_end), (closed, close_end) = os.pipe(), os.pipe()
child = os.fork()
if not child:
    own = SqliteJournal(sys.argv[1])
    store(own, "b")
    os.write(open_end, b".")
    os.read(closed, 1)
    store(own, "c")
    os._exit(0)
os.read(opened, 1)
store(parent, "d")
asyncio.run(parent.aclose())
os.write(close_end, b".")
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
"""


async def test_forked_child_uses_a_journal_of_its_own(path):
    """The parent's last close does not delete the log that the child writes."""
    run_python(FORKED, path, "-Wignore::DeprecationWarning")
    async with SqliteJournal(path) as journal:
        assert sorted(await journal.load()) == ["a", "b", "c", "d"]


FORKED_IN_MID_WRITE = """
import asyncio, os, sys, threading
from wxtcb.provision.desired import Cancel
from wxtcb.provision.sqlite import file, schema
from wxtcb.provision.sqlite.journal import SqliteJournal

file.BUSY_TIMEOUT = 0.1
begun, forking = threading.Event(), threading.Event()
journal = SqliteJournal(sys.argv[1])
query = lambda _: (begun.set(), forking.wait(60))
threading.Thread(target=asyncio.run, args=[journal._thread.run(query, write=True)], daemon=True).start()
begun.wait(60)
# Hooks run in the reverse order: this one before the hook of the journal, which waits for the end of the query.
os.register_at_fork(before=forking.set)
child = os.fork()
if not child:
    asyncio.run(SqliteJournal(sys.argv[1]).desired.change([Cancel("a")]))
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
asyncio.run(journal.aclose())
"""


def test_child_forked_during_a_write_can_write(path):
    """It inherits no lock that nothing would ever release."""
    run_python(FORKED_IN_MID_WRITE, path, "-Wignore::DeprecationWarning")


async def test_closing_the_file_elsewhere_loses_nothing(path):
    """A backup in this process releases the locks of SQLite, so that another process may delete the log."""
    async with SqliteJournal(path) as journal:
        await store_record(journal)
        path.read_bytes()
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM records').fetchall()"
        run_python(code, path)
        assert not path.with_name("journal.db-wal").exists()
        await store_record(journal, version=2)
        assert (await journal.load())["a"].version == 2
    async with SqliteJournal(path) as journal:
        assert (await journal.load())["a"].version == 2


@pytest.mark.parametrize("by", ["nothing", "an empty file", "another journal"])
async def test_journal_removed_while_open_is_not_created_again(path, journal, by):
    """An empty one would let everything be created again; once it is restored, calls succeed."""
    await store_record(journal)
    path.rename(path.with_name("moved.db"))
    if by == "an empty file":
        path.touch(mode=0o600)
    elif by == "another journal":
        await create_journal(path.with_name("other.db"), "b")
        path.with_name("other.db").rename(path)
    before = read_files(path.parent)
    for call in (store_record(journal, version=2), journal.load(), journal.desired.select()):
        with pytest.raises(JournalError, match="was removed or replaced while the journal was in use"):
            await call
    assert read_files(path.parent) == before
    path.with_name("moved.db").replace(path)
    await store_record(journal, version=2)
    assert (await journal.load())["a"].version == 2


async def test_closing_a_removed_journal_raises(path):
    """Moved back next to its log, it is complete."""
    journal = SqliteJournal(path)
    await store_record(journal)
    path.rename(path.with_name("moved.db"))
    with pytest.raises(JournalError, match=r"was removed or replaced .* move it back next to its -wal file"):
        await journal.aclose()
    path.with_name("moved.db").rename(path)
    async with SqliteJournal(path) as found:
        assert [*await found.load()] == ["a"]


async def test_journal_removed_before_it_is_opened_again_is_not_created(path, journal):
    """A connection that was lost changes nothing about that."""
    await store_record(journal)
    journal._thread.file.close()
    path.unlink()
    with pytest.raises(JournalError, match="was removed or replaced"):
        await store_record(journal, version=2)
    assert not path.exists()


async def test_replaced_log_is_not_used(path):
    """Nothing is stored until the right log is back."""
    async with SqliteJournal(path) as journal:
        await store_record(journal)
        moved, log = path.with_name("moved"), path.with_name("journal.db-wal")
        log.rename(moved)
        log.touch(mode=0o600)
        with pytest.raises(JournalError, match="-wal was removed or replaced"):
            await store_record(journal, version=2)
        moved.replace(log)
        await store_record(journal, version=2)


async def test_write_into_a_deleted_log_is_not_confirmed(path, journal):
    """It was deleted after the last check, so the change may be lost."""
    await store_record(journal)
    log = path.with_name("journal.db-wal")
    with pytest.raises(JournalError, match="-wal was removed or replaced"):
        await journal._thread.run(lambda _: log.unlink(), write=True)
    assert [*await journal.load()] == ["a"]


async def test_settings_of_the_connection(journal):
    """A commit is synced to the disk, and other processes can read and write."""
    names = ("synchronous", "fullfsync", "journal_mode", "locking_mode")
    values = await journal._thread.run(lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names])
    assert values == [2, 1, "wal", "normal"]


def downgrade(path):
    """Make a file of version 1 of the journal, with a record that has all of its fields."""
    document = (
        '{"tenant":"a","alias":"ta","version":1,"attempt":1,"intent":{"deadline":5.0,"window":1.0},"env":null,'
        '"tranid":null,"opened_at":null,"links":{},"services":{"api":"sent"},"marks":{"x":"y"},"retired":false}'
    )
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ("DROP TABLE desired", "DROP TABLE leader", "PRAGMA user_version = 1"):
            db.execute(statement)
        db.execute("UPDATE records SET document = ?", (document,))


async def test_file_of_version_1_is_upgraded(path):
    """Its records are read, and what is desired can be stored; a second process may upgrade it at once."""
    await create_journal(path)
    downgrade(path)
    await asyncio.gather(*(open_and_check(path) for _ in range(3)))


async def open_and_check(path):
    """Assert that a file of version 1 is read, and can be changed."""
    async with SqliteJournal(path) as journal:
        stored = (await journal.load())["a"]
        assert (stored.intent.deadline, stored.metadata, stored.creates_sent) == (5.0, {"x": "y"}, 0)
        assert await journal.desired.change([Cancel("a")])


async def test_journal_of_another_version_is_rejected(path):
    """It may hold data that this version cannot read."""
    await create_journal(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    before = read_files(path.parent)
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="another version of wxtcb"):
            await journal.load()
    assert read_files(path.parent) == before


def test_format_number_belongs_to_the_fields_of_a_record():
    """A change of the fields requires a new number of the format."""
    known = "tenant alias version attempt intent env tranid opened_at links services metadata retired "
    known += "creates_sent decided_revision outcome problem"
    assert " ".join(TenantRecord.__slots__).replace(" __weakref__", "") == known
    assert file.JOURNAL_FORMAT.schema_version == 2


async def test_new_journal_has_no_identity(journal):
    """It is not bound by a process that only reads."""
    with pytest.raises(JournalError, match="is new: run `wxtcb init`"):
        await journal.bind_identity()
    assert await journal.bind_identity(IDENTITY) == IDENTITY


async def test_first_identity_is_stored(journal):
    """Two processes that bind a new journal at the same moment get the same identity."""
    identities = [IDENTITY, attrs.evolve(IDENTITY, namespace="other")]
    assert await asyncio.gather(*map(journal.bind_identity, identities)) == [IDENTITY, IDENTITY]


def test_savepoint_of_a_transaction_that_was_rolled_back_keeps_the_error():
    """A full disk can end the whole transaction."""

    def fail(db):
        """Meet an error that ends the transaction."""
        with schema.savepoint(db):
            db.execute("ROLLBACK")
            raise ValueError("full")

    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.execute("BEGIN")
        with pytest.raises(ValueError, match="full"):
            fail(opened)


async def test_exchanged_aliases_are_stored(journal):
    """In one call, a tenant gets the alias that another gives up."""
    await journal.desired.change([Submit(tenant=name, alias=f"t{name}", spec=b"{}") for name in "ab"])
    await journal.desired.change([Submit(tenant="a", alias="tb", spec=b"{}"), Submit(tenant="b", alias="ta", spec=b"")])
    assert [each.alias for each in await journal.desired.select()] == ["tb", "ta"]


async def test_corrupt_desired_row_is_reported(path, journal):
    """The error names the tenant."""
    await journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE desired SET state = 'new'")
    with pytest.raises(JournalError, match="the row of tenant 'a' in the table desired"):
        await journal.desired.select()


async def test_change_of_another_process_is_noticed(path, journal, monkeypatch):
    """The file is observed while somebody waits, and a file that has gone ends the wait too."""
    monkeypatch.setattr("wxtcb.provision.sqlite.thread._POLL_INTERVAL", 0.001)
    seen = await journal.desired.wait_for_change(0, 60.0)
    for change in (lambda: run_python(CHANGE, path), lambda: path.rename(path.with_name("moved"))):
        waiting = asyncio.create_task(journal.desired.wait_for_change(seen, 60.0))
        await asyncio.sleep(0)
        # Answered after the first look of the wait.
        await journal.load()
        await asyncio.to_thread(change)
        assert await waiting > seen
        seen = journal._thread.changes
    with pytest.raises(JournalError, match="removed"):
        await journal.desired.wait_for_change(seen, 60.0)
    path.with_name("moved").rename(path)
    assert not journal._thread._waiters


async def test_close_ends_waits(path):
    """Those who wait for a change call again, and get the error."""
    journal = SqliteJournal(path)
    seen = await journal.desired.wait_for_change(0, 60.0)
    waiting = asyncio.create_task(journal.desired.wait_for_change(seen, 60.0))
    await asyncio.sleep(0)
    await journal.load()
    await journal.aclose()
    assert await waiting > seen


CHANGE = """
import asyncio, sys
from wxtcb.provision.desired import Submit
from wxtcb.provision.sqlite.journal import SqliteJournal

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        await journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")])

asyncio.run(main())
"""


async def test_waits_of_a_closed_loop_affect_no_other(path):
    """Its waiter is left behind, and the next change reaches the others."""
    async with SqliteJournal(path) as journal:
        seen = await journal.desired.wait_for_change(0, 60.0)
        loop = asyncio.new_event_loop()
        journal._thread._waiters.add(loop.create_future())
        loop.close()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        journal._thread._waiters.add(done)
        waiting = asyncio.create_task(journal.desired.wait_for_change(seen, 60.0))
        await store_record(journal)
        assert await waiting > seen
        journal._thread._waiters.clear()


async def test_environment_of_another_tenant_names_its_owner(journal):
    """The alias and the environment may have two owners; the first by name is reported."""
    await store_record(journal, "a", env="env-1")
    await store_record(journal, "b", env="env-2")
    taken = await journal.commit(record("c", env="env-2"), ENTRY)
    assert taken.tenant == "b"
