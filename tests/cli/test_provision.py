"""`wxtcb provision`: what it refuses, what it shows, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wxtcb.cli.asking import NotConfirmed
from wxtcb.provision import derive_alias
from wxtcb.sandbox import ReadyPolicy, Sandbox

from .conftest import Cli, Platform, kept_secret

CREATE = "/componenttcb/createenv"
ROWS = [f"商户{number},a{number},wx000000000000000{number},api;web" for number in range(8)]
Tenants = Callable[..., Path]


def test_a_sandbox_run_ends_with_all_done(cli: Cli, tenants: Tenants, swift: None) -> None:
    """The plan, a line per tenant, a table, the count in words; nobody is asked, and no variable is needed."""
    result = cli("provision", tenants(*ROWS, "plain,,,"), "--sandbox")
    assert result.exit_code == 0, result.output
    plan, _, rest = result.stdout.partition("Plan: 9 to create, 0 to adopt, 0 ready.\n")
    assert plan.count("\n+  商户") == 8
    lines = rest.splitlines()
    assert lines[0].startswith("[1/9] ")
    assert "9 of 9 done in" in lines[-1]
    assert "8 links await a mini program's administrator; --json lists them." in lines
    assert [line.split() for line in lines[9:12]] == [
        ["outcome", "tenants"],
        ["done", "1"],
        ["awaiting", "confirmation", "8"],
    ]
    assert result.stderr == ""


def test_json_is_all_that_stands_on_stdout(cli: Cli, tenants: Tenants, swift: None) -> None:
    """One document with links, services and counts; what else is said goes to stderr."""
    result = cli("provision", tenants(*ROWS), "--sandbox", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["total"], document["done"], document["links"]) == (8, 8, 8)
    assert document["tenants"][0]["services"] == ["api", "web"]
    assert result.stderr == ""


def test_every_missing_credential_is_named_at_once(cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the file is even looked at."""
    monkeypatch.setenv("WXTCB_BASE_URL", "http://127.0.0.1:1")
    result = cli("provision", "nowhere.csv")
    assert result.exit_code == 2
    assert result.stderr == (
        "wxtcb: not set in the environment: WXTCB_COMPONENT_APPID, WXTCB_COMPONENT_APPSECRET, "
        "WXTCB_TICKET or WXTCB_TICKET_FILE or WXTCB_TOKEN_STORE; nothing was sent\n"
    )


def test_a_file_with_problems_is_refused_whole(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """All of them by line, the derived alias of another tenant included, and nothing is sent."""
    derived = derive_alias(platform.box.component_appid, "c")
    result = cli("provision", tenants("a,x,", "b,X,", "c,,", f"d,{derived},", "a,,"), "--yes")
    assert result.exit_code == 2
    assert result.stderr.count("\n  line ") == 4
    assert "4 problems, no request was sent" in result.stderr
    assert len(platform.box.seen) == 0


def test_without_a_terminal_it_does_not_spend(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """It says what it would have asked, and how to answer beforehand."""
    result = cli("provision", tenants("a,,,", "b,,,"))
    assert result.exit_code == 2
    assert f"Provision 2 tenants at {platform.box.url}? Environments are billed." in result.stderr
    assert "add --yes. Nothing was sent." in result.stderr
    assert len(platform.box.seen) == 0


def test_on_loopback_it_runs_with_yes(swift: None, cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The environments stand at the platform that the variables name; plan and run share a token."""
    result = cli("provision", tenants("商户,x,,api"), "--yes")
    assert result.exit_code == 0, result.output
    assert [row.alias for row in platform.box.world.environments.values()] == ["x"]
    assert platform.box.world.tokens_issued == 1
    assert kept_secret(platform, result.output)


def test_what_went_wrong_is_listed_with_what_to_do(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """By outcome, with the tenants by name; the rest is counted; exit code 3."""
    env = platform.box.world.add("taken")
    platform.box.faults.errcode(45009, path=CREATE)
    result = cli("provision", tenants("c,taken,,", "f,f1,,", "n,n1,,", "m,m1,,"), "--yes", "--concurrency", 1)
    assert result.exit_code == 3
    summary = result.stdout.partition("\noutcome")[2].partition("\n")[2]
    lines = [line for line in summary.splitlines() if line.startswith("  ") or "done in" in line]
    assert lines[0].startswith(f"  c: conflict - alias taken is in use by {env}: adopt it if")
    assert lines[1] == "  f: unfinished - stopped at environment"
    assert lines[2] == "  2 not started"
    assert lines[3].startswith("0 of 4 done in")
    assert "\nStopped early: /componenttcb/createenv: 45009" in summary
    assert "00:00 (UTC+08:00)\n" in summary


def test_a_create_without_a_clear_answer_is_settled_by_looks(
    swift: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """As long after it as --settle says: what it opened is found, and not opened again."""
    platform.box.faults.busy_after(path=CREATE, times=1)
    result = cli("provision", tenants("a,x,,"), "--yes", "--settle", 0.01)
    assert result.exit_code == 0, result.output
    assert len(platform.box.world.environments) == 1
    assert "\na: unclear, looks will show - environment: /componenttcb/createenv: sent, but its" in result.stdout


def test_an_environment_that_is_not_normal_in_time_has_failed(
    swift: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """As --timeout says."""
    platform.box.world.ready_after = ReadyPolicy.after_seconds(1e6)
    result = cli("provision", tenants("a,x,,"), "--yes", "--timeout", 0.01)
    assert result.exit_code == 3
    assert "still UNAVAILABLE after 0.01 s" in result.stdout


def test_a_plan_without_changes_is_carried_out_unasked(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to say yes to; the exit code tells of the conflicts."""
    monkeypatch.setattr("wxtcb.cli.provision.require_terminal", lambda _: None)
    platform.box.world.add("x")
    result = cli("provision", tenants("a,x,,"))
    assert (result.exit_code, result.stderr.splitlines()[1:]) == (3, ["There is nothing to do."])
    assert "  a: conflict" in result.stdout


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        (["a,x,,"], "Open 1 environment, which is billed, at {url}?"),
        (["a,x,,", "b,y,,", "c,taken,,"], "Open 2 environments, which are billed, at {url}?"),
        (["c,taken,,", "d,other,,"], "Change 1 of 2 tenants, opening no environment, at {url}?"),
    ],
)
def test_the_question_says_what_a_yes_costs(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch, *, rows: list[str], question: str
) -> None:
    """After the plan, which stands beside the report with --json; a no changes nothing."""
    asked: list[str] = []

    def decline(text: str) -> None:
        asked.append(text)
        raise NotConfirmed("no")

    monkeypatch.setattr("wxtcb.cli.provision.require_terminal", lambda _: None)
    monkeypatch.setattr("wxtcb.cli.provision.confirm", decline)
    env = platform.box.world.add("taken")
    platform.box.world.add("other")
    adopt = ["--adopt", f"c={env}"] if "d,other,," in rows else []
    result = cli("provision", tenants(*rows), "--json", *adopt)
    assert (result.exit_code, result.stdout) == (2, "")
    assert asked == [question.format(url=platform.box.url)]
    assert result.stderr.endswith("wxtcb: no\n")
    assert "\nPlan: " in result.stderr
    assert platform.box.count(CREATE) == 0


def test_long_lists_are_cut(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """After 50 entries only their number is told, and --max-failures is heeded."""
    platform.box.faults.errcode(40097, path=CREATE)
    result = cli("provision", tenants(*(f"t{number},,," for number in range(60))), "--yes", "--max-failures", 55)
    assert result.exit_code == 3
    summary = result.stdout.partition("\noutcome")[2].partition("\n")[2]
    assert summary.partition("\nunfinished: ")[0].count("\n  t") == 50
    assert "more, in the lines above" in summary


def test_names_cannot_steer_the_terminal(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Markup is text, and what the platform says in a message is written out."""
    platform.box.world.add("x")
    result = cli("provision", tenants("[red]a\u202e[/],x,,"), "--yes")
    assert "!  [red]a\\u202e[/]  conflict" in result.stdout
    assert "[red]a\\u202e[/]: conflict" in result.stdout
    assert "\u202e" not in result.output


def test_a_bug_of_ours_is_exit_1_after_the_report(
    swift: None, cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened before is in it."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("wxtcb.provision.steps.sharing.batch_share_env", broken)
    result = cli("provision", tenants("a,x,wx1,"), "--yes")
    assert result.exit_code == 1
    env = next(iter(platform.box.world.environments))
    assert f"a: failed ({env}, order 2" in result.stdout
    assert "the step failed by a mistake of its own (ZeroDivisionError: )" in result.stdout


def test_a_sandbox_that_cannot_open_leaves_no_report(
    cli: Cli, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to report after the plan, and the error passes."""
    opened: list[Sandbox] = []
    enter = Sandbox.__aenter__

    async def enter_once(box: Sandbox) -> Sandbox:
        if opened:
            raise OSError
        opened.append(box)
        return await enter(box)

    monkeypatch.setattr(Sandbox, "__aenter__", enter_once)
    result = cli("provision", tenants("a,x,,"), "--sandbox")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "Plan: 1 to create, 0 to adopt, 0 ready.")


def test_the_sandbox_takes_two_hundred(cli: Cli, tenants: Tenants, swift: None) -> None:
    """200 tenants, some without alias or mini programs, are done within seconds."""
    rows = [
        f"商户{number},{f'a{number}' if number % 4 else ''},{f'wx{number:016}' if number % 5 else ''},api;web"
        for number in range(200)
    ]
    result = cli("provision", tenants(*rows), "--sandbox")
    assert result.exit_code == 0, result.output
    assert "200 of 200 done in" in result.stdout


def test_unconfirmed_services_count_as_done(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 0, with a count of their own and the tenants by name."""
    platform.box.world.getcslist_includes_cloudrun = False
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.box.faults.busy_after(path="/componenttcb/establishcloudbaserunserver", times=1)
    result = cli("provision", tenants("a,x,,api"), "--yes")
    assert result.exit_code == 0
    assert "done (unconfirmed): Done, but" in result.stdout
    env = next(iter(platform.box.world.environments))
    assert f"  a: done (unconfirmed) ({env}) - api existed after an ambiguous request" in result.stdout


def test_own_token_is_accepted_and_changes_nothing(swift: None, cli: Cli, tenants: Tenants) -> None:
    """Its help says where it will matter."""
    assert cli("provision", tenants("a,x,,"), "--sandbox", "--own-token").exit_code == 0
    assert "platform that is not on this machine" in " ".join(cli("provision", "--help").stdout.split())
