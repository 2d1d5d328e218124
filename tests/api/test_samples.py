"""The documented request and reply of each call, one file each.

A file holds the call as one writes it, the path, the query beside the token and the body it must make, the platform's
reply, and the value that the reply must become. The documented sample of an endpoint has its name; more of the same
begin with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wxtcb
from wxtcb import api
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS

SAMPLES = {file.stem: json.loads(file.read_text()) for file in sorted(Path(__file__).parents[1].glob("samples/*.json"))}
NAMES = {**{name: getattr(api, name) for name in dir(api)}, "wxtcb": wxtcb}


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
    """The token goes into the query of the component calls, and those below it buy and send none."""
    below = sample["path"].startswith("/cgi-bin/component/")
    [sent] = platform.sent
    assert sent.query == sample.get("query", {}) | ({} if below else {"access_token": "token-of-the-session"})
    assert len(platform.bought) == (0 if below else 1)


def test_every_call_has_a_sample():
    """No endpoint is without the file of its name, and none has the sample of another path."""
    paths = {each.name: each.path for each in wxtcb.endpoints()}
    assert {name: SAMPLES[name]["path"] for name in paths if name in SAMPLES} == paths


@pytest.mark.parametrize("path", ENDPOINT_SCHEMAS)
def test_the_samples_of_a_path_send_every_field_that_there_is(path):
    """What the sandbox's facts allow in a request goes out in at least one, under that name: no spelling is untried."""
    sent = [sample for sample in SAMPLES.values() if sample["path"] == path]
    named = {place for sample in sent for place in (*sample.get("query", {}), *places_of(sample["request"]))}
    known = {
        place
        for shape in (ENDPOINT_SCHEMAS[path].query_schema, *ENDPOINT_SCHEMAS[path].body_schemas.values())
        for place in places_in(shape)
    }
    assert named == known


def places_of(node, above=""):
    """Go through the names of the fields of JSON, those inside of others with these in front."""
    for entry in node if isinstance(node, list) else [node]:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            yield f"{above}{name}"
            yield from places_of(value, f"{above}{name}.")


def places_in(shape, above=""):
    """Go through the fields that the facts name, in the same way."""
    for name, field in shape.fields.items():
        yield f"{above}{name}"
        yield from places_in(field.object_schema, f"{above}{name}.") if field.object_schema else ()
