"""The journal of the command line: where it is, what it is good for, and when it is refused."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from wxtcb.cli.journal_file import run_with_journal
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Journal, JournalError, SqliteJournal
from wxtcb.provision.journal import JournalIdentity

from .children import start
from .conftest import Cli, Platform
from .test_runner import CREATE, wait_for

Tenants = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("swift", "platform")


def beside(file: Path) -> Path:
    """Return where the journal of *file* is, unless told otherwise."""
    return Path(f"{file}.wxtcb.db")


def alter(path: Path, statement: str) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def hasten(path: Path) -> None:
    """Let what was intended be over."""
    over = "json_set(document, '$.intent.window', 0, '$.intent.deadline', 0)"
    alter(path, f"UPDATE records SET document = {over} WHERE json_extract(document, '$.intent') IS NOT NULL")


def test_it_is_beside_the_file(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """For this user's eyes, and one file when the run has ended; the next run finds nothing to do."""
    file = tenants("a,x,wx0000000000000001,api")
    assert cli("provision", file, "--yes").exit_code == 0
    assert sorted(path.name for path in file.parent.glob(f"{file.name}*")) == [file.name, beside(file).name]
    assert beside(file).stat().st_mode & 0o777 == 0o600
    again = cli("provision", file, "--yes")
    assert (again.exit_code, platform.box.count(CREATE)) == (0, 1)
    assert again.stderr == "There is nothing to do.\n"


def test_it_can_be_elsewhere(cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """Where --journal says, and nowhere else."""
    file, place = tenants("a,x,,"), tmp_path / "elsewhere.db"
    assert cli("provision", file, "--yes", "--journal", place).exit_code == 0
    assert (place.exists(), beside(file).exists()) == (True, False)
    assert "1 ready" in cli("plan", file, "--journal", place).stdout


def test_what_only_looks_makes_none(cli: Cli, tenants: Tenants) -> None:
    """Neither does what is simulated."""
    file = tenants("a,x,,")
    assert cli("plan", file).exit_code == 0
    assert cli("provision", file, "--sandbox").exit_code == 0
    assert not beside(file).exists()


def test_one_in_use_is_refused(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """At once, and nothing is sent."""
    file = tenants("a,x,,")

    home = JournalIdentity(component_appid=platform.box.component_appid, on_loopback=True, namespace="n")
    with asyncio.Runner() as runner:
        journal = SqliteJournal(beside(file))
        runner.run(journal.bind_identity(home))
        result = cli("provision", file, "--yes")
        runner.run(journal.aclose())
    assert (result.exit_code, platform.box.count(CREATE)) == (2, 0)
    assert f"{beside(file)} is in use by another process" in result.stderr


def test_that_of_another_platform_is_refused(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it knows is true of its own platform only."""
    file = tenants("a,x,,")
    assert cli("provision", file, "--yes").exit_code == 0
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx2222222222222222")
    result = cli("provision", file, "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not wx2222222222222222" in result.stderr


@pytest.mark.parametrize("content", [b"tenant,alias\n", b"SQLite format 3\0" + bytes(4096)])
def test_what_is_no_journal_is_refused(cli: Cli, tenants: Tenants, platform: Platform, content: bytes) -> None:
    """It is left as it is, and nothing is sent."""
    file = tenants("a,x,,")
    beside(file).write_bytes(content)
    beside(file).chmod(0o600)
    for command in (("plan", file), ("provision", file, "--yes")):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert str(beside(file)) in result.stderr
    assert (beside(file).read_bytes(), platform.box.count(CREATE)) == (content, 0)


def test_one_that_cannot_be_written_ends_the_run(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in mid-run: what was opened is told, nothing more is opened, and all is found again."""
    file = tenants("t0,a0,,")
    assert cli("provision", file, "--yes").exit_code == 0
    alter(
        beside(file),
        "CREATE TRIGGER full BEFORE INSERT ON records WHEN (SELECT count(*) FROM records) > 9 "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
    )
    file = tenants(*(f"t{number},a{number},," for number in range(40)))
    ended = cli("provision", file, "--yes", "--concurrency", 4, "--json")
    document = json.loads(ended.stdout)
    assert ended.exit_code == 3
    assert "disk is full" in document["stopped"]
    assert len(platform.box.world.environments) < 15
    alter(beside(file), "DROP TRIGGER full")
    hasten(beside(file))
    monkeypatch.setattr("wxtcb.provision.context.StepContext.create_window", 0.1)
    assert cli("provision", file, "--yes", "--settle", "0.001").exit_code == 0
    assert len(platform.box.world.environments) == 40


def test_what_could_not_be_kept_is_on_the_screen(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Environment and order number of what was opened when the disk was full: nothing else knows of it."""
    assert cli("provision", tenants("a,x,,"), "--yes").exit_code == 0
    alter(
        beside(tenants("a,x,,")),
        "CREATE TRIGGER full BEFORE UPDATE ON records WHEN NEW.env IS NOT NULL "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
    )
    result = cli("provision", tenants("a,x,,", "b,y,,"), "--yes")
    (_, env) = platform.box.world.environments
    assert result.exit_code == 3
    assert re.search(rf"\n  b: failed \({env}, order \d+\) - environment: .*disk is full", result.stdout)


@pytest.mark.parametrize(("answer", "code"), [(0, 3), (3, 3), (130, 130), (143, 143)])
def test_one_that_cannot_be_closed_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: int, code: int
) -> None:
    """It is told, and the exit code is not that of a refusal; a signal's stays."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)
    assert run_with_journal(tmp_path / "j.db", lambda _: answer) == code
    assert capsys.readouterr().err == "The journal could not be closed in good order: the disk\\nis full\n"


def test_a_refusal_is_not_hidden_by_a_journal_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was raised goes on, and both are told."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)

    def refuse(_: Journal) -> NoReturn:
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument, match=r"^no$"):
        run_with_journal(tmp_path / "j.db", refuse)
    assert "could not be closed" in capsys.readouterr().err


def test_a_run_whose_journal_cannot_be_closed_has_not_been_refused(
    cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments were opened: it ends with 3 after the report, though all are done."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)
    result = cli("provision", tenants("a,x,,"), "--yes")
    assert result.exit_code == 3
    assert "1 of 1 done" in result.stdout
    assert "could not be closed" in result.stderr


close = SqliteJournal.aclose


async def fail_to_close(journal: SqliteJournal) -> NoReturn:
    """Stand in for `SqliteJournal.aclose` on a full disk."""
    await close(journal)
    raise JournalError("the disk\nis full")


def test_a_new_one_is_told(cli: Cli, tenants: Tenants) -> None:
    """A path that was mistyped, or a journal that was lost, is noticed; the next run says nothing, nor does a plan."""
    file = tenants("a,x,,")
    told = f"{beside(file)} is new: it knows of no earlier run.\n"
    results = [cli(*words) for words in (("plan", file), *[("provision", file, "--yes")] * 2)]
    assert [told in result.stderr for result in results] == [False, True, False]


def test_one_that_was_named_must_be_there_for_a_plan(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Exit 2: a plan without what the journal knows would promise too much."""
    file = tenants("a,x,,")
    for words in ((), ("--sandbox",)):
        result = cli("plan", file, "--journal", file.with_name("lost.db"), *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"there is no journal at {file.with_name('lost.db')}" in result.stderr
    assert len(platform.box.seen) == 0


def test_a_run_that_was_killed_is_taken_up(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 in the middle of a create the same line finds what that opened, and opens the rest."""
    monkeypatch.setattr(
        "wxtcb.provision.context.StepContext.create_window", 0.1
    )  # the intent says how long it has to be waited for
    file = tenants(*(f"t{number},a{number},," for number in range(4)))
    platform.box.faults.hang_after(path=CREATE, times=1)
    process = start("provision", file, "--yes", "--concurrency", 1, swift=True)
    wait_for(platform, CREATE)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    hasten(beside(file))
    result = cli("provision", file, "--yes", "--settle", "0.001")
    assert result.exit_code == 0, result.output
    assert "4 of 4 done" in result.stdout
    assert len(platform.box.world.environments) == 4


def test_a_file_that_changed_opens_nothing_by_itself(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """A renamed tenant is told, and takes over its environment by a person's word; a removed one needs one, too."""
    assert cli("provision", tenants("old,x,,", "other,y,,"), "--yes").exit_code == 0
    (env, _) = platform.box.world.environments
    renamed = tenants("new,,,", "other,y,,")
    told = cli("provision", renamed, "--yes")
    assert (told.exit_code, len(platform.box.world.environments)) == (3, 2)
    assert f"tenant 'old' has {env} under alias x but is missing here: was it renamed?" in told.stdout
    assert (
        told.stdout.count(f"add: --removed; if renamed, give the new name the old alias, and add: --adopt NEW={env}\n")
        == 2
    )
    assert f"add: --adopt new={env}\n" in cli("plan", tenants("new,x,,", "other,y,,")).stdout
    assert cli("provision", tenants("new,x,,", "other,y,,"), "--yes", "--adopt", f"new={env}").exit_code == 0
    removed = tenants("new,x,,", "third,z,,")
    assert cli("provision", removed, "--yes").exit_code == 3
    assert cli("provision", removed, "--yes", "--removed").exit_code == 0
    assert "0 to create, 0 to adopt, 2 ready" in cli("plan", removed).stdout
    assert len(platform.box.world.environments) == 3


def test_what_was_deleted_is_forgotten_on_request(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Until then nothing is opened; --forget says that it was meant."""
    file = tenants("a,x,,")
    assert cli("provision", file, "--yes", "--settle", "0.001").exit_code == 0
    (env,) = platform.box.world.environments
    platform.box.world.remove(env)
    refused = cli("provision", file, "--yes", "--settle", "0.001")
    assert refused.exit_code == 3
    assert refused.stdout.count(f"If it was deleted on purpose, add: --forget a={env}\n") == 2
    assert "a tenant is named twice" in cli("plan", file, "--forget", "a=1", "--forget", "a=2").stderr
    result = cli("provision", file, "--yes", "--forget", f"a={env}")
    assert (result.exit_code, platform.box.count(CREATE)) == (0, 2)


def test_a_simulated_run_may_keep_one(cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """Where that is asked for."""
    place = tmp_path / "simulated.db"
    assert cli("provision", tenants("a,x,,"), "--sandbox", "--journal", place).exit_code == 0
    assert place.exists()
