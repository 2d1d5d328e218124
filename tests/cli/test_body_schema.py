"""Check of the body of `wxtcb call` against the documentation."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.cli.body_schema import check_body
from wxtcb.cli.call import find_endpoint, read_body, read_examples
from wxtcb.errors import InvalidArgument

from .conftest import CREATE, Cli, Platform


@pytest.mark.parametrize("name", [endpoint.name for endpoint in wxtcb.endpoints()])
def test_documented_request_is_accepted(name: str) -> None:
    """The examples are samples of the documentation."""
    check_body(find_endpoint(name), read_examples()[name]["request"])


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("create_env", '{"alais": "x"}', "unknown field alais (did you mean alias?); alias is missing"),
        ("create_env", '{"alias": "x", "zzz": 1}', "unknown field zzz (known are alias, EnvType)"),
        ("describe_envs", '{"zzz": 1}', "unknown field zzz (known are none)"),
        ("create_env", '{"alias": 1}', "alias must be of type string"),
        ("batch_share_env", '{"data": {}}', "data must be an array"),
        (
            "batch_share_env",
            '{"data": [{"env": "e", "appid": []}]}',
            "unknown field data[0].appid (did you mean appids?)",
        ),
        ("batch_share_env", '{"data": ["e"]}', "data[0] must be of type object"),
        ("batch_share_env", '{"data": [{"env": "e", "appids": [true]}]}', "data[0].appids[0] must be of type string"),
        ("db_record_query", '{"action": "update", "env": "e", "query": "q"}', "action must be 'query', or be left out"),
    ],
)
def test_invalid_body_is_rejected(name: str, body: str, message: str) -> None:
    """The message names each field, and the nearest correct name."""
    with pytest.raises(InvalidArgument) as caught:
        check_body(find_endpoint(name), read_body(body))
    assert message in str(caught.value)
    assert f"`wxtcb call {name} --example`" in str(caught.value)
    assert "no request was sent" in str(caught.value)


def test_body_of_an_invoked_function_is_not_checked() -> None:
    """Its fields belong to the function."""
    check_body(find_endpoint("invoke_cloud_function"), {"anything": 1})


def test_credentials_and_action_are_added_by_the_command() -> None:
    """They are not missing."""
    check_body(find_endpoint("api_start_push_ticket"), {})
    check_body(find_endpoint("db_collection_get"), {"env": "e"})


def test_body_is_checked_before_the_confirmation(cli: Cli, platform: Platform) -> None:
    """Nothing is asked or sent; --unchecked sends the body, because the documentation may be incomplete."""
    rejected = cli("call", "create_env", '{"alais": "x"}')
    assert rejected.exit_code == 2
    assert "did you mean alias?" in rejected.stderr
    assert platform.sandbox.count(CREATE) == 0
    sent = cli("call", "create_env", '{"alais": "x"}', "--yes", "--unchecked")
    assert sent.exit_code == 3
    assert platform.sandbox.count(CREATE) == 1


@pytest.mark.parametrize(
    "name", ["create_env", "createTcbEnv", "CREATETCBENV", "/componenttcb/createenv", "componenttcb/createenv"]
)
def test_call_has_three_names(name: str) -> None:
    """They are the name of the coroutine, the official name, and the path, in any case."""
    assert find_endpoint(name).name == "create_env"


@pytest.mark.parametrize("name", ["/componenttcb/dbrecord", "dbrecordManage"])
def test_ambiguous_name_is_rejected(name: str) -> None:
    """A path and an official name may belong to several calls, which are named."""
    with pytest.raises(InvalidArgument, match="use one of db_record_insert, db_record_delete, db_record_update, db_re"):
        find_endpoint(name)
