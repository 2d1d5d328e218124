"""Option --example of `wxtcb call`: the printed requests can be sent."""

from __future__ import annotations

import json

import pytest
from typer.testing import Result

import wxtcb
from wxtcb._protocol.endpoint import Credential
from wxtcb.cli.call import read_examples, show_example
from wxtcb.cli.config import credential_fields

from .conftest import Cli, Platform

EXAMPLES = read_examples()


def print_example(cli: Cli, name: str) -> Result:
    """Print the example of a call, without credentials."""
    result = cli("call", name, "--example")
    assert result.exit_code == 0
    return result


def test_every_call_has_an_example(cli: Cli) -> None:
    """The request is on standard output, the command to send it and the reply are on standard error."""
    for endpoint in wxtcb.endpoints():
        result, example = print_example(cli, endpoint.name), EXAMPLES[endpoint.name]
        assert json.loads(result.stdout) == example["request"]
        command, reply = result.stderr.split("The reply:\n")
        assert json.loads(reply) == example["reply"]
        assert f"wxtcb call {endpoint.name}" in command


def test_printed_request_can_be_sent(cli: Cli, platform: Platform) -> None:
    """The output of one command can be piped into the other."""
    body = print_example(cli, "create_env").stdout
    assert cli("call", "create_env", "-", "--yes", stdin=body).exit_code == 0
    assert [env.alias for env in platform.sandbox.world.environments.values()] == ["mytestenv"]


def test_every_printed_request_is_valid(cli: Cli, platform: Platform) -> None:
    """The platform finds no unknown, missing or mistyped field; environments in the example need not exist."""
    for endpoint in wxtcb.endpoints():
        query = [f"--query={name}={value}" for name, value in EXAMPLES[endpoint.name]["query"].items()]
        before = platform.sandbox.count(endpoint.path)
        body = print_example(cli, endpoint.name).stdout
        result = cli("call", endpoint.name, "-", "--yes", *query, stdin=body)
        assert result.exit_code in (0, 3), result.stderr
        assert platform.sandbox.count(endpoint.path) > before
        for error in ("unknown field", " 40101 ", " 47001 ", " 44002 "):
            assert error not in result.stderr, f"{endpoint.name}: {result.stderr}"


def test_printed_request_contains_no_credential_field(cli: Cli, platform: Platform) -> None:
    """An invented app secret in the body would replace the one of the environment."""
    for endpoint in wxtcb.endpoints():
        assert not set(credential_fields(endpoint)) & set(EXAMPLES[endpoint.name]["request"])
    body = print_example(cli, "api_component_token").stdout
    assert cli("call", "api_component_token", "-", "--yes", stdin=body).exit_code == 0


def test_every_call_without_a_token_has_credential_fields() -> None:
    """A call with a token has none."""
    without_token = [endpoint for endpoint in wxtcb.endpoints() if endpoint.credential is Credential.NONE]
    assert all("component_appid" in credential_fields(endpoint) for endpoint in without_token)
    assert credential_fields(wxtcb.api.environment.CREATE_ENV) == ()


def test_query_is_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed command has --query options, and @FILE only if the body is not empty."""
    example = {"request": {}, "query": {"env": "e-1", "name": "a b"}, "reply": {"errcode": 0}}
    monkeypatch.setattr("wxtcb.cli.call.read_examples", lambda: {"create_env": example})
    show_example("create_env")
    out, err = capsys.readouterr()
    assert out == "{}\n"
    assert "wxtcb call create_env --query env=e-1 --query 'name=a b'\n" in err


def test_example_of_an_unknown_call_is_rejected(cli: Cli) -> None:
    """The message has similar names."""
    result = cli("call", "creat_env", "--example")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean create_env" in result.stderr
