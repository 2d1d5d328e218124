"""What `wxtcb call` takes for the query of a call."""

from __future__ import annotations

import pytest

from wxtcb.cli.query import read_query
from wxtcb.errors import InvalidArgument

from .conftest import Cli, Platform

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
