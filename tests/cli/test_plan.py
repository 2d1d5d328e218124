"""`wxtcb plan`, and the plan as `wxtcb provision` shows it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from wxtcb.cli.signals import Interrupted

from .children import start
from .conftest import Cli, Platform, kept_secret
from .test_runner import wait_for

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
TOKEN = "/cgi-bin/component/api_component_token"
Tenants = Callable[..., Path]
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


def test_what_provision_would_do_is_shown_and_nothing_is_changed(
    cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """It exits with 0 whatever is in the plan; only a token and a list are asked for."""
    world = platform.box.world
    for alias in ("taken", "twice", "Twice"):
        world.add(alias)
    result = cli("plan", tenants("a,x,wx1;wx2,api;web", "b,taken,,", "c,twice,,"))
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third, last, advice = result.stdout.splitlines()[1:]
    (env, *_) = world.environments
    assert first.endswith("alias x      open, await NORMAL, share with 2, establish api, web")
    assert second.startswith("!  b       conflict   alias taken  alias taken is in use by taken-")
    assert third.startswith("!  c       duplicate  alias twice  alias twice is in use by ")
    assert last == "Plan: 1 to create, 0 to adopt, 0 ready, 1 in conflict, 1 duplicate."
    assert advice == f"If the environment is the tenant's, add: --adopt b={env}"
    assert set(platform.box.counts) == {TOKEN, LIST}
    assert len(world.environments) == 3


def test_the_plan_is_json_on_request(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """One document on standard output, and nothing beside it."""
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


def test_the_sandbox_is_planned_for_without_credentials(cli: Cli, tenants: Tenants) -> None:
    """It has no environments yet."""
    result = cli("plan", tenants("a,x,,", "b,,,"), "--sandbox")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("Plan: 2 to create, 0 to adopt, 0 ready.\n")


def test_an_environment_that_is_there_may_be_adopted(
    swift: None, cli: Cli, tenants: Tenants, platform: Platform
) -> None:
    """A tenant whose name holds a `=` as well; provision does as the plan says."""
    first, second = platform.box.world.add("x"), platform.box.world.add("y")
    words = tenants("a,x,,", "a=b,y,,"), "--adopt", f"a = {first}", "--adopt", f"a=b={second}"
    shown = cli("plan", *words)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"~  a       adopt   {first}  adopt\n~  a=b     adopt   {second}  adopt\n" in shown.stdout
    done = cli("provision", *words, "--yes")
    assert done.exit_code == 0, done.output
    assert platform.box.count(CREATE) == 0
    assert f"a: done ({first})" in done.stdout


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (["a"], "--adopt: 'a' is not TENANT=ENV; nothing was sent"),
        (["=x-1"], "--adopt: '=x-1' is not TENANT=ENV; nothing was sent"),
        (["a= "], "--adopt: 'a= ' is not TENANT=ENV; nothing was sent"),
        (["a=x-1", "a=x-2"], "--adopt: a tenant is named twice; nothing was sent"),
        (["a\x1b[2J"], "--adopt: 'a\\x1b[2J' is not TENANT=ENV; nothing was sent"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "provision"])
def test_a_malformed_adoption_sends_nothing(
    cli: Cli, tenants: Tenants, platform: Platform, command: str, *, pairs: list[str], reason: str
) -> None:
    """Exit 2, with the reason."""
    words = [word for pair in pairs for word in ("--adopt", pair)]
    result = cli(command, tenants("a,x,,"), *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"wxtcb: {reason}\n"
    assert len(platform.box.seen) == 0


def test_an_adoption_that_cannot_be_changes_nothing(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Exit 2, with all that speaks against it."""
    env = platform.box.world.add("x")
    result = cli("plan", tenants("a,x,,"), "--adopt", f"b={env}", "--adopt", "a=gone")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"adopt b={env}: unknown tenant; adopt a=gone: the platform lists no such" in result.stderr
    assert "nothing was changed" in result.stderr


@pytest.mark.usefixtures("swift", "platform")
def test_what_is_done_is_not_planned_again(cli: Cli, tenants: Tenants) -> None:
    """The journal has it; links that were given are asked for again with --resend-links alone."""
    file = tenants("a,x,wx0000000000000001,api")
    assert cli("provision", file, "--yes").exit_code == 0
    for words, what in (([], "nothing"), (["--resend-links"], "share with 1")):
        result = cli("plan", file, *words)
        assert f"  {what}\nPlan: 0 to create, 0 to adopt, 1 ready.\n" in result.stdout


def test_resend_links_is_accepted(cli: Cli, tenants: Tenants) -> None:
    """Where no link was given yet it changes nothing."""
    assert cli("plan", tenants("a,x,wx1,"), "--sandbox", "--resend-links").exit_code == 0


def test_provision_cuts_a_long_list_and_plan_does_not(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """The sum is the same."""
    for number in range(30):
        platform.box.world.add(f"a{number}")
    file = tenants(*(f"t{number},a{number},," for number in range(30)))
    whole = cli("plan", file).stdout
    cut = cli("provision", file, "--yes").stdout.partition("[ 1/30]")[0]
    assert (whole.count("\n!  t"), cut.count("\n!  t")) == (30, 20)
    assert "\n  and 10 more: conflict\n  `wxtcb plan` shows them all\nPlan: " in cut
    assert whole.splitlines()[-1] == cut.splitlines()[-1]


def test_no_credential_is_shown_and_nothing_steers_the_terminal(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    """Not that of the platform, its token, or one of a service in the file."""
    file = tmp_path / "tenants.toml"
    file.write_text(BOOKSHOP)
    shown, document = cli("plan", file), cli("plan", file, "--json")
    assert "+  杭州西湖书店\\u202e  create  alias hz" in shown.stdout
    assert "establish api (书店的后台接口\\x1b[2J), web\n" in shown.stdout
    for result in (shown, document):
        assert result.exit_code == 0
        assert kept_secret(platform, result.output)
        assert platform.box.world.credentials._token not in result.output
        assert "pass-word" not in result.output
        assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere.csv"], "not set in the environment: WXTCB_COMPONENT_APPID"),
        (["nowhere.csv", "--sandbox"], "nowhere.csv: 1 problem, no request was sent"),
    ],
)
def test_what_is_refused_is_told(cli: Cli, words: list[str], reason: str) -> None:
    """Exit 2, and nothing on standard output."""
    result = cli("plan", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_a_platform_elsewhere_is_planned_for_with_leave(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is fetched for it, which may void another."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    refused = cli("plan", tenants("a,x,,"))
    assert refused.exit_code == 2
    assert "plan: a new token of" in refused.stderr
    assert len(platform.box.seen) == 0
    assert cli("plan", tenants("a,x,,"), "--own-token").exit_code == 0


def test_a_look_that_fails_is_told(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Exit 3: it says nothing about the tenants."""
    platform.box.faults.errcode(48001, path=LIST)
    result = cli("plan", tenants("a,x,,"))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "wxtcb: /componenttcb/describeenvs: 48001" in result.stderr
    assert kept_secret(platform, result.stderr)


@pytest.mark.parametrize(
    ("words", "number", "name"),
    [(["plan"], signal.SIGINT, "Ctrl-C"), (["provision", "--yes"], signal.SIGTERM, "SIGTERM")],
)
def test_a_signal_cuts_the_look_off(
    tenants: Tenants, platform: Platform, *, words: list[str], number: int, name: str
) -> None:
    """130 or 143, one line, and no plan and no report."""
    platform.box.faults.hang(path=LIST)
    process = start(*words, tenants("a,x,,"))
    wait_for(platform, LIST)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "")
    assert err.splitlines()[-1] == f"{name} cut the look off; nothing was changed."


@pytest.mark.parametrize("words", [["plan"], ["provision", "--yes"]])
def test_nothing_follows_a_look_that_was_cut_off(
    cli: Cli, tenants: Tenants, platform: Platform, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The command ends there."""

    def cut_off(work: Coroutine[object, object, object]) -> Interrupted:
        work.close()
        return Interrupted(signal.SIGTERM)

    monkeypatch.setattr("wxtcb.cli.plan.run_until_signal", cut_off)
    result = cli(*words, tenants("a,x,,"))
    assert (result.exit_code, result.stdout, len(platform.box.seen)) == (143, "", 0)
