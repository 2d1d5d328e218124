"""Body and query parameters of `wxtcb call`: their sources, and the rejection of secrets in arguments."""

from __future__ import annotations

import collections.abc
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import attrs
import pytest

import wxtcb
from wxtcb import api
from wxtcb._protocol.fields import wire_name_of
from wxtcb.cli.call import is_secret_field, read_body, read_query
from wxtcb.cli.endpoints import endpoint_groups
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

from .conftest import LIST, Cli, Platform

SECRET = "hush-7f3a"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f'{{"es_info": {{"password": "{SECRET}"}}}}', "es_info.password"),
        (f'{{"component_appsecret": "{SECRET}"}}', "component_appsecret"),
        (f'{{"component_verify_ticket": "{SECRET}"}}', "component_verify_ticket"),
        (f'{{"access_token": "{SECRET}"}}', "access_token"),
        (f'{{"EncodingAESKey": "{SECRET}"}}', "EncodingAESKey"),
        (f'{{"list": [1, {{"tokens": ["{SECRET}"]}}]}}', "list[1].tokens[0]"),
        (f'{{"secret": {{"value": "{SECRET}"}}}}', "secret.value"),
    ],
)
def test_secret_in_an_argument_is_rejected(text: str, path: str) -> None:
    """The message has the path of the secret and the alternatives, and not the value."""
    with pytest.raises(InvalidArgument, match="pass the body as @file or -") as caught:
        read_body(text)
    assert f" {path} is secret" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_name_of_a_secret_is_not_secret() -> None:
    """Neither are flags, empty strings and null."""
    text = '{"secret_name": "es", "mount_wx_token": true, "password": "", "image_pull_secret": "x", "n": null}'
    assert read_body(text)["secret_name"] == "es"


def argument_types() -> Iterator[tuple[str, Any]]:
    """Iterate over the names and types of the arguments of all endpoint coroutines, except session and token."""
    names = {**vars(collections.abc), **{name: getattr(wxtcb, name) for name in wxtcb.__all__}}
    for group, endpoint in ((getattr(api, group), endpoint) for endpoint, group in endpoint_groups().items()):
        hints = get_type_hints(getattr(group, endpoint.name), localns=names)
        yield from ((name, kind) for name, kind in hints.items() if name not in {"session", "return", "token"})


def secret_field_names(name: str, kind: Any) -> Iterator[str]:
    """Iterate over the JSON names of the secret fields in an argument, at any depth."""
    if kind is Secret:
        yield name
    elif isinstance(kind, type) and attrs.has(kind):
        for field in attrs.fields(attrs.resolve_types(kind)):
            yield from secret_field_names(wire_name_of(field), field.type)
    else:
        for part in get_args(kind):
            yield from secret_field_names(name, part)


def test_every_secret_of_the_api_is_recognised_by_its_name() -> None:
    """The rule for names covers all arguments that the endpoint coroutines take as `Secret`."""
    names = {each for name, kind in argument_types() for each in secret_field_names(name, kind)}
    assert {"password", "component_verify_ticket"} <= names
    assert [name for name in names if not is_secret_field(name)] == []


def test_environment_variables_are_secret() -> None:
    """Variables of a service often contain credentials."""
    names = ("env_params", "envParams", "env_var", "env_vars", "environment_variables")
    assert [name for name in names if not is_secret_field(name)] == []
    assert [name for name in ("env", "env_id", "env_list", "env_varieties") if is_secret_field(name)] == []


def test_body_is_read_from_a_file(tmp_path: Path) -> None:
    """Secrets in it become `Secret`, and a byte order mark is skipped."""
    path = tmp_path / "body.json"
    path.write_bytes(b"\xef\xbb\xbf" + f'{{"es_info": {{"id": 1, "password": "{SECRET}"}}}}'.encode())
    assert read_body(f"@{path}") == {"es_info": {"id": 1, "password": Secret(SECRET)}}


def test_body_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument is "-"."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"token": "x"}')))
    assert read_body("-") == {"token": Secret("x")}


def test_closed_standard_input_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as an empty document, which is not JSON."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidArgument, match=r"^-: line 1, column 1: "):
        read_body("-")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ('{"a":\n 1,, }', "the body: line 2, column 4: "),
        ("[1]", "the body: a JSON object is required"),
        ("", "the body: line 1, column 1: "),
        ("@/no/such", "@/no/such: cannot be read (No such file or directory)"),
        ("@", "@: cannot be read (Is a directory)"),
        ("@a\0b", "cannot be read (ValueError)"),
        ('{"a": "\udcff"}', "the body: line 1, column "),
        ('{"a":' + "[" * 990 + "]" * 990 + "}", "the body: the JSON is nested too deeply"),
    ],
)
def test_invalid_body_is_rejected(argument: str, reason: str) -> None:
    """The message has the position of the first error."""
    with pytest.raises(InvalidArgument) as caught:
        read_body(argument)
    assert reason in str(caught.value)


def test_query_is_split_at_the_first_equals_sign() -> None:
    """A value may contain another equals sign."""
    assert read_query(["env=e-1", "name=a=b"]) == {"env": "e-1", "name": "a=b"}
    assert read_query(()) == {}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["env"], "NAME=VALUE in valid Unicode, not 'env'"),
        (["env="], "not 'env='"),
        (["=e"], "not '=e'"),
        (["env=\udcff"], "not 'env=\\udcff'"),
        (["env=1", "env=2"], "env is duplicated"),
        (["access_token=T0KEN"], "access_token is secret"),
    ],
)
def test_invalid_query_is_rejected(arguments: list[str], reason: str) -> None:
    """The message does not contain the value of a secret."""
    with pytest.raises(InvalidArgument, match=r"^--query") as caught:
        read_query(arguments)
    assert reason in str(caught.value)
    assert "T0KEN" not in str(caught.value)


def test_query_is_sent(cli: Cli, platform: Platform) -> None:
    """The platform rejects a query parameter that it does not know."""
    result = cli("call", "describe_envs", "--query", "env=e-1")
    assert result.exit_code == 3
    assert "?env" in result.stderr
    assert platform.sandbox.count(LIST) == 1
