"""The body of a call: from an argument, a file or standard input, and no secret in an argument."""

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

from .conftest import Cli, Platform

HUSH = "hush-7f3a"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'{{"es_info": {{"password": "{HUSH}"}}}}', "es_info.password"),
        (f'{{"component_appsecret": "{HUSH}"}}', "component_appsecret"),
        (f'{{"component_verify_ticket": "{HUSH}"}}', "component_verify_ticket"),
        (f'{{"access_token": "{HUSH}"}}', "access_token"),
        (f'{{"EncodingAESKey": "{HUSH}"}}', "EncodingAESKey"),
        (f'{{"list": [1, {{"tokens": ["{HUSH}"]}}]}}', "list[1].tokens[0]"),
        (f'{{"secret": {{"value": "{HUSH}"}}}}', "secret.value"),
    ],
)
def test_a_secret_in_an_argument_is_refused(text: str, place: str) -> None:
    """Wherever it stands; the place is named, the value is not, and the way out is."""
    with pytest.raises(InvalidArgument, match="give the body as @file or -; nothing was sent") as caught:
        read_body(text)
    assert str(caught.value).startswith(f"the body: {place} is secret")
    assert HUSH not in str(caught.value)


def test_names_and_flags_are_no_secrets() -> None:
    """`secret_name` is but the name of one, a flag and an empty text hide nothing."""
    text = '{"secret_name": "es", "mount_wx_token": true, "password": "", "image_pull_secret": "x", "n": null}'
    assert read_body(text)["secret_name"] == "es"


def request_types() -> Iterator[tuple[str, Any]]:
    """Go through the arguments of all calls, with their types; a token of the caller's own is no field."""
    names = {**vars(collections.abc), **{name: getattr(wxtcb, name) for name in wxtcb.__all__}}
    for group, endpoint in ((getattr(api, group), endpoint) for endpoint, group in endpoint_groups().items()):
        hints = get_type_hints(getattr(group, endpoint.name), localns=names)
        yield from ((name, kind) for name, kind in hints.items() if name not in {"session", "return", "token"})


def secret_fields(name: str, kind: Any) -> Iterator[str]:
    """Name what may be secret in an argument: itself, or fields deep inside, as they stand in JSON."""
    if kind is Secret:
        yield name
    elif isinstance(kind, type) and attrs.has(kind):
        for field in attrs.fields(attrs.resolve_types(kind)):
            yield from secret_fields(wire_name_of(field), field.type)
    else:
        for part in get_args(kind):
            yield from secret_fields(name, part)


def test_every_field_that_the_library_holds_secret_is_known_by_name() -> None:
    """The rule for arguments covers what the calls take as `Secret`."""
    names = {each for name, kind in request_types() for each in secret_fields(name, kind)}
    assert {"password", "component_verify_ticket"} <= names
    assert [name for name in names if not is_secret_field(name)] == []


def test_environment_variables_may_be_secret() -> None:
    """Whoever writes some knows which; nobody else does."""
    names = ("env_params", "envParams", "env_var", "env_vars", "environment_variables")
    assert [name for name in names if not is_secret_field(name)] == []
    assert [name for name in ("env", "env_id", "env_list", "env_varieties") if is_secret_field(name)] == []


def test_a_file_may_hold_secrets(tmp_path: Path) -> None:
    """They are concealed on the way; a byte-order mark is no matter."""
    path = tmp_path / "body.json"
    path.write_bytes(b"\xef\xbb\xbf" + f'{{"es_info": {{"id": 1, "password": "{HUSH}"}}}}'.encode())
    assert read_body(f"@{path}") == {"es_info": {"id": 1, "password": Secret(HUSH)}}


def test_standard_input_may_hold_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With - as the body."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"token": "x"}')))
    assert read_body("-") == {"token": Secret("x")}


def test_a_closed_standard_input_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so no JSON."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidArgument, match=r"^-: line 1, column 1: "):
        read_body("-")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ('{"a":\n 1,, }', "the body: line 2, column 4: "),
        ("[1]", "the body: a JSON object is needed"),
        ("", "the body: line 1, column 1: "),
        ("@/no/such", "@/no/such: it cannot be read (No such file or directory)"),
        ("@", "@: it cannot be read (Is a directory)"),
        ("@a\0b", "it cannot be read (ValueError)"),
        ('{"a": "\udcff"}', "the body: line 1, column "),
        ('{"a":' + "[" * 990 + "]" * 990 + "}", "the body: it is nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused(given: str, reason: str) -> None:
    """With the place of the first mistake, and nothing is sent."""
    with pytest.raises(InvalidArgument) as caught:
        read_body(given)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("nothing was sent")


LIST = "/componenttcb/describeenvs"


def test_pairs_are_read_up_to_the_first_equals_sign() -> None:
    """A value may hold another one."""
    assert read_query(["env=e-1", "name=a=b"]) == {"env": "e-1", "name": "a=b"}
    assert read_query(()) == {}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["env"], "--query must be NAME=VALUE in proper Unicode, not 'env'"),
        (["env="], "not 'env='"),
        (["=e"], "not '=e'"),
        (["env=\udcff"], "not 'env=\\udcff'"),
        (["env=1", "env=2"], "--query: env is given twice"),
        (["access_token=T0KEN"], "--query: access_token is secret"),
    ],
)
def test_what_is_no_query_is_refused(given: list[str], reason: str) -> None:
    """Nothing is sent, and a secret is not repeated."""
    with pytest.raises(InvalidArgument) as caught:
        read_query(given)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("nothing was sent")
    assert "T0KEN" not in str(caught.value)


def test_a_query_goes_out_beside_the_token(cli: Cli, platform: Platform) -> None:
    """Here to a platform that refuses what the call does not take."""
    result = cli("call", "describe_envs", "--query", "env=e-1")
    assert result.exit_code == 3
    assert "unknown field ?env" in result.stderr
    assert platform.box.count(LIST) == 1
