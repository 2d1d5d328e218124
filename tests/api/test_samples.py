"""The documented request and reply of each call, one file each.

A file holds the call as one writes it, the request body and the path it must make, the platform's reply, and the value
that the reply must become.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wxtcb
from wxtcb.api import cloudrun, containers, environment, token

SAMPLES = {file.stem: json.loads(file.read_text()) for file in sorted(Path(__file__).parent.glob("samples/*.json"))}
NAMES = {"cloudrun": cloudrun, "containers": containers, "environment": environment, "token": token, "wxtcb": wxtcb}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def sample(request, platform):
    """Let the platform answer as one sample says, and give the sample."""
    platform.keeps_token_calls = "api_component_token" in request.param["path"]
    platform.replies = [request.param["reply"]]
    return request.param


@pytest.fixture
async def returned(sample, make_session):
    """Make the call of the sample and give what it returned."""
    async with make_session(**sample.get("session", {})) as session:
        view = session.with_options(partial="return")
        return await eval(sample["call"], {**NAMES, "session": view})


async def test_the_request_of_a_sample_goes_out_as_documented(sample, returned, platform):
    """The JSON that crosses the border equals the sample's, value for value, on the documented path."""
    [sent] = platform.sent
    assert (sent.path, sent.body) == (sample["path"], sample["request"])


async def test_the_reply_of_a_sample_comes_back_typed(sample, returned):
    """The reply becomes exactly the typed value that the sample gives."""
    assert returned == eval(sample["gives"], NAMES)


async def test_the_raw_reply_of_a_sample_stays_reachable(sample, returned):
    """`wxtcb.raw` gives the reply's JSON, unless that holds a secret."""
    if type(returned).keeps_raw:
        assert wxtcb.raw(returned) == sample["reply"]
    else:
        with pytest.raises(wxtcb.InvalidArgument):
            wxtcb.raw(returned)


async def test_only_calls_above_the_token_carry_one(sample, returned, platform):
    """The token goes into the query of the component calls, and the two calls below it buy and send none."""
    below = sample["path"].startswith("/cgi-bin/component/")
    [sent] = platform.sent
    assert sent.query == ({} if below else {"access_token": "token-of-the-session"})
    assert len(platform.bought) == (0 if below else 1)


def test_every_call_has_a_sample():
    """No endpoint is without its file."""
    assert {each.path for each in wxtcb.endpoints()} == {each["path"] for each in SAMPLES.values()}
