"""Command `wxtcb provision`: what it rejects and prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from wxtcb.cli.console import NotConfirmed
from wxtcb.cli.progress import NoProgress
from wxtcb.cli.provision import RunController
from wxtcb.cli.target import SandboxTarget
from wxtcb.provision import MemoryJournal, Outcome, Provisioner, Tenant, derive_alias
from wxtcb.sandbox import ReadyPolicy, Sandbox

from .conftest import CREATE, Cli, Platform, Tenants, contains_no_secret

ROWS = [f"商户{number},a{number},wx000000000000000{number},api;web" for number in range(8)]


def test_sandbox_run_is_done(cli: Cli, tenants: Tenants, fast: None) -> None:
    """The output has plan, a line for each tenant, a table and the total; no variable is needed."""
    result = cli("provision", tenants(*ROWS, "plain,,,"), "--sandbox")
    assert result.exit_code == 0, result.output
    plan, _, rest = result.stdout.partition("Plan: 9 to create, 0 to adopt, 0 ready.\n")
    assert plan.count("\n+  商户") == 8
    lines = rest.splitlines()
    assert lines[0].startswith("[1/9] ")
    assert "9 of 9 done in" in lines[-1]
    assert [line for line in lines if line.startswith("8 links await ")]
    assert [line.split() for line in lines[9:12]] == [
        ["outcome", "tenants"],
        ["done", "1"],
        ["awaiting", "confirmation", "8"],
    ]
    assert result.stderr == ""


def test_json_is_the_only_output(cli: Cli, tenants: Tenants, fast: None) -> None:
    """--json prints one document with links, services and counts."""
    result = cli("provision", tenants(*ROWS), "--sandbox", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["total"], document["done"], document["links"]) == (8, 8, 8)
    assert document["tenants"][0]["services"] == ["api", "web"]
    assert result.stderr == ""


def test_all_missing_credentials_are_named(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 2, before the tenants file is read."""
    monkeypatch.setenv("WXTCB_BASE_URL", "http://127.0.0.1:1")
    result = cli("provision", "nowhere.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith("wxtcb: not set in the environment: WXTCB_COMPONENT_APPID (")
    assert [name for name in ("COMPONENT_APPSECRET", "TOKEN_STORE", "TICKET") if f" WXTCB_{name} (" in result.stderr]
    assert "; no request was sent\n" in result.stderr


def test_invalid_tenants_file_is_rejected(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """All errors are listed by line, including a given alias that equals a derived one."""
    derived = derive_alias(platform.sandbox.component_appid, "c")
    result = cli("provision", tenants("a,x,", "b,X,", "c,,", f"d,{derived},", "a,,"), "--yes")
    assert result.exit_code == 2
    assert result.stderr.count("\n  line ") == 4
    assert "4 problems" in result.stderr
    assert len(platform.sandbox.seen) == 0


def test_confirmation_requires_a_terminal(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Without a terminal the exit code is 2; the message has the question, and names --yes."""
    result = cli("provision", tenants("a,,,", "b,,,"))
    assert result.exit_code == 2
    assert f"Provision 2 tenants at {platform.sandbox.url}? Environments are billed." in result.stderr
    assert "--yes" in result.stderr
    assert len(platform.sandbox.seen) == 0


def test_run_with_yes_asks_no_question(fast: None, cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Plan and run share one token."""
    result = cli("provision", tenants("商户,x,,api"), "--yes")
    assert result.exit_code == 0, result.output
    assert [row.alias for row in platform.sandbox.world.environments.values()] == ["x"]
    assert platform.sandbox.world.tokens_issued == 1
    assert contains_no_secret(platform, result.output)


@pytest.mark.usefixtures("fast")
def test_commands_share_the_token_of_the_store(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a token store, a second command fetches no token."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")
    file = tenants("a,x,,")
    assert cli("provision", file, "--yes").exit_code == 0
    assert cli("provision", file, "--yes").exit_code == 0
    assert platform.sandbox.world.tokens_issued == 1


def test_tenants_that_are_not_done_are_listed(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """They are listed by outcome, those that were not started are counted, and the exit code is 3."""
    env = platform.sandbox.world.add("taken")
    platform.sandbox.faults.errcode(45009, path=CREATE)
    result = cli("provision", tenants("c,taken,,", "f,f1,,", "n,n1,,", "m,m1,,"), "--yes", "--concurrency", 1)
    assert result.exit_code == 3
    summary = result.stdout.partition("\noutcome")[2].partition("\n")[2]
    lines = [line for line in summary.splitlines() if line.startswith("  ") or "done in" in line]
    assert lines[0].startswith("  c: conflict - ")
    assert env in lines[0]
    assert lines[1].startswith("  f: unfinished - ")
    assert lines[2] == "  2 not started"
    assert lines[3].startswith("0 of 4 done in")
    assert "\nStopped early: create_env (/componenttcb/createenv): 45009" in summary
    assert "00:00 (UTC+08:00)\n" in summary


def test_ambiguous_create_is_checked_after_the_settle_time(
    fast: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """The environment is found, and not created again."""
    platform.sandbox.faults.busy_after(path=CREATE, times=1)
    result = cli("provision", tenants("a,x,,"), "--yes", "--settle", 0.01)
    assert result.exit_code == 0, result.output
    assert len(platform.sandbox.world.environments) == 1
    assert "\na: outcome unknown, checking - environment: create_env (/componenttcb/createenv)" in result.stdout


def test_environment_that_is_not_ready_in_time_has_failed(
    fast: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """The time is that of --timeout."""
    platform.sandbox.world.ready_after = ReadyPolicy.after_seconds(1e6)
    result = cli("provision", tenants("a,x,,"), "--yes", "--timeout", 0.01)
    assert result.exit_code == 3
    assert "UNAVAILABLE after 0.01 s" in result.stdout


def test_plan_without_changes_needs_no_confirmation(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report and the exit code show the conflicts."""
    monkeypatch.setattr("wxtcb.cli.provision.require_terminal", lambda _: None)
    platform.sandbox.world.add("x")
    result = cli("provision", tenants("a,x,,"))
    assert (result.exit_code, result.stderr.splitlines()[1:]) == (3, ["Nothing to do."])
    assert "  a: conflict" in result.stdout


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        (["a,x,,"], "Open 1 environment, which is billed, at {url}?"),
        (["a,x,,", "b,y,,", "c,taken,,"], "Open 2 environments, which are billed, at {url}?"),
        (["c,taken,,", "d,other,,"], "Change 1 of 2 tenants, adopting 1 and opening no environment, at {url}?"),
        (["a,x,,", "c,taken,,", "d,other,,"], "Open 1 environment, which is billed, and adopt 1, at {url}?"),
    ],
)
def test_question_names_the_cost(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch, *, rows: list[str], question: str
) -> None:
    """It follows the plan, which is on standard error with --json; "no" changes nothing."""
    questions: list[str] = []

    def decline(text: str) -> None:
        questions.append(text)
        raise NotConfirmed("no")

    monkeypatch.setattr("wxtcb.cli.provision.require_terminal", lambda _: None)
    monkeypatch.setattr("wxtcb.cli.provision.confirm", decline)
    env = platform.sandbox.world.add("taken")
    platform.sandbox.world.add("other")
    adopt = ["--adopt", f"c={env}"] if "d,other,," in rows else []
    result = cli("provision", tenants(*rows), "--json", *adopt)
    assert (result.exit_code, result.stdout) == (2, "")
    assert questions == [question.format(url=platform.sandbox.url)]
    assert result.stderr.endswith("wxtcb: no\n")
    assert "\nPlan: " in result.stderr
    assert platform.sandbox.count(CREATE) == 0


def test_max_failures_stops_the_run(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The list of failed tenants is truncated after 50 of them."""
    platform.sandbox.faults.errcode(40097, path=CREATE)
    file = tenants(*(f"t{number},,," for number in range(60)))
    result = cli("provision", file, "--yes", "--max-failures", 55, "--concurrency", 1)
    assert result.exit_code == 3
    summary = result.stdout.partition("\noutcome")[2].partition("\n")[2]
    assert summary.partition("\nunfinished: ")[0].count("\n  t") == 50
    assert "\n  and 5 more" in summary


def test_names_cannot_control_the_terminal(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Markup is text, and bidirectional characters are escaped."""
    platform.sandbox.world.add("x")
    result = cli("provision", tenants("[red]a\u202e[/],x,,"), "--yes")
    assert "!  [red]a\\u202e[/]  conflict" in result.stdout
    assert "[red]a\\u202e[/]: conflict" in result.stdout
    assert "\u202e" not in result.output


def test_internal_error_exits_with_1_after_the_report(
    fast: None, cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report contains the environment that was created before."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", fail)
    result = cli("provision", tenants("a,x,wx0000000000000001,"), "--yes")
    assert result.exit_code == 1
    env = next(iter(platform.sandbox.world.environments))
    assert f"a: failed ({env}, order 2" in result.stdout
    assert "ZeroDivisionError" in result.stdout


def test_run_that_cannot_start_has_no_report(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised after the plan."""
    entered: list[Sandbox] = []
    enter = Sandbox.__aenter__

    async def enter_once(sandbox: Sandbox) -> Sandbox:
        if entered:
            raise OSError
        entered.append(sandbox)
        return await enter(sandbox)

    monkeypatch.setattr(Sandbox, "__aenter__", enter_once)
    result = cli("provision", tenants("a,x,,"), "--sandbox")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "Plan: 1 to create, 0 to adopt, 0 ready.")


def test_two_hundred_tenants_are_done(cli: Cli, tenants: Tenants, fast: None) -> None:
    """Some of them have neither alias nor mini programs."""
    rows = [
        f"商户{number},{f'a{number}' if number % 4 else ''},{f'wx{number:016}' if number % 5 else ''},api;web"
        for number in range(200)
    ]
    result = cli("provision", tenants(*rows), "--sandbox")
    assert result.exit_code == 0, result.output
    assert "200 of 200 done in" in result.stdout


def test_unconfirmed_service_counts_as_done(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 0, and the tenant is listed."""
    platform.sandbox.world.getcslist_includes_cloudrun = False
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.sandbox.faults.busy_after(path="/componenttcb/establishcloudbaserunserver", times=1)
    result = cli("provision", tenants("a,x,,api"), "--yes")
    assert result.exit_code == 0
    assert "\ndone (unconfirmed): " in result.stdout
    env = next(iter(platform.sandbox.world.environments))
    assert f"  a: done (unconfirmed) ({env}) - api" in result.stdout


async def test_signal_before_the_run_prevents_it() -> None:
    """A signal while the session is opened is not lost: nothing is created, and the tenants are unfinished."""
    target = SandboxTarget()
    async with target.session() as session:
        async with Provisioner(session, journal=MemoryJournal()) as provisioner:
            plan = await provisioner.plan([Tenant("a")])
        controller = RunController(plan, NoProgress())
        for _ in range(2):
            controller.handle_signal(signal.SIGTERM, asyncio.current_task())
        await controller.execute(Provisioner(session, journal=plan.journal))
    assert controller.interrupted_by == signal.SIGTERM
    assert [entry.outcome for entry in controller.report.tenants] == [Outcome.UNFINISHED]
    assert not target.sandbox.world.environments


def test_own_token_changes_nothing_in_the_sandbox(fast: None, cli: Cli, tenants: Tenants) -> None:
    """The help names the platforms for which it is required."""
    assert cli("provision", tenants("a,x,,"), "--sandbox", "--own-token").exit_code == 0
    assert "platform that is not on this machine" in " ".join(cli("provision", "--help").stdout.split())
