"""Commands `wxtcb submit`, `wxtcb status` and `wxtcb decide`, without a platform."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wxtcb.provision import DesiredState, SqliteJournal
from wxtcb.provision.desired import Finish
from wxtcb.provision.record import HistoryEntry, TenantRecord

from .children import start
from .conftest import Cli, Tenants

pytestmark = pytest.mark.usefixtures("journal")
APPID = "wx0000000000000001"
PLATFORM = "wx1111111111111111"
AT = 1_800_000_000.0


@pytest.fixture
def journal(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a journal, select it by the variable, and return its path. No credentials are set."""
    path = tmp_path / "journal.db"
    monkeypatch.setenv("WXTCB_JOURNAL", str(path))
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", PLATFORM)
    assert cli("init").exit_code == 0
    monkeypatch.delenv("WXTCB_COMPONENT_APPID")
    monkeypatch.setattr("wxtcb.cli.desired._MIN_READ_INTERVAL", 0.01)
    return path


def use(path: Path, work: Callable[[SqliteJournal], Coroutine[Any, Any, None]]) -> None:
    """Run *work* with a journal, as the elected process would."""

    async def run() -> None:
        async with SqliteJournal(path) as journal:
            await work(journal)

    asyncio.run(run())


def finish(path: Path, tenant: str, state: DesiredState, *, revision: int = 1, **fields: Any) -> None:
    """End an attempt at a tenant with a record that has *fields*."""

    async def work(journal: SqliteJournal) -> None:
        version = (await journal.load([tenant])).get(tenant, TenantRecord(tenant=tenant, alias=tenant)).version
        record = TenantRecord(tenant=tenant, alias=tenant, version=version + 1, **fields)
        await journal.commit(record, HistoryEntry(AT, "changed"))
        delay = 90.0 if state is DesiredState.WAITING else 0.0
        await journal.desired.change([Finish(tenant=tenant, revision=revision, state=state, delay=delay)])

    use(path, work)


@contextmanager
def elected(path: Path) -> Iterator[None]:
    """Let another process be elected."""
    with asyncio.Runner() as runner:
        journal = SqliteJournal(path)
        runner.run(journal.election.acquire("host:1:ab", 30.0))
        yield
        runner.run(journal.aclose())


def test_submission_is_counted(cli: Cli, tenants: Tenants) -> None:
    """The same file again changes nothing, and needs no credentials."""
    first = cli("submit", tenants("a,x,,", "b,y,,"))
    assert (first.exit_code, first.stdout) == (0, "2 new, 0 changed, 0 unchanged\n")
    assert first.stderr == "No process is elected: start `wxtcb worker`.\n"
    again = cli("submit", tenants("a,x,,", f"b,y,{APPID},", "c,z,,"), "--json")
    assert (again.exit_code, json.loads(again.stdout)) == (0, {"new": 1, "changed": 1, "unchanged": 1})


def test_submission_to_an_elected_process_has_no_warning(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """The process need not be on this terminal."""
    with elected(journal):
        assert cli("submit", tenants("a,x,,")).stderr == ""
        assert "Elected: host:1:ab (term 1)." in cli("status").stdout


@pytest.mark.parametrize(("row", "problem"), [("a,1x,,", "line 2"), ("a,xx,,\nb,xX,,", "line 3")])
def test_invalid_file_is_not_submitted(cli: Cli, tenants: Tenants, row: str, problem: str) -> None:
    """The problems are reported with their lines, and no tenant is stored."""
    result = cli("submit", tenants(row))
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr
    assert "waiting 0, " in cli("status").stdout


def test_alias_of_another_tenant_is_rejected(cli: Cli, tenants: Tenants) -> None:
    """Nothing of the file is stored."""
    assert cli("submit", tenants("a,xx,,")).exit_code == 0
    result = cli("submit", tenants("b,y,,", "c,xX,,"))
    assert result.exit_code == 2
    assert "already used by tenant 'a'" in result.stderr
    assert "waiting 1, " in cli("status").stdout


def test_journal_of_another_platform_is_rejected(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the variables select a platform, a tenant must not be submitted to another one."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx2222222222222222")
    result = cli("submit", tenants("a,x,,"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"component {PLATFORM}, not to wx2222222222222222 of WXTCB_COMPONENT_APPID" in result.stderr


@pytest.mark.parametrize("content", [b"tenant,alias\n", b"", b"SQLite format 3\0" + bytes(4096)])
@pytest.mark.parametrize("words", [("status",), ("decide", "a", "--retry"), ("submit", "FILE")])
def test_unreadable_journal_is_rejected(
    cli: Cli, tenants: Tenants, journal: Path, words: tuple[str, ...], content: bytes
) -> None:
    """The message names the file, which is not changed."""
    journal.write_bytes(content)
    file = tenants("a,x,,")
    result = cli(*(file if word == "FILE" else word for word in words))
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(journal) in result.stderr
    assert journal.read_bytes() == content


@pytest.mark.parametrize("words", [("status",), ("decide", "a", "--retry"), ("submit", "FILE")])
def test_missing_journal_is_rejected(cli: Cli, tenants: Tenants, journal: Path, words: tuple[str, ...]) -> None:
    """It is not created: a mistyped path would otherwise never be noticed."""
    journal.unlink()
    file = tenants("a,x,,")
    result = cli(*(file if word == "FILE" else word for word in words))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`wxtcb init`" in result.stderr
    assert not journal.exists()


def test_journal_without_a_platform_is_rejected(cli: Cli, journal: Path) -> None:
    """A process may have ended between the creation of the file and its first use."""
    journal.unlink()

    async def work(new: SqliteJournal) -> None:
        await new.desired.counts()

    use(journal, work)
    result = cli("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is new: run `wxtcb init`" in result.stderr


def test_overview_lists_what_needs_attention(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """It has the number of tenants in each state, and whether a process is elected."""
    cli("submit", tenants("a,a,,", "b,b,,", "c,c,,", "d,d,,"))
    finish(journal, "a", DesiredState.DONE, env="a-1")
    finish(journal, "b", DesiredState.NEEDS_ATTENTION, env="b-1", outcome="conflict", problem="two\x1b[2J environments")
    assert cli("decide", "c", "--cancel").exit_code == 0
    result = cli("status")
    assert (result.exit_code, result.stderr) == (0, "")
    counts, leader, header, row = result.stdout.splitlines()
    assert counts == "waiting 1, done 1, needs attention 1, cancelled 1"
    assert leader == "No process is elected: start `wxtcb worker`."
    assert header.split() == ["tenant", "state", "environment", "details"]
    assert row == "b       needs attention  b-1          conflict: two\\x1b[2J environments"
    document = json.loads(cli("status", "--json").stdout)
    assert document["counts"] == {"waiting": 1, "done": 1, "needs attention": 1, "cancelled": 1}
    assert (document["elected"], [each["tenant"] for each in document["needs_attention"]]) == (None, ["b"])
    with elected(journal):
        assert json.loads(cli("status", "--json").stdout)["elected"] == {
            "holder": "host:1:ab",
            "epoch": 1,
            "seconds": None,
        }


def test_tenants_are_listed(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """Each row has what the tenant waits for, and what an administrator must confirm."""
    cli("submit", tenants(f"a,a,{APPID},", "b,b,,", "c,c,,"))
    finish(journal, "a", DesiredState.DONE, env="a-1", links={APPID: "https://x"})
    finish(journal, "b", DesiredState.WAITING, outcome="failed", problem="-1 system error")
    cli("decide", "c", "--adopt", "c-1")
    first, second, third = cli("status", "c", "a", "b", "a").stdout.splitlines()[1:]
    assert first.split() == ["a", "done", "a-1", "links", "to", "confirm:", "1,", "listed", "by", "--json"]
    assert "next step: environment; next attempt at 20" in second
    assert second.endswith("; failed: -1 system error")
    assert third.endswith("next step: environment; decision not carried out yet")
    document = json.loads(cli("status", "a", "--json").stdout)
    assert [each["links"] for each in document["tenants"]] == [[{"appid": APPID, "url": "https://x"}]]


def test_tenants_can_be_restricted_to_those_that_need_attention(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """--needs-attention has no overview, and applies to given tenants as well."""
    cli("submit", tenants("a,a,,", "b,b,,", "c,c,,"))
    assert cli("status", "--needs-attention").stdout == ""
    for tenant in "ab":
        finish(journal, tenant, DesiredState.NEEDS_ATTENTION, outcome="failed", problem="no")
    lines = cli("status", "--needs-attention").stdout.splitlines()
    assert [line[:1] for line in lines] == ["t", "a", "b"]
    lines = cli("status", "b", "c", "--needs-attention").stdout.splitlines()
    assert [line[:1] for line in lines] == ["t", "b"]


def test_overview_is_truncated(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """50 tenants are listed, and the others are counted; --needs-attention lists all."""
    names = [f"t{number:02}" for number in range(60)]
    cli("submit", tenants(*(f"{name},{name},," for name in names)))

    async def work(journal: SqliteJournal) -> None:
        state = DesiredState.NEEDS_ATTENTION
        await journal.desired.change([Finish(tenant=name, revision=1, state=state) for name in names])

    use(journal, work)
    lines = cli("status").stdout.splitlines()
    assert (len(lines), lines[-1]) == (54, "and 10 more; --needs-attention lists all of them")
    assert len(cli("status", "--needs-attention").stdout.splitlines()) == 61


@pytest.mark.parametrize(
    "words", [("status", "a", "nope"), ("decide", "nope", "--retry"), ("decide", "nope", "--cancel")]
)
def test_unknown_tenant_is_rejected(cli: Cli, tenants: Tenants, words: tuple[str, ...]) -> None:
    """The message names it."""
    cli("submit", tenants("a,x,,"))
    result = cli(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "tenant 'nope' was never submitted" in result.stderr


def test_tenant_with_a_dash_is_given_after_two_dashes(cli: Cli, tenants: Tenants) -> None:
    """Without them it is an unknown option, which the message names."""
    cli("submit", tenants("-a,x,,"))
    assert cli("status", "--", "-a").stdout.splitlines()[1].startswith("-a ")
    assert cli("decide", "--cancel", "--", "-a").exit_code == 0
    result = cli("status", "-a")
    assert (result.exit_code, "No such option: -a" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [(), ("--retry", "--cancel"), ("--adopt", "e", "--forget", "e"), ("--adopt", "")])
def test_exactly_one_decision_is_required(cli: Cli, tenants: Tenants, words: tuple[str, ...]) -> None:
    """Nothing is stored."""
    cli("submit", tenants("a,x,,"))
    result = cli("decide", "a", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert json.loads(cli("status", "a", "--json").stdout)["tenants"][0]["revision"] == 1


@pytest.mark.parametrize(
    ("words", "decision"),
    [
        (("--adopt", "e-1"), {"adopt": "e-1"}),
        (("--forget", "e-1"), {"forget": "e-1"}),
        (("--retry",), {"retry": True}),
    ],
)
def test_decision_is_stored(cli: Cli, tenants: Tenants, words: tuple[str, ...], decision: dict[str, object]) -> None:
    """The output says where the result is shown; the same again changes nothing, and another one is rejected."""
    cli("submit", tenants("it's,x,,"))
    for _ in range(2):
        result = cli("decide", "it's", *words)
        assert (result.exit_code, result.stderr) == (0, "No process is elected: start `wxtcb worker`.\n")
        assert """`wxtcb status 'it'"'"'s'`""" in result.stdout
    [status] = json.loads(cli("status", "it's", "--json").stdout)["tenants"]
    assert (status["decision"], status["revision"]) == (decision, 2)
    other = cli("decide", "it's", "--adopt", "other-1")
    assert (other.exit_code, "has not been carried out yet" in other.stderr) == (2, True)


def test_cancellation_is_stored(cli: Cli, tenants: Tenants) -> None:
    """The output says that environments stay; a second time nothing is changed."""
    cli("submit", tenants("a,x,,"))
    result = cli("decide", "a", "--cancel")
    assert (result.exit_code, "may be billed" in result.stdout) == (0, True)
    again = cli("decide", "a", "--cancel")
    assert (again.exit_code, again.stdout.startswith("Nothing was changed")) == (0, True)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("state", "code"), [(DesiredState.DONE, 0), (DesiredState.NEEDS_ATTENTION, 3)])
def test_watch_of_tenants_ends_with_them(
    cli: Cli, tenants: Tenants, journal: Path, state: DesiredState, code: int
) -> None:
    """Each change is a line; the exit code is 0 if all are done."""
    cli("submit", tenants("a,a,,", "b,b,,"))
    finish(journal, "b", DesiredState.DONE, env="b-1")
    process = start("status", "a", "b", "--watch")
    assert process.stdout is not None
    assert process.stdout.readline().endswith(" a: waiting - next step: environment\n")
    assert process.stdout.readline().endswith(" b: done (b-1)\n")
    finish(journal, "a", state, env="a-1", outcome="failed", problem="no")
    out, err = process.communicate()
    assert (process.returncode, err, out.count("\n")) == (code, "", 1)
    assert f" a: {state.value} (a-1) - failed: no" in out


def test_watch_prints_a_json_document_for_each_change(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """Each document is one line."""
    cli("submit", tenants("a,a,,"))
    finish(journal, "a", DesiredState.DONE, env="a-1")
    (line,) = cli("status", "a", "--watch", "--json").stdout.splitlines()
    assert (json.loads(line)["tenant"], json.loads(line)["state"]) == ("a", "done")


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("as_json", [False, True])
def test_watch_of_the_overview_ends_with_a_signal(cli: Cli, tenants: Tenants, journal: Path, *, as_json: bool) -> None:
    """Counts are printed when they have changed, and tenants when they need attention, each time again."""
    cli("submit", tenants("a,a,,", "b,b,,"))
    process = start("status", "--watch", *["--json"] * as_json)
    assert process.stdout is not None
    first = process.stdout.readline()
    finish(journal, "a", DesiredState.NEEDS_ATTENTION, outcome="failed", problem="no")
    second, third = process.stdout.readline(), process.stdout.readline()
    assert cli("decide", "a", "--retry").exit_code == 0
    fourth = process.stdout.readline()
    finish(journal, "a", DesiredState.NEEDS_ATTENTION, revision=2, outcome="failed", problem="no")
    fifth, sixth = process.stdout.readline(), process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "")
    if as_json:
        counts = [json.loads(line)["counts"]["waiting"] for line in (first, second, fourth, fifth)]
        assert [json.loads(line)["tenant"] for line in (third, sixth)] == ["a", "a"]
    else:
        counts = [int(line.split("waiting ")[1][0]) for line in (first, second, fourth, fifth)]
        assert first.endswith(". No process is elected: start `wxtcb worker`.\n")
        assert all(line.endswith(" a: needs attention - failed: no\n") for line in (third, sixth))
    assert counts == [2, 1, 2, 1]


def test_watch_stops_at_a_closed_pipe(cli: Cli, tenants: Tenants, journal: Path) -> None:
    """`wxtcb status --watch | head -1` prints no traceback."""
    cli("submit", tenants("a,a,,"))
    process = start("status", "--watch")
    assert process.stdout is not None
    assert "waiting 1" in process.stdout.readline()
    process.stdout.close()
    finish(journal, "a", DesiredState.DONE)
    assert process.stderr is not None
    assert (process.wait(), process.stderr.read()) == (1, "")


def test_file_does_not_name_all_tenants_once_some_are_submitted(
    cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of a file cannot mark the submitted ones as removed; nothing is sent."""
    assert cli("submit", tenants("a,x,,")).exit_code == 0
    variables = {
        "COMPONENT_APPID": PLATFORM,
        "COMPONENT_APPSECRET": "s",
        "TICKET": "t",
        "BASE_URL": "http://127.0.0.1:9",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"WXTCB_{name}", value)
    result = cli("plan", tenants("b,y,,"), "--removed")
    assert result.exit_code == 2
    assert "does not name all tenants" in result.stderr
