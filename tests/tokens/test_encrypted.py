"""Tests of EncryptedStore."""

from __future__ import annotations

import sys
import traceback

import pytest
from cryptography.fernet import Fernet

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.stores import MemoryStore, SqliteStore

APPID = "wx0123456789abcdef"
OLD, NEW = "o" * 43 + "=", "n" * 43 + "="


@pytest.fixture
def store():
    """Return the store below."""
    return MemoryStore()


async def test_document_is_not_readable_in_the_file(tmp_path):
    """Neither file nor log contains it in the clear."""
    async with SqliteStore(tmp_path / "tokens.db") as file:
        encrypted = EncryptedStore(file, NEW)
        assert await encrypted.compare_and_set(APPID, "T0KEN-in-the-clear", version="")
        assert (await encrypted.load(APPID)).document == "T0KEN-in-the-clear"
        assert "T0KEN" not in (await file.load(APPID)).document
        assert all(b"T0KEN" not in each.read_bytes() for each in tmp_path.iterdir())
    assert b"T0KEN" not in (tmp_path / "tokens.db").read_bytes()


@pytest.mark.parametrize("key", [NEW, NEW.encode(), Secret(NEW), [NEW], (Secret(NEW), OLD.encode())], ids=repr)
async def test_key_types(store, key):
    """A key may be a string, bytes or a Secret, alone or in a list."""
    assert await EncryptedStore(store, key).compare_and_set(APPID, "document", version="")
    assert (await EncryptedStore(store, NEW).load(APPID)).document == "document"


async def test_first_key_encrypts_and_all_decrypt(store):
    """A key can be changed while processes run."""
    assert await EncryptedStore(store, OLD).compare_and_set(APPID, "old", version="")
    both = EncryptedStore(store, [NEW, OLD])
    stored = await both.load(APPID)
    assert stored.document == "old"
    assert await both.compare_and_set(APPID, "new", version=stored.version)
    assert (await EncryptedStore(store, NEW).load(APPID)).document == "new"


@pytest.mark.parametrize("document", ["in the clear: T0KEN", "", "令牌", "\ud800", "g" * 200, None], ids=repr)
async def test_document_that_no_key_decrypts_is_an_error(store, document):
    """A document with another key, in the clear, or corrupt raises, and stays unchanged."""
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
def test_invalid_key_is_rejected_and_not_shown(store, key):
    """Neither the message nor a frame of the package shows the key."""
    with pytest.raises(InvalidArgument, match=r"Fernet\.generate_key") as caught:
        EncryptedStore(store, key)
    story = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "S3CRET" not in "".join(line for frame in [*story.stack][1:] for line in [str(frame.locals), str(story)])
    assert caught.value.__context__ is None


def test_repr_shows_no_key(store):
    """The repr of an encrypted store shows no key."""
    shown = repr(EncryptedStore(store, NEW))
    assert shown == f"EncryptedStore(store={store!r})"


def test_without_cryptography_the_extra_is_named(store, monkeypatch):
    """The import error names the extra."""
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ImportError, match=r"needs cryptography: pip install 'wxtcb\[ticket\]'"):
        EncryptedStore(store, NEW)


async def test_close_closes_the_other_store_if_that_can_be_closed(tmp_path):
    """A store in memory has nothing to close."""
    await EncryptedStore(MemoryStore(), NEW).aclose()
    file = SqliteStore(tmp_path / "tokens.db")
    encrypted = EncryptedStore(file, NEW)
    await encrypted.load(APPID)
    await encrypted.aclose()
    with pytest.raises(TokenStoreError, match="closed"):
        await file.load(APPID)


@pytest.mark.parametrize("document", ["T0KEN", "wxtcb-store-1 3 wxB T0KEN"])
async def test_document_of_another_platform_is_rejected(store, document):
    """A program that copies a document to another appid, without the key, gets an error and not the other token."""
    encrypted = EncryptedStore(store, NEW)
    await encrypted.compare_and_set("wxA", document, version="")
    copied = (await store.load("wxA")).document
    await store.compare_and_set("wxB", copied, version="")
    with pytest.raises(TokenStoreError, match="encrypted for another platform than wxB") as caught:
        await encrypted.load("wxB")
    assert caught.value.permanent
    assert "T0KEN" not in str(caught.value)
    assert (await encrypted.load("wxA")).document == document


@pytest.mark.parametrize(
    "plaintext", ["{T0KEN}", "", f"wxtcb-store-2 18 {APPID} T0KEN", f"wxtcb-store-1 {APPID} T0KEN"]
)
async def test_document_that_names_no_platform_is_rejected(store, plaintext):
    """Another program with the same key may have written it, or an earlier version of wxtcb."""
    await store.compare_and_set(APPID, Fernet(NEW).encrypt(plaintext.encode()).decode(), version="")
    with pytest.raises(TokenStoreError, match="older wxtcb or by another program: delete the record") as caught:
        await EncryptedStore(store, NEW).load(APPID)
    assert caught.value.permanent
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize(("appid", "document"), [("wx A", "B"), ("", "wxA"), ("wx1 2", ""), ("令牌", "\ud800")])
async def test_document_of_any_appid_is_returned_unchanged(store, appid, document):
    """The appid in the ciphertext may have any characters, and is no part of the document."""
    encrypted = EncryptedStore(store, NEW)
    assert await encrypted.compare_and_set(appid, document, version="")
    assert (await encrypted.load(appid)).document == document


async def test_error_names_the_store_below(tmp_path):
    """The message has the path of the file."""
    async with SqliteStore(tmp_path / "tokens.db") as file:
        await file.compare_and_set(APPID, "in the clear", version="")
        with pytest.raises(TokenStoreError, match=f"sqlite:///{tmp_path}/tokens.db contains"):
            await EncryptedStore(file, NEW).load(APPID)
