"""Journal of a command: how it is selected and created, and what is done if it is missing, in use or broken."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from wxtcb.cli.journal import run_with_journal, select_journal
from wxtcb.errors import InvalidArgument
from wxtcb.provision import JournalError, SqliteJournal
from wxtcb.provision.journal import SharedJournal

from .children import start
from .conftest import CREATE, Cli, Platform, Tenants, wait_for_request

pytestmark = pytest.mark.usefixtures("fast", "platform")
CREATE_WINDOW = "wxtcb.provision.context.StepContext.create_window"


def journal_of(file: Path) -> Path:
    """Return the default path of the journal of a tenants file."""
    return Path(f"{file}.wxtcb.db")


def execute(path: Path, statement: str) -> None:
    """Execute an SQL statement on a closed journal."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def expire_intents(path: Path) -> None:
    """Move the deadlines of all intents to the past."""
    expired = "json_set(document, '$.intent.window', 0, '$.intent.deadline', 0)"
    execute(path, f"UPDATE records SET document = {expired} WHERE json_extract(document, '$.intent') IS NOT NULL")


def test_journal_is_next_to_the_tenants_file(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """After a run it is one file that only its owner may read, and the next run has nothing to do."""
    file = tenants("a,x,wx0000000000000001,api")
    assert cli("provision", file, "--yes").exit_code == 0
    assert sorted(path.name for path in file.parent.glob(f"{file.name}*")) == [file.name, journal_of(file).name]
    assert journal_of(file).stat().st_mode & 0o777 == 0o600
    again = cli("provision", file, "--yes")
    assert (again.exit_code, platform.sandbox.count(CREATE)) == (0, 1)
    assert again.stderr == "Nothing to do.\n"


def test_journal_option_selects_another_path(cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """No journal is created at the default path."""
    file, path = tenants("a,x,,"), tmp_path / "elsewhere.db"
    assert cli("provision", file, "--yes", "--journal", path).exit_code == 0
    assert (path.exists(), journal_of(file).exists()) == (True, False)
    assert "1 ready" in cli("plan", file, "--journal", path).stdout


def test_plan_and_sandbox_create_no_journal(cli: Cli, tenants: Tenants) -> None:
    """A plan changes nothing, and a simulated run has its journal in memory."""
    file = tenants("a,x,,")
    assert cli("plan", file).exit_code == 0
    assert cli("provision", file, "--sandbox").exit_code == 0
    assert not journal_of(file).exists()


def test_journal_in_use_is_rejected(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """While another process provisions, the exit code is 2, and no environment is created."""
    file = tenants("a,x,,")
    with asyncio.Runner() as runner:
        journal = SqliteJournal(journal_of(file))
        runner.run(journal.election.acquire("host:1:ab", 30.0))
        result, plan = cli("provision", file, "--yes"), cli("plan", file)
        runner.run(journal.aclose())
    assert (result.exit_code, plan.exit_code, platform.sandbox.count(CREATE)) == (2, 0, 0)
    assert "another process (host:1:ab) provisions with this journal" in result.stderr


def test_journal_of_another_platform_is_rejected(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environments do not exist on this platform."""
    file = tenants("a,x,,")
    assert cli("provision", file, "--yes").exit_code == 0
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx2222222222222222")
    result = cli("provision", file, "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "wx2222222222222222" in result.stderr


@pytest.mark.parametrize("content", [b"tenant,alias\n", b"SQLite format 3\0" + bytes(4096)])
def test_other_file_is_rejected_as_journal(cli: Cli, tenants: Tenants, platform: Platform, content: bytes) -> None:
    """The file is unchanged, and no environment is created."""
    file = tenants("a,x,,")
    journal_of(file).write_bytes(content)
    journal_of(file).chmod(0o600)
    for command in (("plan", file), ("provision", file, "--yes")):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert str(journal_of(file)) in result.stderr
    assert (journal_of(file).read_bytes(), platform.sandbox.count(CREATE)) == (content, 0)


def test_journal_behind_a_link_of_another_user_is_rejected(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared directory, the link could lead to a file that another user reads, or to one that would be lost."""
    file = tenants("a,x,,")
    other = file.with_name("other.db")
    other.touch(mode=0o600)
    journal_of(file).symlink_to(other)
    if os.geteuid() == 0:
        os.chown(journal_of(file), 12345, -1, follow_symlinks=False)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    for command in (("plan", file), ("provision", file, "--yes")):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "belongs to another user" in result.stderr
    assert (other.read_bytes(), platform.sandbox.count(CREATE)) == (b"", 0)


def test_full_disk_under_the_journal_stops_the_run(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further environment is created, and the next run finds those that were."""
    file = tenants("t0,a0,,")
    assert cli("provision", file, "--yes").exit_code == 0
    execute(
        journal_of(file),
        "CREATE TRIGGER full BEFORE INSERT ON records WHEN (SELECT count(*) FROM records) > 9 "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
    )
    file = tenants(*(f"t{number},a{number},," for number in range(40)))
    stopped = cli("provision", file, "--yes", "--concurrency", 4, "--json")
    document = json.loads(stopped.stdout)
    assert stopped.exit_code == 3
    assert "disk is full" in document["stopped"]
    assert len(platform.sandbox.world.environments) < 15
    execute(journal_of(file), "DROP TRIGGER full")
    expire_intents(journal_of(file))
    monkeypatch.setattr(CREATE_WINDOW, 0.1)
    assert cli("provision", file, "--yes", "--settle", "0.001").exit_code == 0
    assert len(platform.sandbox.world.environments) == 40


def test_environment_that_the_journal_lacks_is_printed(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """If the write after a create fails, the output has the only record of environment and order."""
    assert cli("provision", tenants("a,x,,"), "--yes").exit_code == 0
    execute(
        journal_of(tenants("a,x,,")),
        "CREATE TRIGGER full BEFORE UPDATE ON records WHEN NEW.env IS NOT NULL "
        "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
    )
    result = cli("provision", tenants("a,x,,", "b,y,,"), "--yes")
    (_, env) = platform.sandbox.world.environments
    assert result.exit_code == 3
    assert re.search(rf"\n  b: failed \({env}, order \d+\) - environment: .*disk is full", result.stdout)


close = SqliteJournal.aclose


async def fail_to_close(journal: SqliteJournal) -> NoReturn:
    """Close a journal, and raise the error of a full disk."""
    await close(journal)
    raise JournalError("the disk\nis full")


@pytest.mark.parametrize(("returned", "code"), [(0, 3), (3, 3), (130, 130), (143, 143)])
def test_error_at_closing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], returned: int, code: int
) -> None:
    """The exit code becomes 3, unless it is that of a signal."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)
    assert run_with_journal(SqliteJournal(tmp_path / "j.db"), lambda *_: returned) == code
    assert capsys.readouterr().err == "The journal could not be closed: the disk\\nis full\n"


def test_error_at_closing_replaces_no_other_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both errors are reported."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)

    def reject(_: SharedJournal, __: asyncio.Runner) -> NoReturn:
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument, match=r"^no$"):
        run_with_journal(SqliteJournal(tmp_path / "j.db"), reject)
    assert "could not be closed" in capsys.readouterr().err


def test_run_prints_its_report_before_an_error_at_closing(
    cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 3 although all tenants are done."""
    monkeypatch.setattr(SqliteJournal, "aclose", fail_to_close)
    result = cli("provision", tenants("a,x,,"), "--yes")
    assert result.exit_code == 3
    assert "1 of 1 done" in result.stdout
    assert "could not be closed" in result.stderr


def test_new_journal_is_reported(cli: Cli, tenants: Tenants) -> None:
    """A mistyped path or a lost journal is noticed; neither a plan nor the next run reports it."""
    file = tenants("a,x,,")
    message = f"{journal_of(file)} does not exist"
    results = [cli(*words) for words in (("plan", file), *[("provision", file, "--yes")] * 2)]
    assert [message in result.stderr for result in results] == [False, True, False]


@pytest.mark.parametrize("words", [(), ("--sandbox",)])
def test_plan_requires_the_journal_that_is_given(
    cli: Cli, tenants: Tenants, platform: Platform, words: tuple[str, ...]
) -> None:
    """A missing file is rejected, and no request is sent."""
    file = tenants("a,x,,")
    result = cli("plan", file, "--journal", file.with_name("lost.db"), *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"there is no journal at {file.with_name('lost.db')}" in result.stderr
    assert len(platform.sandbox.seen) == 0


def test_killed_run_is_continued(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 during a create, the same command finds the environment and creates the others."""
    monkeypatch.setattr(CREATE_WINDOW, 0.1)
    file = tenants(*(f"t{number},a{number},," for number in range(4)))
    platform.sandbox.faults.hang_after(path=CREATE, times=1)
    process = start("provision", file, "--yes", "--concurrency", 1, fast=True)
    wait_for_request(platform, CREATE)
    process.send_signal(signal.SIGKILL)
    process.wait()
    expire_intents(journal_of(file))
    result = cli("provision", file, "--yes", "--settle", "0.001")
    assert result.exit_code == 0, result.output
    assert "4 of 4 done" in result.stdout
    assert len(platform.sandbox.world.environments) == 4


def test_renamed_tenant_needs_a_decision(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The output suggests --removed and --adopt; the new name gets the environment by --adopt."""
    assert cli("provision", tenants("old,x,,", "other,y,,"), "--yes").exit_code == 0
    (env, _) = platform.sandbox.world.environments
    result = cli("provision", tenants("new,,,", "other,y,,"), "--yes")
    assert (result.exit_code, len(platform.sandbox.world.environments)) == (3, 2)
    assert "'old'" in result.stdout
    assert result.stdout.count("add: --removed; ") == 2
    assert result.stdout.count(f"add: --adopt NEW={env}\n") == 2
    renamed = tenants("new,x,,", "other,y,,")
    assert f"add: --adopt new={env}\n" in cli("plan", renamed).stdout
    assert cli("provision", renamed, "--yes", "--adopt", f"new={env}").exit_code == 0
    assert len(platform.sandbox.world.environments) == 2


def test_removed_tenant_needs_a_decision(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """With --removed, the other tenants are provisioned."""
    assert cli("provision", tenants("a,x,,", "b,y,,"), "--yes").exit_code == 0
    file = tenants("a,x,,", "c,z,,")
    assert cli("provision", file, "--yes").exit_code == 3
    assert cli("provision", file, "--yes", "--removed").exit_code == 0
    assert "0 to create, 0 to adopt, 2 ready" in cli("plan", file).stdout
    assert len(platform.sandbox.world.environments) == 3


def test_deleted_environment_is_forgotten_on_request(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Without --forget, no other environment is created for the tenant."""
    file = tenants("a,x,,")
    assert cli("provision", file, "--yes", "--settle", "0.001").exit_code == 0
    (env,) = platform.sandbox.world.environments
    platform.sandbox.world.remove(env)
    rejected = cli("provision", file, "--yes", "--settle", "0.001")
    assert rejected.exit_code == 3
    assert rejected.stdout.count(f"add: --forget a={env}\n") == 2
    assert "is duplicated" in cli("plan", file, "--forget", "a=1", "--forget", "a=2").stderr
    assert "retry b: unknown tenant" in cli("plan", file, "--retry", "b").stderr
    result = cli("provision", file, "--yes", "--retry", "a", "--forget", f"a={env}")
    assert (result.exit_code, platform.sandbox.count(CREATE)) == (0, 2)


def test_simulated_run_may_have_a_journal(cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """--journal applies to --sandbox as well."""
    path = tmp_path / "simulated.db"
    assert cli("provision", tenants("a,x,,"), "--sandbox", "--journal", path).exit_code == 0
    assert path.exists()


def test_journal_in_a_missing_directory_is_not_announced(cli: Cli, tenants: Tenants, tmp_path: Path) -> None:
    """The error says that there is no directory; that the journal is new would be false."""
    result = cli("provision", tenants("a,x,,"), "--journal", tmp_path / "none" / "j.db", "--yes")
    assert (result.exit_code, "there is no directory" in result.stderr) == (2, True)
    assert "new journal" not in result.stderr


def test_variable_selects_the_journal(
    cli: Cli, tenants: Tenants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WXTCB_JOURNAL is used by all commands; --journal takes precedence, and --sandbox ignores the variable."""
    file, path, other = tenants("a,x,,"), tmp_path / "shared.db", tmp_path / "other.db"
    monkeypatch.setenv("WXTCB_JOURNAL", f"sqlite:///{path}")
    assert cli("plan", file).exit_code == 2
    assert cli("provision", file, "--sandbox").exit_code == 0
    assert not path.exists()
    assert cli("provision", file, "--yes").exit_code == 0
    assert cli("audit", file).exit_code == 0
    assert "1 ready" in cli("plan", file).stdout
    assert cli("init", "--journal", other).exit_code == 0
    assert sorted(each.name for each in tmp_path.glob("*.db")) == ["other.db", "shared.db"]


def test_variable_of_the_profile_selects_the_journal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in a file, like all variables; an error names the variable."""
    monkeypatch.setenv("WXTCB_PROFILE", "shop")
    secret = tmp_path / "url"
    secret.write_text("mysql://user:pa55@host/db")
    monkeypatch.setenv("WXTCB_SHOP_JOURNAL_FILE", str(secret))
    secret.chmod(0o644)
    assert "chmod 600" in cli("status").stderr
    secret.chmod(0o600)
    result = cli("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("wxtcb: WXTCB_SHOP_JOURNAL: unknown scheme")
    assert "pa55" not in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:pa55@host/db",
        "postgresql://user:pa55?word@[::1]:5432/db",
        "POSTGRES://host/db?user=x&PASSWORD=pa55",
        "host=db password=pa55",
    ],
)
@pytest.mark.parametrize("command", ["status", "init"])
def test_password_as_argument_is_rejected(cli: Cli, command: str, url: str) -> None:
    """The message says what to use instead, and does not repeat the password."""
    result = cli(command, "--journal", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "set WXTCB_JOURNAL to the URL" in result.stderr
    assert "PGPASSFILE" in result.stderr
    assert "pa55" not in result.stderr


@pytest.mark.parametrize("url", ["postgresql://host:5432/db", "postgresql://user@[::1]:5432/db?schema=shop"])
def test_url_without_password_is_accepted(url: str) -> None:
    """A port is not a password."""
    assert "PostgresJournal" in repr(select_journal(url))


@pytest.mark.parametrize(
    ("url", "problem"),
    [("", "non-empty"), ("mysql://host/db", "unknown scheme"), ("sqlite://j.db", "sqlite:///PATH")],
)
def test_invalid_journal_is_rejected(cli: Cli, url: str, problem: str) -> None:
    """The message names the option."""
    result = cli("status", "--journal", url)
    assert result.exit_code == 2
    assert result.stderr.startswith("wxtcb: --journal: ")
    assert problem in result.stderr


@pytest.mark.parametrize(
    "words", [("init",), ("status",), ("decide", "a", "--retry"), ("submit", "x.csv"), ("worker",)]
)
def test_journal_must_be_selected(cli: Cli, words: tuple[str, ...]) -> None:
    """Without --journal and WXTCB_JOURNAL there is no default."""
    result = cli(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "set WXTCB_JOURNAL or pass --journal" in result.stderr


def test_init_creates_a_journal(cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path) -> None:
    """No request is sent; a second time nothing changes, and a run uses the journal."""
    path = tmp_path / "new.db"
    for _ in range(2):
        result = cli("init", "--journal", path)
        assert (result.exit_code, result.stderr) == (0, "")
        appid = platform.sandbox.component_appid
        assert result.stdout == f"The journal is ready for component {appid} on loopback.\n"
    assert len(platform.sandbox.seen) == 0
    result = cli("provision", tenants("a,x,,"), "--journal", path, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")


def test_init_rejects_the_journal_of_another_platform(
    cli: Cli, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names both platforms."""
    path, appid = tmp_path / "new.db", platform.sandbox.component_appid
    assert cli("init", "--journal", path).exit_code == 0
    monkeypatch.delenv("WXTCB_BASE_URL")
    result = cli("init", "--journal", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"component {appid} on loopback, not to component {appid} of the real platform" in result.stderr


def test_init_requires_the_appid(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No journal is created for an unknown platform; secrets are not required."""
    monkeypatch.delenv("WXTCB_COMPONENT_APPID")
    monkeypatch.delenv("WXTCB_COMPONENT_APPSECRET")
    result = cli("init", "--journal", tmp_path / "new.db")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "WXTCB_COMPONENT_APPID" in result.stderr
    assert "APPSECRET" not in result.stderr


def test_init_prints_sql(cli: Cli, tmp_path: Path) -> None:
    """The statements are for the schema of the URL; nothing is connected, and a file needs none."""
    plain, qualified = (
        cli("init", "--sql"),
        cli("init", "--sql", "--journal", "postgresql://no.such.host/d?schema=shop"),
    )
    assert (plain.exit_code, qualified.exit_code) == (0, 0)
    assert "CREATE TABLE IF NOT EXISTS public.wxtcb_desired" in plain.stdout
    assert "CREATE TABLE IF NOT EXISTS shop.wxtcb_desired" in qualified.stdout
    rejected = cli("init", "--sql", "--journal", tmp_path / "new.db")
    assert (rejected.exit_code, rejected.stdout) == (2, "")
    assert "only PostgreSQL" in rejected.stderr


def test_interrupted_use_of_a_journal_exits_with_the_code_of_the_signal(
    cli: Cli, tenants: Tenants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database may not answer for a while."""

    async def interrupt(*_: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        raise AssertionError

    path = tmp_path / "new.db"
    assert cli("init", "--journal", path).exit_code == 0
    monkeypatch.setattr("wxtcb.provision.sqlite.election.SqliteElection.leader", interrupt)
    assert cli("provision", tenants("a,x,,"), "--journal", path, "--yes").exit_code == 143
    monkeypatch.setattr(SqliteJournal, "bind_identity", interrupt)
    assert cli("init", "--journal", path).exit_code == 143
    result = cli("status", "--journal", path)
    assert (result.exit_code, result.stderr) == (143, "")
    result = cli("submit", tenants("a,x,,"), "--journal", path)
    assert result.exit_code == 143
    assert result.stderr.startswith("SIGTERM interrupted the command: the change may have been stored.")
