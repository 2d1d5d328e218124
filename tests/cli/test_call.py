"""Command `wxtcb call`: what it rejects, sends and prints."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from .children import start
from .conftest import (
    CREATE,
    LIST,
    TOKEN,
    Cli,
    Platform,
    contains_no_secret,
    signal_at_request,
    wait_for_request,
)

BODY = '{"alias": "abc"}'
SHARE = "/componenttcb/batchshareenv"
PUSH = "/cgi-bin/component/api_start_push_ticket"


def test_reply_is_printed_as_json(cli: Cli, platform: Platform) -> None:
    """The output contains all fields of the reply; without an argument the body is {}."""
    platform.sandbox.world.add("abc")
    result = cli("call", "describe_envs")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith('{\n  "errcode": 0')
    assert [info["alias"] for info in json.loads(result.stdout)["info_list"]] == ["abc"]


def test_body_is_an_argument_a_file_or_standard_input(cli: Cli, platform: Platform, tmp_path: Path) -> None:
    """Each of them is sent unchanged."""
    path = tmp_path / "body.json"
    path.write_text('{"alias": "b"}')
    for argument, stdin in (('{"alias": "a"}', None), (f"@{path}", None), ("-", '{"alias": "c"}')):
        assert cli("call", "create_env", argument, "--yes", stdin=stdin).exit_code == 0
    assert [env.alias for env in platform.sandbox.world.environments.values()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["create_en"], "unknown call 'create_en': did you mean create_env"),
        (["xyz"], "unknown call 'xyz': `wxtcb endpoints` lists all calls"),
        (["create_env", "{", "--yes"], "the body: line 1, column 2: "),
        (["create_env", '{"password": "p"}', "--yes"], "the body: password is secret"),
        (["create_env", BODY], "create_env takes effect each time it is sent, and may cost money."),
        (["api_component_token"], "issues a new token, which may invalidate the current one."),
    ],
)
def test_rejected_call_sends_nothing(cli: Cli, platform: Platform, words: list[str], reason: str) -> None:
    """The exit code is 2, and the message has the reason."""
    result = cli("call", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert "o request was sent" in result.stderr
    assert len(platform.sandbox.seen) == 0


@pytest.mark.parametrize(
    ("name", "code"), [("describe_envs", 2), ("api_component_token", 2), ("api_start_push_ticket", 0)]
)
def test_remote_platform_requires_own_token(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """Without --own-token, only a call that needs no token is sent to a platform that is not on this machine."""
    monkeypatch.setattr("wxtcb.cli.config.is_loopback", lambda _: False)
    result = cli("call", name, "--yes")
    assert result.exit_code == code
    assert ("--own-token" in result.stderr) == (code == 2)
    assert platform.sandbox.count(TOKEN) == 0
    assert cli("call", name, "--yes", "--own-token").exit_code == 0


def test_push_of_tickets_is_started_without_a_ticket(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other credentials are read from the environment."""
    monkeypatch.delenv("WXTCB_TICKET")
    assert cli("call", "api_start_push_ticket").exit_code == 0
    assert (platform.sandbox.count(PUSH), platform.sandbox.count(TOKEN)) == (1, 0)
    assert cli("call", "describe_envs").exit_code == 2


@pytest.mark.parametrize("reveal", [True, False])
def test_token_is_printed_only_with_reveal(cli: Cli, platform: Platform, *, reveal: bool) -> None:
    """Otherwise it is masked in the reply."""
    result = cli("call", "api_component_token", "--yes", *["--reveal"][:reveal])
    assert result.exit_code == 0
    reply = json.loads(result.stdout)
    assert reply["expires_in"] == 7200
    assert (reply["component_access_token"] == "***") != reveal
    assert platform.sandbox.world.tokens_issued == 1


@pytest.mark.usefixtures("measured")
def test_full_disk_after_a_call_says_that_the_call_was_answered(platform: Platform) -> None:
    """The exit code is 1, and a revealed token is not printed to standard error, which may be a log."""
    with Path("/dev/full").open("w") as full:
        process = start("call", "api_component_token", "--yes", "--reveal", stdout=full)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "api_component_token itself was answered" in err
    assert platform.sandbox.world.credentials.token not in err


def test_partial_failure_prints_the_reply(cli: Cli, platform: Platform) -> None:
    """The exit code is 3, with the reply on standard output and the error on standard error."""
    result = cli("call", "batch_share_env", '{"data": [{"env": "gone", "appids": ["wx1"]}]}')
    assert result.exit_code == 3
    assert json.loads(result.stdout)["err_list"][0]["env"] == "gone"
    assert result.stderr.startswith("wxtcb: ")


def test_error_of_the_platform_contains_no_secret(cli: Cli, platform: Platform) -> None:
    """A secret of the body is redacted if the message of the platform quotes it."""
    platform.sandbox.faults.echo_message(path="/componenttcb/establishcloudbaserunserver")
    body = '{"es_info": {"password": "pass-word-of-es-7f3a"}}'
    result = cli("call", "establish_cloudbaserun_server", "-", "--yes", "--unchecked", stdin=body)
    assert result.exit_code == 3
    assert "40097" in result.stderr
    assert "pass-word" not in result.output
    assert contains_no_secret(platform, result.output)


def test_failure_reports_the_attempts(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the number of attempts, and says that they may have taken effect."""
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.sandbox.faults.busy(path=CREATE)
    result = cli("call", "create_env", BODY, "--yes")
    assert result.exit_code == 3
    assert " 5 times" in result.stderr
    assert "may have taken effect" in result.stderr


def test_success_after_ambiguous_attempts_is_reported(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is printed, and a message says that an earlier attempt may have taken effect too."""
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.backoff", lambda *_: 0.0)
    platform.sandbox.faults.busy_after(path=CREATE, times=1)
    result = cli("call", "create_env", BODY, "--yes")
    assert result.exit_code == 0
    assert "env" in json.loads(result.stdout)
    assert result.stderr.startswith("1 earlier attempt of create_env may have taken effect")


@pytest.mark.parametrize(
    ("words", "path", "number", "message"),
    [
        (["create_env", BODY], CREATE, signal.SIGINT, "Ctrl-C interrupted create_env: it may have taken effect; check"),
        (["create_env", BODY], TOKEN, signal.SIGTERM, "SIGTERM interrupted create_env: it had no effect."),
        (["describe_envs"], LIST, signal.SIGINT, "Ctrl-C interrupted describe_envs: it changes nothing."),
        (["batch_share_env", '{"data": []}'], SHARE, signal.SIGINT, "it may have taken effect; sending it again is"),
    ],
)
def test_interrupted_call_reports_its_effect(
    cli: Cli, platform: Platform, words: list[str], *, path: str, number: int, message: str
) -> None:
    """One line says whether the call may have taken effect; the exit code is that of the signal."""
    platform.sandbox.faults.hang(path=path)
    with signal_at_request(platform, path, number):
        result = cli("call", *words, "--yes")
    assert (result.exit_code, result.stdout) == (128 + number, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_interrupted_process_prints_no_traceback(platform: Platform) -> None:
    """Ctrl-C ends the process with exit code 130 and one line."""
    platform.sandbox.faults.hang(path=LIST)
    process = start("call", "describe_envs")
    wait_for_request(platform, LIST)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "Ctrl-C interrupted describe_envs: it changes nothing.\n"


def test_ticket_is_read_from_the_store_unless_the_body_contains_one(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If neither contains a ticket, no request is sent, and the message names the command to get one."""
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")
    rejected = cli("call", "api_component_token", "--yes")
    assert rejected.exit_code == 2
    assert "`wxtcb call api_start_push_ticket`" in rejected.stderr
    assert len(platform.sandbox.seen) == 0
    body = json.dumps({"component_verify_ticket": platform.sandbox.ticket})
    assert cli("call", "api_component_token", "-", "--yes", stdin=body).exit_code == 0
