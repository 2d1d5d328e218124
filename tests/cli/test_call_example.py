"""`wxtcb call NAME --example`: what is printed can be sent, and the reply stands beside it."""

from __future__ import annotations

import json

import pytest
from typer.testing import Result

import wxtcb
from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat
from wxtcb.cli.call import print_example, read_examples
from wxtcb.cli.config import credential_fields

from .conftest import Cli, Platform

EXAMPLES = read_examples()


def shown(cli: Cli, name: str) -> Result:
    """Print the example of a call, which needs no credentials."""
    result = cli("call", name, "--example")
    assert result.exit_code == 0
    return result


def test_every_call_shows_its_documented_request_and_reply(cli: Cli) -> None:
    """The request alone is the result, so that it can go to a file; the reply is told beside it."""
    for endpoint in wxtcb.endpoints():
        result, example = shown(cli, endpoint.name), EXAMPLES[endpoint.name]
        assert json.loads(result.stdout) == example["request"]
        told, reply = result.stderr.split("The reply:\n")
        assert json.loads(reply) == example["reply"]
        assert told.startswith(f"\nIt is sent by: wxtcb call {endpoint.name}")


def test_a_printed_request_can_be_sent(cli: Cli, platform: Platform) -> None:
    """By what is piped from one command to the other."""
    body = shown(cli, "create_env").stdout
    assert cli("call", "create_env", "-", "--yes", stdin=body).exit_code == 0
    assert [env.alias for env in platform.box.world.environments.values()] == ["mytestenv"]


def test_every_printed_example_is_as_the_platform_wants_it(cli: Cli, platform: Platform) -> None:
    """Sent as it is told, no field of it is unknown, missing or of another kind; what it names need not be there."""
    for endpoint in wxtcb.endpoints():
        query = [f"--query={name}={value}" for name, value in EXAMPLES[endpoint.name]["query"].items()]
        before = platform.box.count(endpoint.path)
        result = cli("call", endpoint.name, "-", "--yes", *query, stdin=shown(cli, endpoint.name).stdout)
        assert result.exit_code in (0, 3), result.stderr
        assert platform.box.count(endpoint.path) > before
        for flaw in ("unknown field", " 40101 ", " 47001 ", " 44002 "):
            assert flaw not in result.stderr, f"{endpoint.name}: {result.stderr}"


def test_what_the_environment_gives_is_not_in_a_printed_request(cli: Cli, platform: Platform) -> None:
    """A made-up app secret would be sent in place of the real one."""
    for endpoint in wxtcb.endpoints():
        assert not set(credential_fields(endpoint)) & set(EXAMPLES[endpoint.name]["request"])
    body = shown(cli, "api_component_token").stdout
    assert cli("call", "api_component_token", "-", "--yes", stdin=body).exit_code == 0


def test_credentials_are_filled_in_for_every_call_that_has_no_token() -> None:
    """It is known under which names each holds them."""
    below = [endpoint for endpoint in wxtcb.endpoints() if endpoint.credential is Credential.NONE]
    assert all("component_appid" in credential_fields(endpoint) for endpoint in below)
    assert credential_fields(wxtcb.api.environment.CREATE_ENV) == ()


def test_what_goes_into_the_query_is_told_as_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With quotes where the shell needs them, and a file only for a body that holds something."""
    examples = {"invoke": {"request": {}, "query": {"env": "e-1", "name": "a b"}, "reply": {"errcode": 0}}}
    monkeypatch.setattr("wxtcb.cli.call.read_examples", lambda: examples)
    print_example(Endpoint("/tcb/invoke", Done, Repeat.ONCE))
    out, err = capsys.readouterr()
    assert out == "{}\n"
    assert "It is sent by: wxtcb call invoke --query env=e-1 --query 'name=a b'\n" in err


def test_an_example_of_no_call_is_refused(cli: Cli) -> None:
    """With the names that are spelled alike."""
    result = cli("call", "createenv", "--example")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean create_env?" in result.stderr
