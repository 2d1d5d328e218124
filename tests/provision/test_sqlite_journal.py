"""The file of a SqliteJournal: whose it is, what is refused, what locks, forks, loops and full disks do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sqlite3
import stat
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import attrs
import pytest

from wxtcb import _sqlite
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import HistoryEntry, JournalError, JournalInUse, TenantRecord
from wxtcb.provision.sqlite import failures, file, schema
from wxtcb.provision.sqlite.journal import SqliteJournal

from .journal_records import HOME, NOW, cat, contents, keep, made, record, run_python


@pytest.fixture
def path(tmp_path):
    """Give the path of a file that is not there yet."""
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path):
    """Give a journal in it."""
    async with SqliteJournal(path) as opened:
        yield opened


@pytest.fixture(params=[0, 0o377])
def umask(request):
    """Take no right away from new files, as a careless service might, or too many."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def connections(monkeypatch):
    """Give the list of the threads that opened a file."""
    opened, connect = [], file.connect
    monkeypatch.setattr(file, "connect", lambda path: (opened.append(threading.current_thread()), connect(path))[1])
    return opened


@pytest.fixture
def transactions(monkeypatch):
    """Give the list of the transactions begun, each the journal's file."""
    begun, transaction = [], file.JournalFile.transaction
    monkeypatch.setattr(file.JournalFile, "transaction", lambda self: (begun.append(self), transaction(self))[1])
    return begun


@contextlib.contextmanager
def opened_by_another(path, *statements):
    """Open the file as any program might, say *statements*, and close it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as opened:
        for statement in statements:
            opened.execute(statement)
        yield opened


async def refused(path, words, kind=JournalError):
    """See a journal refused at every call, with nothing made and nothing changed."""
    before = contents(path.parent) if path.parent.is_dir() else None
    async with SqliteJournal(path) as journal:
        for call in (partial(journal.bind_identity, HOME), journal.load, partial(keep, journal)):
            with pytest.raises(kind, match=words) as caught:
                await call()
            assert caught.value.__context__ is None
    assert before is None or contents(path.parent) == before


async def test_nobody_else_can_read_the_file_or_its_log(umask, path, journal, monkeypatch):
    """Both have mode 600 whatever the umask, and had so when they were made."""
    born, link = [], Path.hardlink_to
    monkeypatch.setattr(Path, "hardlink_to", lambda self, draft: (born.append(draft.stat().st_mode), link(self, draft)))
    await keep(journal)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600}
    assert [stat.S_IMODE(mode) for mode in born] == [0o600]


async def test_a_closed_journal_is_one_file_that_has_everything(path):
    """It can be copied then."""
    await made(path, *"abc")
    assert [*contents(path.parent)] == ["journal.db"]
    path.rename(path.with_name("copy.db"))
    async with SqliteJournal(path.with_name("copy.db")) as copy:
        assert [*await copy.load()] == [*"abc"]


async def test_a_journal_that_others_may_read_is_refused(path):
    """It is said how that is mended, and done by nobody but its owner."""
    await made(path)
    path.chmod(0o644)
    await refused(path, "journal.db has mode 644, so other users may have read .*chmod 600 /.*journal.db")


async def test_an_empty_file_is_refused(path):
    """It may be what is left of a journal, which knew what must not be opened again."""
    path.touch(mode=0o600)
    await refused(path, "is empty: a journal was cut off there, or never was in it")


@pytest.mark.parametrize("text", [b"x", b"tenant,alias\na,b\n" * 500, b"\0" * 4096], ids=["1", "8500", "zeros"])
async def test_a_text_file_is_refused(path, text):
    """It may be somebody's list of tenants."""
    path.write_bytes(text)
    path.chmod(0o600)
    await refused(path, "is no journal, or its beginning is damaged; it was left as it is")


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_the_database_of_another_program_is_refused(path, mode):
    """Its tables, its journal and its log stay what they were, also what a crash left in them."""
    with opened_by_another(path, f"PRAGMA journal_mode={mode}", "CREATE TABLE records (tenant)"):
        left = contents(path.parent)
    for name, data in left.items():
        if not name.endswith("-shm"):
            (path.parent / name).write_bytes(data)
            (path.parent / name).chmod(0o600)
    assert len(contents(path.parent)) == (2 if mode == "wal" else 1)
    await refused(path, "is the database of another program; it was left as it is")


async def test_the_journal_of_another_version_is_refused(path):
    """It may hold what this version knows nothing of."""
    await made(path)
    with opened_by_another(path, "PRAGMA user_version = 2"):
        pass
    await refused(path, "was written by another version of wxtcb; it was left as it is")


def test_the_format_has_a_number_for_each_shape_of_a_record():
    """Whoever adds a field of a record, or changes one, has to raise the number of the format."""
    fields = " ".join(field.name for field in attrs.fields(TenantRecord))
    known = "tenant alias version attempt intent env tranid opened_at links services marks retired"
    assert (schema.JOURNAL_FORMAT.schema_version, fields) == (1, known)


async def test_a_damaged_journal_is_refused(path):
    """Pages that are no more what they were are found when it is opened, and it is said what to do."""
    await made(path, *(f"tenant {number}" for number in range(200)))
    whole = path.read_bytes()
    for at in range(4096, len(whole), 4096):
        path.write_bytes(whole[:at] + b"\xff" * 64 + whole[at + 64 :])
        await refused(path, "damaged .* left as it is. Keep the file .* put back a copy, or start with another journal")


async def test_what_a_crash_left_in_the_log_of_a_damaged_journal_stays_there(path):
    """It may be what the damage is mended with."""
    await made(path, *(f"tenant {number}" for number in range(100)))
    async with SqliteJournal(path) as journal:
        await keep(journal, "last")
        log = cat(path.with_name("journal.db-wal"))
    path.write_bytes(path.read_bytes()[:8192])
    path.with_name("journal.db-wal").write_bytes(log)
    path.with_name("journal.db-wal").chmod(0o600)
    await refused(path, "is damaged")


async def test_a_record_that_nobody_wrote_so_is_told_and_harms_no_other(path):
    """Who asks for it hears whose it is; what was asked at the same moment is done."""
    await made(path, "good", "bad")
    with opened_by_another(path, """UPDATE records SET document = '{"new": 1}', history = 'x' WHERE tenant = 'bad'"""):
        pass
    async with SqliteJournal(path) as journal:
        told = await asyncio.gather(
            journal.load(),
            journal.history(["bad"]),
            keep(journal, "other"),
            journal.load(["good", "other"]),
            return_exceptions=True,
        )
        for error in told[:2]:
            assert isinstance(error, JournalError)
            assert "damaged: what is kept of tenant 'bad', in its row of the table records, cannot be" in str(error)
            assert "put back a copy, or start with another journal" in str(error)
            assert "Do not just delete the row: what was opened for the tenant would be opened once more" in str(error)
        assert [told[2], [*told[3]]] == [None, ["good", "other"]]


@pytest.mark.parametrize("kept", ["'{broken'", "CAST(x'ff' AS TEXT)", "x'00'", "7", "''"])
async def test_a_row_of_whatever_kind_is_told_as_damage(path, kept):
    """No JSON, no text, no UTF-8: whoever needs the row hears whose it is, and nobody an error of SQLite."""
    async with SqliteJournal(path) as journal:
        await keep(journal, "bad", env="env-1")
    with opened_by_another(path, f"UPDATE records SET document = {kept}, history = CAST(x'ff' AS TEXT)"):
        pass
    async with SqliteJournal(path) as journal:
        for call in (journal.load(), journal.bindings(), journal.history(["bad"])):
            with pytest.raises(JournalError, match=r"is damaged: what is kept of tenant 'bad', in its row") as caught:
                await call
            assert caught.value.__context__ is None


async def test_a_directory_or_none_at_all_is_refused(tmp_path):
    """It is said what is there, and what is not."""
    (tmp_path / "file").touch()
    await refused(tmp_path, "is no file")
    await refused(tmp_path / "none" / "j.db", "there is no directory .*none for j.db")
    await refused(tmp_path / "file" / "j.db", "Not a directory")


@pytest.mark.parametrize("what", ["journal.db", ""])
async def test_what_cannot_be_written_is_refused(path, monkeypatch, what):
    """Neither the file, nor the directory, where the log is kept, may be read-only; root is told so as well."""
    await made(path)
    closed = path.parent / what
    monkeypatch.setattr(os, "access", lambda each, _: each != closed)
    await refused(path, "must be (readable and )?writable for this process")


async def test_a_log_that_cannot_be_opened_is_told(path):
    """Something else lies where it belongs."""
    await made(path)
    path.with_name("journal.db-wal").mkdir(mode=0o700)
    await refused(path, "what lies beside it must be writable")


@pytest.mark.parametrize("lost", ["missing", "empty"])
async def test_a_log_without_its_journal_is_not_thrown_away(path, lost):
    """SQLite would delete it, and begin anew with nothing."""
    path.with_name("journal.db-wal").write_bytes(b"what was kept last")
    path.with_name("journal.db-wal").chmod(0o600)
    if lost == "empty":
        path.touch(mode=0o600)
    await refused(path, "there is no .*journal.db, but the log of one beside it, journal.db-wal: put the journal back")


async def test_a_disk_without_a_write_ahead_log_is_refused(path, monkeypatch):
    """SQLite falls back in silence."""
    pragma = _sqlite.pragma
    monkeypatch.setattr(_sqlite, "pragma", lambda db, words: "delete" if "WAL" in words else pragma(db, words))
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="must be on a local disk"):
            await keep(journal)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_IOERR_LOCK, "must be on a local disk, where files can be locked"),
        (sqlite3.SQLITE_PROTOCOL, "must be on a local disk"),
        (sqlite3.SQLITE_CANTOPEN, "must be writable"),
        (sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error; whether what was just asked was kept, its version tells"),
    ],
)
def test_an_error_of_the_disk_is_put_in_words(code, words):
    """What this machine cannot be made to raise is told like the rest."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    assert words in str(failures.to_journal_error(error, Path("/j.db")))


@pytest.mark.parametrize("text", [b"no path", 7, "", "a\0b", ":memory:"])
def test_what_is_no_path_is_refused(text):
    """That is said at once; it is never made a file of that name."""
    with pytest.raises(InvalidArgument, match="path must be"):
        SqliteJournal(text)


def test_nothing_happens_before_the_first_call(path):
    """A journal is built anywhere, and one that was never used has nothing to close."""
    journal = SqliteJournal(path)
    assert (journal.durable, contents(path.parent)) == (True, {})
    asyncio.run(journal.aclose())
    assert contents(path.parent) == {}


def test_one_that_is_forgotten_open_warns_and_is_closed(path):
    """The warning names the file; another may open it then."""

    async def forget():
        await keep(SqliteJournal(path))
        gc.collect()

    with pytest.warns(ResourceWarning, match="SqliteJournal was never closed: .*journal.db"):
        asyncio.run(forget())
    for _ in range(6000):
        with contextlib.suppress(JournalInUse):
            asyncio.run(made(path, "b"))
            break
        time.sleep(0.01)
    assert [*contents(path.parent)] == ["journal.db"]


async def test_what_is_asked_of_a_closed_journal_fails(path, journal):
    """What was asked before is done; closing twice is no harm."""
    early = asyncio.create_task(keep(journal))
    await asyncio.sleep(0)
    await asyncio.gather(journal.aclose(), journal.aclose())
    await early
    with pytest.raises(JournalError, match="was closed"):
        await journal.load()


async def test_no_thread_of_a_loop_touches_the_file(journal, connections):
    """SQLite itself refuses a connection to every other thread than that which opened it."""
    await keep(journal)
    await journal.load()
    await journal.bindings()
    assert [thread.name for thread in connections] == ["wxtcb-journal"]


def test_several_loops_use_one_journal(path):
    """One after the other, and at once from several threads; the file is opened once."""
    journal = SqliteJournal(path)
    asyncio.run(keep(journal, "a"))
    threads = [threading.Thread(target=asyncio.run, args=[keep(journal, name)]) for name in "bcde"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asyncio.run(journal.load())) == [*"abcde"]
    asyncio.run(journal.aclose())


def test_a_loop_that_ends_while_it_waits_holds_nobody_up(path, monkeypatch):
    """What it asked is done, and the next loop is answered."""
    journal = SqliteJournal(path)
    gate = threading.Event()
    monkeypatch.setattr(schema, "select_bindings", lambda _: gate.wait(60))

    async def leave():
        task = asyncio.ensure_future(journal.bindings())
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(leave())
    loop.close()
    gate.set()
    asyncio.run(keep(journal))
    asyncio.run(journal.aclose())
    with contextlib.suppress(RuntimeError):
        task.cancel()
    task._log_destroy_pending = False


async def test_those_who_wait_share_a_transaction(journal, transactions, monkeypatch, settle):
    """What 64 callers ask while the file is busy makes one transaction, and each is told its own."""
    begun, gate = threading.Event(), threading.Event()
    monkeypatch.setattr(schema, "select_bindings", lambda _: (begun.set(), gate.wait(60), {})[2])
    first = asyncio.create_task(journal.bindings())
    await asyncio.to_thread(begun.wait, 60)
    waiting = [asyncio.create_task(keep(journal, str(number))) for number in range(64)]
    await settle()
    before = len(transactions)
    gate.set()
    await asyncio.gather(first, *waiting)
    assert len(transactions) == before + 1
    assert len(await journal.load()) == 64


async def test_a_caller_that_is_cancelled_leaves_a_record_kept_or_not(journal):
    """Whenever that happens the next version follows what the journal has, and nobody else is harmed."""
    version = 0
    for turns in range(60):
        task = asyncio.create_task(journal.commit(record(version=version + 1), NOW))
        other = asyncio.create_task(keep(journal, f"other {turns}"))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        if turns % 4 == 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await other
        loaded = await journal.load(["a"])
        now = loaded["a"].version if loaded else 0
        assert now in (version, version + 1)
        version = now
    assert 0 < version < 60
    assert len((await journal.history(["a"]))["a"]) == version


async def test_closing_goes_on_when_who_closes_is_cancelled(path, journal):
    """The file is closed all the same."""
    await keep(journal)
    closing = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await journal.aclose()
    assert [*contents(path.parent)] == ["journal.db"]


async def test_a_log_that_has_grown_is_emptied(path, journal, monkeypatch):
    """It never has much more than is written back at once, and no part of it stays behind."""
    monkeypatch.setattr(file, "_MAX_WAL_BYTES", 100_000)
    log = path.with_name("journal.db-wal")
    sizes = []
    for number in range(60):
        await keep(journal, str(number), marks={"x": "y" * 5000})
        await journal.load([])
        sizes.append(log.stat().st_size)
    assert max(sizes) < 200_000
    assert sizes.count(0) >= 3


async def test_a_log_that_is_removed_loses_nothing(path, journal):
    """What it had is written into the file while it is still known; a crash right after finds everything."""
    await keep(journal, "a")
    path.with_name("journal.db-wal").unlink()
    await keep(journal, "b")
    for what in ("", "-wal"):
        copy = path.with_name(f"copy.db{what}")
        copy.write_bytes(cat(f"{path}{what}"))
        copy.chmod(0o600)
    async with SqliteJournal(path.with_name("copy.db")) as again:
        assert [*await again.load()] == ["a", "b"]


async def tell_database(journal, words):
    """Say *words* to the database of a journal."""
    await journal._submit(lambda db: db.execute(words).fetchall())


async def test_what_does_not_fit_is_not_kept_and_the_journal_goes_on(path, journal, connections):
    """Who is told of a full disk finds nothing of it; the log makes room, and nothing has to be opened anew."""
    await keep(journal)
    await tell_database(journal, "PRAGMA max_page_count = 10")
    large = record(version=2, marks={"x": "y" * 100_000})
    with pytest.raises(JournalError, match=r"there is no room for .*journal.db; nothing of what was just asked was"):
        await journal.commit(large, NOW)
    assert (await journal.load())["a"].version == 1
    assert path.with_name("journal.db-wal").stat().st_size == 0
    await tell_database(journal, "PRAGMA max_page_count = 100000")
    assert await journal.commit(large, NOW)
    assert len(connections) == 1


async def test_a_disk_that_fails_in_the_middle_is_looked_at_anew(journal, connections):
    """Nothing is believed of the connection that failed; the version tells what was kept, and all goes on."""
    await keep(journal)
    large = record(version=2, marks={"x": "y" * 500_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(JournalError, match=r"journal.db: disk I/O error; whether what was just asked was kept"):
            await journal.commit(large, NOW)
        assert (await journal.load())["a"].version == 1
        await keep(journal, "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await journal.commit(large, NOW)
    assert len(connections) == 2


async def test_a_journal_that_cannot_be_written_back_tells_so_when_it_is_closed(path):
    """The rest is in the log, which stays; opened again, it is all there."""
    journal = SqliteJournal(path)
    for number in range(20):
        await keep(journal, str(number), marks={"x": "y" * 20_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(JournalError, match=r"disk I/O error.*; keep /.*journal.db-wal with the file"):
            await journal.aclose()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.with_name("journal.db-wal").stat().st_size > 400_000
    async with SqliteJournal(path) as again:
        assert len(await again.load()) == 20


async def test_what_cannot_be_written_as_text_fails_alone(journal):
    """A lone surrogate has no place in a file; who waits at the same moment is not harmed."""
    told = await asyncio.gather(
        journal.commit(record("a", tranid="\ud800"), NOW),
        journal.commit(record("b"), HistoryEntry(1.0, "\ud800")),
        journal.commit(record("c"), NOW),
        return_exceptions=True,
    )
    assert ["cannot be kept" in str(each) for each in told] == [True, True, False]
    assert [*await journal.load()] == ["c"]


async def test_a_fault_of_ours_fails_its_batch_and_no_other(journal, monkeypatch):
    """Whoever waits is told; the thread lives on."""
    await keep(journal)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "select_bindings", lambda _: 1 // 0)
        with pytest.raises(JournalError, match="ZeroDivisionError"):
            await journal.bindings()
    await keep(journal, version=2)


FULL_DISK = """
import asyncio, pathlib, subprocess, sys
from wxtcb.provision.journal import JournalError, Moment, Record
from wxtcb.provision.sqlite.journal import SqliteJournal

folder = pathlib.Path(sys.argv[1]).parent
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder], check=True)

async def keep(journal, name):
    record = Record(tenant=name, alias="ta", version=1, marks={"x": "y" * 10_000})
    assert await journal.commit(record, Moment(1.0, "noted"))
    return name

async def main():
    async with SqliteJournal(sys.argv[1]) as journal:
        kept = []
        try:
            for number in range(1000):
                kept.append(await keep(journal, str(number)))
        except JournalError as error:
            print(error)
        assert 10 < len(kept) < 200, kept
        assert [*await journal.load()] == kept
        subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
        kept.append(await keep(journal, "more"))
    async with SqliteJournal(sys.argv[1]) as journal:
        assert [*await journal.load()] == kept

asyncio.run(main())
"""


def test_a_disk_that_is_really_full_loses_nothing(path):
    """Commits fail when it is; what was told to be kept is there, and all goes on when there is room."""
    alone = ("unshare", "--mount", "--map-root-user")
    try:
        subprocess.run([*alone, "mount", "-t", "tmpfs", "none", path.parent], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be made here")
    assert "there is no room for" in run_python(FULL_DISK, path, before=alone)


FORKED = """
import asyncio, os, sys
from wxtcb.provision.journal import JournalError, Moment, Record
from wxtcb.provision.sqlite.journal import SqliteJournal

NOW = Moment(1.0, "noted")
journal = SqliteJournal(sys.argv[1])
untouched = SqliteJournal(sys.argv[1] + "2")

def keep(version):
    assert asyncio.run(journal.commit(Record(tenant="a", alias="ta", version=version), NOW))

keep(1)
child = os.fork()
if not child:
    try:
        keep(2)
    except JournalError as error:
        print(error, flush=True)
    assert asyncio.run(untouched.commit(Record(tenant="b", alias="tb", version=1), NOW))
    asyncio.run(untouched.aclose())
    asyncio.run(journal.aclose())
    sys.exit(7)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
for version in range(2, 30):
    keep(version)
assert os.path.getsize(sys.argv[1] + "-wal")
os._exit(0)
"""


@pytest.mark.usefixtures("measured")
async def test_a_forked_child_is_refused_and_does_no_harm(path):
    """It neither hangs nor uses what its parent has open, nor closes it when it ends; its own journals work."""
    done = run_python(FORKED, path, "-Wignore::DeprecationWarning")
    assert "was opened before this process was forked" in done
    async with SqliteJournal(path) as journal:
        assert (await journal.load())["a"].version == 29


async def test_what_is_kept_is_written_through_by_one_process_alone(journal):
    """Every commit reaches the disk by a write-ahead log, and nobody else can read or write meanwhile."""
    asked = ("synchronous", "journal_mode", "locking_mode", "wal_autocheckpoint")
    told = await journal._submit(lambda db: [_sqlite.pragma(db, words) for words in asked])
    assert told == [2, "wal", "exclusive", 0]


def test_nothing_of_it_is_loaded_before_it_is_asked_for(path):
    """Who keeps nothing in files does not wait for SQLite."""
    code = """
import sys
early = {*sys.modules}
import wxtcb.provision
late = {"sqlite3", "wxtcb._sqlite", "wxtcb.provision.sqlite"}
print(sorted(late & {*sys.modules} - early), "SqliteJournal" in dir(wxtcb.provision))
from wxtcb.provision import SqliteJournal
print(late <= {*sys.modules}, SqliteJournal.__name__)
"""
    assert run_python(code, path).splitlines() == ["[] True", "True SqliteJournal"]
