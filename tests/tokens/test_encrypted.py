"""Documents that nobody reads without the key."""

from __future__ import annotations

import sys
import traceback

import pytest

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.stores import MemoryStore, SqliteStore

APPID = "wx0123456789abcdef"
OLD, NEW = "o" * 43 + "=", "n" * 43 + "="


@pytest.fixture
def store():
    """Give the store beneath."""
    return MemoryStore()


async def test_the_document_is_not_in_the_bytes_of_the_store(tmp_path):
    """Neither file nor log holds it in the clear."""
    async with SqliteStore(tmp_path / "tokens.db") as file:
        sealed = EncryptedStore(file, NEW)
        assert await sealed.compare_and_set(APPID, "T0KEN-in-the-clear", version="")
        assert (await sealed.load(APPID)).document == "T0KEN-in-the-clear"
        assert "T0KEN" not in (await file.load(APPID)).document
        assert all(b"T0KEN" not in each.read_bytes() for each in tmp_path.iterdir())
    assert b"T0KEN" not in (tmp_path / "tokens.db").read_bytes()


@pytest.mark.parametrize("key", [NEW, NEW.encode(), Secret(NEW), [NEW], (Secret(NEW), OLD.encode())], ids=repr)
async def test_a_key_is_given_in_many_ways(store, key):
    """As text, bytes or Secret, alone or with others: it is the same key."""
    assert await EncryptedStore(store, key).compare_and_set(APPID, "document", version="")
    assert (await EncryptedStore(store, NEW).load(APPID)).document == "document"


async def test_the_first_of_several_keys_encrypts_and_all_decrypt(store):
    """So a key is changed while processes run."""
    assert await EncryptedStore(store, OLD).compare_and_set(APPID, "old", version="")
    both = EncryptedStore(store, [NEW, OLD])
    kept = await both.load(APPID)
    assert kept.document == "old"
    assert await both.compare_and_set(APPID, "new", version=kept.version)
    assert (await EncryptedStore(store, NEW).load(APPID)).document == "new"


@pytest.mark.parametrize("document", ["in the clear: T0KEN", "", "令牌", "\ud800", "g" * 200, None], ids=repr)
async def test_what_the_key_does_not_open_is_an_error_that_shows_nothing(store, document):
    """Sealed with another key, not sealed, or spoilt: it stays as it is."""
    if document is None:
        await EncryptedStore(store, OLD).compare_and_set(APPID, "T0KEN", version="")
    else:
        await store.compare_and_set(APPID, document, version="")
    before = await store.load(APPID)
    with pytest.raises(TokenStoreError, match="not encrypted with any of the given keys") as caught:
        await EncryptedStore(store, NEW).load(APPID)
    assert caught.value.permanent
    assert "T0KEN" not in str(caught.value)
    assert (await store.load(APPID)).document == before.document


@pytest.mark.parametrize(
    "key",
    ["S3CRET", b"S3CRET", Secret("S3CRET"), "", [], [NEW, "S3CRET"], None, 7, [7], [None], "ключ S3CRET", {}],
    ids=repr,
)
def test_a_key_that_is_none_is_refused_without_being_shown(store, key):
    """The error says what a key is, and no frame of ours holds what was given."""
    with pytest.raises(InvalidArgument, match=r"Fernet\.generate_key") as caught:
        EncryptedStore(store, key)
    story = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "S3CRET" not in "".join(line for frame in [*story.stack][1:] for line in [str(frame.locals), str(story)])
    assert caught.value.__context__ is None


def test_neither_key_nor_seal_is_in_the_repr(store):
    """A sealed store is safe to print."""
    shown = repr(EncryptedStore(store, NEW))
    assert shown == f"EncryptedStore(store={store!r})"


def test_without_cryptography_the_extra_is_named(store, monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ImportError, match=r"needs cryptography; .*pip install 'wxtcb\[ticket\]'"):
        EncryptedStore(store, NEW)
