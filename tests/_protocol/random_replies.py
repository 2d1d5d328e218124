"""Random replies of every endpoint, and the check that each becomes a typed reply or an error of wxtcb."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

import wxtcb
from tests.random_json import documents, read_everything, untyped_parts
from wxtcb import ApiError, BadReply, Secret
from wxtcb._protocol.codec import read_large_reply, read_reply

SECRETS = (Secret("secret-of-the-request"), Secret('q"uoted/secret'))
ENDPOINTS = {endpoint.name: endpoint for endpoint in wxtcb.endpoints()}
_FILES = sorted((Path(__file__).parents[1] / "samples").glob("*.json"))
_SAMPLES = [(path.stem, json.loads(path.read_text())["reply"]) for path in _FILES]
# The longest name: `batch_upload_scf_code` is not a sample of `batch_upload_scf`.
_NAMES = {stem: max((name for name in ENDPOINTS if stem.startswith(name)), key=len) for stem, _ in _SAMPLES}
REPLIES = {name: tuple(reply for stem, reply in _SAMPLES if _NAMES[stem] == name) for name in ENDPOINTS}


def replies() -> st.SearchStrategy[tuple[str, bytes]]:
    """Return a strategy for the name of an endpoint and the bytes of a reply."""
    return st.sampled_from([*ENDPOINTS]).flatmap(lambda name: st.tuples(st.just(name), documents(REPLIES[name])))


def check_reply(name: str, data: bytes) -> str:
    """Read a reply both ways; return the name of the class of the result."""
    endpoint = ENDPOINTS[name]
    result = read_reply(endpoint, data, SECRETS)
    assert isinstance(result, endpoint.reply | ApiError | BadReply)
    large = _run(read_large_reply(endpoint, data, SECRETS))
    assert type(large) is type(result)
    if isinstance(result, ApiError | BadReply):
        assert str(large) == str(result)
        return type(result).__name__
    assert large == result
    assert untyped_parts(result, endpoint.reply) == []
    assert all(True for _ in result.failed)
    read_everything(result)
    return "reply"


def _run(coroutine):
    """Return the result of a coroutine that waits for nothing."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value
