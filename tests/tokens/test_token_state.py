"""Tests of the stored document of a TokenState: its JSON keys are fixed by version 1 of the format."""

from __future__ import annotations

import json

import pytest

from wxtcb.secret import Secret
from wxtcb.tokens.token_state import (
    Lease,
    RefreshFailure,
    RejectedRefresh,
    StoredTicket,
    StoredToken,
    TokenState,
    dump_state,
    parse_state,
)

# Version 1 of the format.
DOCUMENT = (
    '{"format":1,"token":{"value":"T0KEN","generation":3,"life":7200.0,"minted_at":1000.25,"by":"host:1",'
    '"cause":"advisory","took":0.5},"ticket":{"value":"ticket@@@1","created":1700000000,"kept_at":990.0},'
    '"lease":{"nonce":"n0nce","by":"host:2","until":1010.5,"counted":true,"contested":true},'
    '"trouble":{"failures":2,"reason":"refused","until":1012.0,"pause":2.0},"mints":[1000.25,1005.5],"contests":4,'
    '"refusal":{"errcode":40125,"errmsg":"invalid appsecret","by":"host:3","at":1007.0},"revision":12}'
)
STATE = TokenState(
    token=StoredToken(
        Secret("T0KEN"), 3, ttl=7200.0, requested_at=1000.25, fetched_by="host:1", reason="advisory", latency=0.5
    ),
    ticket=StoredTicket(Secret("ticket@@@1"), create_time=1_700_000_000, stored_at=990.0),
    lease=Lease("n0nce", owner="host:2", expires_at=1010.5, counts_as_fetch=True, is_conflict=True),
    failure=RefreshFailure(count=2, reason="refused", retry_at=1012.0, backoff=2.0),
    fetch_times=(1000.25, 1005.5),
    conflicts=4,
    rejection=RejectedRefresh(40125, "invalid appsecret", owner="host:3", rejected_at=1007.0),
    revision=12,
)


def test_document_of_version_1_is_read():
    """Every field of a document in version 1 of the format is read."""
    assert parse_state(DOCUMENT) == STATE


def test_document_is_written_in_version_1():
    """The written document is version 1 of the format, byte for byte."""
    assert dump_state(STATE) == DOCUMENT


def test_empty_state_has_every_key():
    """An empty state is written with all keys."""
    assert json.loads(dump_state(TokenState())) == {
        "format": 1,
        "token": None,
        "ticket": None,
        "lease": None,
        "trouble": None,
        "mints": [],
        "contests": 0,
        "refusal": None,
        "revision": 0,
    }
    assert parse_state(dump_state(TokenState())) == TokenState()


@pytest.mark.parametrize("document", ["", "null", "[]", '{"format":2}', '{"format":1,"token":5}'])
def test_invalid_document_is_not_read(document):
    """A document of another format, or of another program, is None."""
    assert parse_state(document) is None


def test_no_repr_shows_a_secret():
    """The repr of a state shows neither token nor ticket."""
    assert "T0KEN" not in repr(STATE)
    assert "@@@" not in repr(STATE)
