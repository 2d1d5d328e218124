"""Documented request and reply of each endpoint, one file each.

A file contains the call as Python code, the path, the query next to the token, the expected body, the platform's reply,
and the value that the reply becomes. The documented sample has the endpoint's name; the names of further samples begin
with it.
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
    """Let the platform answer as in one sample, and return the sample."""
    platform.keeps_token_calls = "api_component_token" in request.param["path"]
    platform.replies = [request.param["reply"]]
    return request.param


@pytest.fixture
async def returned(sample, make_session):
    """Run the call of the sample and return its result."""
    async with make_session(**sample.get("session", {})) as session:
        view = session.with_options(partial="return")
        return await eval(sample["call"], {**NAMES, "session": view})


async def test_request_of_a_sample_is_sent_as_documented(sample, returned, platform):
    """The JSON of the request equals the sample's, on the documented path."""
    [sent] = platform.sent
    assert (sent.path, sent.body) == (sample["path"], sample["request"])


async def test_reply_of_a_sample_is_typed(sample, returned):
    """The reply becomes exactly the value of the sample."""
    assert returned == eval(sample["gives"], NAMES)


async def test_raw_reply_of_a_sample_is_available(sample, returned):
    """`wxtcb.raw` returns the reply's JSON, unless it contains a secret."""
    if type(returned).keeps_raw:
        assert wxtcb.raw(returned) == sample["reply"]
    else:
        with pytest.raises(wxtcb.InvalidArgument):
            wxtcb.raw(returned)


async def test_only_component_calls_have_a_token(sample, returned, platform):
    """The token is in the query of component calls; the others neither fetch nor send one."""
    below = sample["path"].startswith("/cgi-bin/component/")
    [sent] = platform.sent
    assert sent.query == sample.get("query", {}) | ({} if below else {"access_token": "token-of-the-session"})
    assert len(platform.token_requests) == (0 if below else 1)


def test_every_endpoint_has_a_sample():
    """No endpoint lacks a sample, and none has the sample of another path."""
    paths = {each.name: each.path for each in wxtcb.endpoints()}
    assert {name: SAMPLES[name]["path"] for name in paths if name in SAMPLES} == paths


@pytest.mark.parametrize("path", ENDPOINT_SCHEMAS)
def test_samples_of_a_path_send_every_field(path):
    """Every field of the sandbox's schema is sent by at least one sample, so no spelling is untested."""
    sent = [sample for sample in SAMPLES.values() if sample["path"] == path]
    named = {place for sample in sent for place in (*sample.get("query", {}), *places_of(sample["request"]))}
    known = {
        place
        for shape in (ENDPOINT_SCHEMAS[path].query_schema, *ENDPOINT_SCHEMAS[path].body_schemas.values())
        for place in places_in(shape)
    }
    assert named == known


def places_of(node, above=""):
    """Yield the names of the fields of JSON; nested names begin with those of their parents."""
    for entry in node if isinstance(node, list) else [node]:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            yield f"{above}{name}"
            yield from places_of(value, f"{above}{name}.")


def places_in(shape, above=""):
    """Yield the fields of a schema in the same form."""
    for name, field in shape.fields.items():
        yield f"{above}{name}"
        yield from places_in(field.object_schema, f"{above}{name}.") if field.object_schema else ()
