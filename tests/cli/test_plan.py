"""Command `wxtcb plan`, and the plan that `wxtcb provision` shows."""

from __future__ import annotations

import json
import signal
from collections.abc import Coroutine
from pathlib import Path

import pytest

from wxtcb.cli.runner import Interrupted

from .children import start
from .conftest import CREATE, LIST, TOKEN, Cli, Platform, Tenants, contains_no_secret, wait_for_request

BOOKSHOP = """
[[tenant]]
tenant = "杭州西湖书店\\u202e"
alias = "hz"
appids = ["wx0000000000000001"]

[[tenant.services]]
service_name = "api"
is_public = true
remark = "书店的后台接口\\u001b[2J"
es_info = { ip = "10.0.0.8", account = "elastic", password = "pass-word-of-es-9f31" }

[[tenant.services]]
service_name = "web"
is_public = false
"""


def test_plan_shows_what_provision_would_do(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The exit code is 0 also with conflicts; only a token and the list of environments are requested."""
    world = platform.sandbox.world
    for alias in ("taken", "twice", "Twice"):
        world.add(alias)
    result = cli("plan", tenants("a,x,wx0000000000000001;wx0000000000000002,api;web", "b,taken,,", "c,twice,,"))
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third, last, suggestion = result.stdout.splitlines()[1:]
    (env, *_) = world.environments
    assert first.endswith("alias x      open, wait for NORMAL, share with 2, establish api, web")
    assert second.startswith("!  b       conflict   alias taken  ")
    assert third.startswith("!  c       duplicate  alias twice  ")
    assert last == "Plan: 1 to create, 0 to adopt, 0 ready, 1 in conflict, 1 duplicate."
    assert suggestion.endswith(f"add: --adopt b={env}")
    assert set(platform.sandbox.counts) == {TOKEN, LIST}
    assert len(world.environments) == 3


def test_plan_prints_json(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """--json prints one document."""
    result = cli("plan", tenants("商户,x,,api"), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["counts"]["create"] == document["total"] == 1
    assert document["tenants"][0] | {"env": None} == {
        "tenant": "商户",
        "alias": "x",
        "action": "create",
        "env": None,
        "status": None,
        "steps": ["environment", "ready", "services"],
        "existing": [],
        "adoptable": [],
        "reason": "",
    }


def test_plan_for_the_sandbox_needs_no_credentials(cli: Cli, tenants: Tenants) -> None:
    """A new sandbox has no environments."""
    result = cli("plan", tenants("a,x,,", "b,,,"), "--sandbox")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("Plan: 2 to create, 0 to adopt, 0 ready.\n")


def test_existing_environment_is_adopted(fast: None, cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The name of a tenant may contain an equals sign; provision does what the plan shows."""
    first, second = platform.sandbox.world.add("x"), platform.sandbox.world.add("y")
    words = tenants("a,x,,", "a=b,y,,"), "--adopt", f"a = {first}", "--adopt", f"a=b={second}"
    plan = cli("plan", *words)
    assert (plan.exit_code, plan.stderr) == (0, "")
    assert f"~  a       adopt   {first}  adopt\n~  a=b     adopt   {second}  adopt\n" in plan.stdout
    run = cli("provision", *words, "--yes")
    assert run.exit_code == 0, run.output
    assert platform.sandbox.count(CREATE) == 0
    assert f"a: done ({first})" in run.stdout


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (["a"], "--adopt: 'a' must be TENANT=ENV"),
        (["=x-1"], "--adopt: '=x-1' must be TENANT=ENV"),
        (["a= "], "--adopt: 'a= ' must be TENANT=ENV"),
        (["a=x-1", "a=x-2"], "--adopt: tenant 'a' is duplicated"),
        (["a\x1b[2J"], "--adopt: 'a\\x1b[2J' must be TENANT=ENV"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "provision"])
def test_malformed_adoption_is_rejected(
    cli: Cli, tenants: Tenants, platform: Platform, command: str, *, pairs: list[str], reason: str
) -> None:
    """The exit code is 2, and no request is sent."""
    words = [word for pair in pairs for word in ("--adopt", pair)]
    result = cli(command, tenants("a,x,,"), *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"wxtcb: {reason}; no request was sent\n"
    assert len(platform.sandbox.seen) == 0


def test_all_environments_are_adopted_with_one_option(
    fast: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """After a lost journal, the plan suggests --adopt-all."""
    envs = {name: platform.sandbox.world.add(name) for name in ("a1", "a2", "a3", "a4")}
    file = tenants(*(f"{name},{name},," for name in envs))
    assert "add: --adopt-all\n" in cli("plan", file).stdout
    plan = cli("plan", file, "--adopt-all")
    assert "Plan: 0 to create, 4 to adopt, 0 ready.\n" in plan.stdout
    assert cli("provision", file, "--adopt-all", "--yes").exit_code == 0
    assert platform.sandbox.count(CREATE) == 0
    assert "Plan: 0 to create, 0 to adopt, 4 ready.\n" in cli("plan", file).stdout


def test_environments_are_adopted_from_a_file(cli: Cli, tenants: Tenants, platform: Platform, tmp_path: Path) -> None:
    """The CSV file has a tenant and its environment a line."""
    envs = {name: platform.sandbox.world.add(name) for name in ("a1", "a2")}
    adoptions = tmp_path / "envs.csv"
    adoptions.write_text("\n".join(("tenant,env", *(f"{name},{env}" for name, env in envs.items()))))
    file = tenants(*(f"{name},{name},," for name in envs))
    plan = cli("plan", file, "--adopt-from", adoptions)
    assert "Plan: 0 to create, 2 to adopt, 0 ready.\n" in plan.stdout
    both = cli("plan", file, "--adopt-from", adoptions, "--adopt", "a2=x")
    assert (both.exit_code, "--adopt: tenant 'a2' is also in" in both.stderr) == (2, True)
    missing = cli("plan", file, "--adopt-from", tmp_path / "none.csv")
    assert (missing.exit_code, "cannot read the file" in missing.stderr) == (2, True)


def test_mini_program_of_two_tenants_is_shown(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """It is a warning below the plan."""
    result = cli("plan", tenants("a,a1,wx0000000000000001,", "b,b1,wx0000000000000001,"))
    assert (result.exit_code, platform.sandbox.count(CREATE)) == (0, 0)
    assert "Warning: mini program wx0000000000000001 is in tenants 'a' and 'b'." in result.stdout


def test_impossible_adoptions_are_rejected(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The exit code is 2, and the message has the reason for each adoption."""
    env = platform.sandbox.world.add("x")
    result = cli("plan", tenants("a,x,,"), "--adopt", f"b={env}", "--adopt", "a=gone")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"adopt b={env}: " in result.stderr
    assert "adopt a=gone: " in result.stderr


@pytest.mark.usefixtures("fast", "platform")
def test_finished_steps_are_not_planned_again(cli: Cli, tenants: Tenants) -> None:
    """Share links that were issued are planned again only with --resend-links."""
    file = tenants("a,x,wx0000000000000001,api")
    assert cli("provision", file, "--yes").exit_code == 0
    for words, to_do in (([], "nothing"), (["--resend-links"], "share with 1")):
        result = cli("plan", file, *words)
        assert f"  {to_do}\nPlan: 0 to create, 0 to adopt, 1 ready.\n" in result.stdout


def test_provision_truncates_a_long_plan(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """It shows 20 tenants for each action; the plan command shows all."""
    for number in range(30):
        platform.sandbox.world.add(f"a{number}")
    file = tenants(*(f"t{number},a{number},," for number in range(30)))
    whole = cli("plan", file).stdout
    truncated = cli("provision", file, "--yes").stdout.partition("[ 1/30]")[0]
    assert (whole.count("\n!  t"), truncated.count("\n!  t")) == (30, 20)
    assert "\n  and 10 more: conflict\n  `wxtcb plan` lists all of them\nPlan: " in truncated
    assert whole.splitlines()[-1] == truncated.splitlines()[-1]


def test_plan_contains_neither_secrets_nor_escape_codes(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    """Passwords of services are left out, and control characters of names and remarks are escaped."""
    file = tmp_path / "tenants.toml"
    file.write_text(BOOKSHOP)
    table, document = cli("plan", file), cli("plan", file, "--json")
    assert "+  杭州西湖书店\\u202e  create  alias hz" in table.stdout
    assert "establish api (书店的后台接口\\x1b[2J), web\n" in table.stdout
    for result in (table, document):
        assert result.exit_code == 0
        assert contains_no_secret(platform, result.output)
        assert platform.sandbox.world.credentials.token not in result.output
        assert "pass-word" not in result.output
        assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere.csv"], "not set in the environment: WXTCB_COMPONENT_APPID"),
        (["nowhere.csv", "--sandbox"], "nowhere.csv: "),
    ],
)
def test_missing_input_is_rejected(cli: Cli, words: list[str], reason: str) -> None:
    """Without credentials or without the tenants file, the exit code is 2."""
    result = cli("plan", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_remote_platform_requires_own_token(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of a platform that is not on this machine is fetched only with --own-token."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    rejected = cli("plan", tenants("a,x,,"))
    assert rejected.exit_code == 2
    assert rejected.stderr.startswith("wxtcb: plan: ")
    assert "--own-token" in rejected.stderr
    assert len(platform.sandbox.seen) == 0
    assert cli("plan", tenants("a,x,,"), "--own-token").exit_code == 0


def test_failed_listing_exits_with_3(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The error of the platform is printed, without a secret."""
    platform.sandbox.faults.errcode(48001, path=LIST)
    result = cli("plan", tenants("a,x,,"))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "48001" in result.stderr
    assert contains_no_secret(platform, result.stderr)


@pytest.mark.parametrize(
    ("words", "number", "name"),
    [(["plan"], signal.SIGINT, "Ctrl-C"), (["provision", "--yes"], signal.SIGTERM, "SIGTERM")],
)
def test_signal_interrupts_the_planning(
    tenants: Tenants, platform: Platform, *, words: list[str], number: int, name: str
) -> None:
    """The exit code is that of the signal, and neither plan nor report is printed."""
    platform.sandbox.faults.hang(path=LIST)
    process = start(*words, tenants("a,x,,"))
    wait_for_request(platform, LIST)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1].startswith(f"{name} interrupted the planning")


@pytest.mark.parametrize("words", [["plan"], ["provision", "--yes"]])
def test_interrupted_planning_ends_the_command(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Nothing is printed or requested afterwards."""

    def interrupt(work: Coroutine[object, object, object], **_: object) -> Interrupted:
        work.close()
        return Interrupted(signal.SIGTERM)

    monkeypatch.setattr("wxtcb.cli.plan.run_until_signal", interrupt)
    result = cli(*words, tenants("a,x,,"))
    assert (result.exit_code, result.stdout, len(platform.sandbox.seen)) == (143, "", 0)
