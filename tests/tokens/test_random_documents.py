"""Random documents of token stores: each becomes a typed state or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json

import attrs
from cryptography.fernet import Fernet
from hypothesis import given, settings, strategies as st

from tests.random_json import documents, untyped_parts
from wxtcb.errors import TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.token_state import TokenState, dump_state, parse_state

from .test_token_state import STATE

APPID = "wx0123456789abcdef"
SAMPLES = tuple(json.loads(dump_state(state)) for state in (STATE, TokenState(), attrs.evolve(STATE, lease=None)))
KEY = Fernet.generate_key()


@settings(max_examples=300)
@given(documents(SAMPLES))
def test_any_document_is_a_typed_state_or_unreadable(document):
    """A state has the types of its annotations, can be used at any time, and is written as it was read."""
    state = parse_state(document.decode(errors="replace"))
    if state is None:
        return
    assert untyped_parts(state, TokenState) == []
    assert parse_state(dump_state(state)) == state
    for now in (0.0, 1e12):
        state.recent_fetch_times(now)
        state.conflict_backoff(now)
        state.with_lease("n", "host:1", now, not_latest=True, counts_as_fetch=True)
        state.with_ticket(Secret("t"), 1, now)


@settings(max_examples=100)
@given(documents(SAMPLES), st.booleans())
def test_any_document_in_a_store_is_a_state_or_an_error(document, is_encrypted):
    """A document that cannot be read raises `TokenStoreError`, also behind encryption."""

    async def read():
        store = MemoryStore(lambda: 0.0)
        encrypted = EncryptedStore(store, KEY)
        writer = encrypted if is_encrypted else store
        await writer.compare_and_set(APPID, document.decode(errors="replace"), version="")
        for each in (encrypted, store):
            with contextlib.suppress(TokenStoreError):
                snapshot = await StateRepository(each, APPID).read()
                assert untyped_parts(snapshot.state, TokenState) == []

    asyncio.run(read())
