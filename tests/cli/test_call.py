"""`wxtcb call`: what is refused, what is sent, and what is printed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .children import start
from .conftest import Cli, Platform, kept_secret, signal_when_asked
from .test_provision_process import wait_for

ABC = '{"alias": "abc"}'
CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
SHARE = "/componenttcb/batchshareenv"
TOKEN = "/cgi-bin/component/api_component_token"
PUSH = "/cgi-bin/component/api_start_push_ticket"


def test_the_reply_is_printed_as_json(cli: Cli, platform: Platform) -> None:
    """All of it, fields that wxtcb does not know included; without a body, {} is sent."""
    platform.box.world.add("abc")
    result = cli("call", "describe_envs")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith('{\n  "errcode": 0')
    assert [info["alias"] for info in json.loads(result.stdout)["info_list"]] == ["abc"]


def test_the_body_may_be_an_argument_a_file_or_standard_input(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    """Each is sent as it is."""
    path = tmp_path / "body.json"
    path.write_text('{"alias": "b"}')
    for given, stdin in (('{"alias": "a"}', None), (f"@{path}", None), ("-", '{"alias": "c"}')):
        assert cli("call", "create_env", given, "--yes", stdin=stdin).exit_code == 0
    assert [env.alias for env in platform.box.world.environments.values()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["createenv"], "there is no call 'createenv': did you mean create_env? `wxtcb endpoints` lists them all"),
        (["xyz"], "there is no call 'xyz': `wxtcb endpoints` lists them all"),
        (["create_env", "{", "--yes"], "the body: line 1, column 2: "),
        (["create_env", '{"password": "p"}', "--yes"], "the body: password is secret"),
        (["create_env", ABC], "create_env acts anew each time it is sent, which may cost something."),
        (["api_component_token"], "mints a token each time, which may void the one in use."),
    ],
)
def test_what_is_refused_sends_nothing(cli: Cli, platform: Platform, words: list[str], reason: str) -> None:
    """Exit 2, with the reason."""
    result = cli("call", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert "othing was sent" in result.stderr
    assert len(platform.box.seen) == 0


@pytest.mark.parametrize(
    ("name", "code"), [("describe_envs", 2), ("api_component_token", 2), ("api_start_push_ticket", 0)]
)
def test_a_token_of_its_own_needs_leave(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """Where the platform is not on this machine; a call that fetches none needs none."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    result = cli("call", name, "--yes")
    assert result.exit_code == code
    assert ("may void the one your backend works with" in result.stderr) == (code == 2)
    assert platform.box.count(TOKEN) == 0
    assert cli("call", name, "--yes", "--own-token").exit_code == 0


def test_the_push_of_tickets_is_started_without_a_ticket(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials come from the environment, and no ticket is needed to ask for one."""
    monkeypatch.delenv("WXTCB_TICKET")
    assert cli("call", "api_start_push_ticket").exit_code == 0
    assert (platform.box.count(PUSH), platform.box.count(TOKEN)) == (1, 0)
    assert cli("call", "describe_envs").exit_code == 2


@pytest.mark.parametrize("reveal", [True, False])
def test_a_token_is_printed_only_when_revealed(cli: Cli, platform: Platform, *, reveal: bool) -> None:
    """It is minted with the environment's credentials."""
    result = cli("call", "api_component_token", "--yes", *["--reveal"][:reveal])
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["expires_in"] == 7200
    assert (shown["component_access_token"] == "***") != reveal
    assert platform.box.world.tokens_issued == 1


def test_a_revealed_token_never_goes_to_standard_error(platform: Platform) -> None:
    """A full disk behind standard output loses it, rather than leave it in a log."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wxtcb", "call", "api_component_token", "--yes", "--reveal"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert "it is lost" in ended.stderr
    assert platform.box.world.credentials._token not in ended.stderr


def test_a_partial_failure_prints_what_there_is(cli: Cli, platform: Platform) -> None:
    """The reply on standard output, the error beside it, and exit 3."""
    result = cli("call", "batch_share_env", '{"data": [{"env": "gone", "appids": ["wx1"]}]}')
    assert result.exit_code == 3
    assert json.loads(result.stdout)["err_list"][0]["env"] == "gone"
    assert "1 failed" in result.stderr


def test_a_refusal_is_told_without_the_secrets_of_the_body(cli: Cli, platform: Platform) -> None:
    """The platform may quote them in its message."""
    platform.box.faults.echo_message(path="/componenttcb/establishcloudbaserunserver")
    body = '{"es_info": {"password": "pass-word-of-es-7f3a"}}'
    result = cli("call", "establish_cloudbaserun_server", "-", "--yes", stdin=body)
    assert result.exit_code == 3
    assert "40097" in result.stderr
    assert "pass-word" not in result.output
    assert kept_secret(platform, result.output)


def test_a_failure_tells_how_often_it_was_tried(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that attempts of a call that adds something may have taken effect."""
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.box.faults.busy(path=CREATE)
    result = cli("call", "create_env", ABC, "--yes")
    assert result.exit_code == 3
    assert "sent 5 times in" in result.stderr
    assert "5 of these may have taken effect: look before you send it again" in result.stderr


def test_a_success_after_doubtful_attempts_says_so(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is printed all the same."""
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.box.faults.busy_after(path=CREATE, times=1)
    result = cli("call", "create_env", ABC, "--yes")
    assert result.exit_code == 0
    assert "env" in json.loads(result.stdout)
    assert result.stderr == "1 earlier attempts of create_env may have taken effect too: look for extras.\n"


@pytest.mark.parametrize(
    ("words", "hung", "number", "told"),
    [
        (
            ["create_env", ABC],
            CREATE,
            signal.SIGINT,
            "Ctrl-C cut create_env off: it may have taken effect: look before",
        ),
        (["create_env", ABC], TOKEN, signal.SIGTERM, "SIGTERM cut create_env off: it had no effect."),
        (["describe_envs"], LIST, signal.SIGINT, "Ctrl-C cut describe_envs off: it changes nothing."),
        (["batch_share_env", '{"data": []}'], SHARE, signal.SIGINT, "it may have taken effect; sent again it ends"),
    ],
)
def test_a_signal_in_mid_call_tells_whether_it_may_have_acted(
    cli: Cli, platform: Platform, words: list[str], *, hung: str, number: int, told: str
) -> None:
    """130 for Ctrl-C, 143 for SIGTERM, and one line."""
    platform.box.faults.hang(path=hung)
    with signal_when_asked(platform, hung, number):
        result = cli("call", *words, "--yes")
    assert (result.exit_code, result.stdout) == (128 + number, "")
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_process_that_is_cut_off_ends_cleanly(platform: Platform) -> None:
    """Without a traceback, whatever the shell has done to its signals."""
    platform.box.faults.hang(path=LIST)
    process = start("call", "describe_envs")
    wait_for(platform, LIST)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "Ctrl-C cut describe_envs off: it changes nothing.\n"


def test_a_ticket_is_looked_for_in_the_store_unless_the_body_has_one(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is none either, nothing is sent, and the advice is what can be typed."""
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")
    refused = cli("call", "api_component_token", "--yes")
    assert refused.exit_code == 2
    assert "`wxtcb call api_start_push_ticket` (re)starts" in refused.stderr
    assert len(platform.box.seen) == 0
    body = json.dumps({"component_verify_ticket": platform.box.ticket})
    assert cli("call", "api_component_token", "-", "--yes", stdin=body).exit_code == 0
