"""Tests of store URLs."""

from __future__ import annotations

import sys
import traceback
from types import SimpleNamespace

import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.store_urls import open_store
from wxtcb.tokens.stores import SqliteStore

APPID = "wx0123456789abcdef"
WITH_PASSWORD = Secret("redis://user:S3CRET@host")


@pytest.fixture
def redis_urls(monkeypatch):
    """Replace the module of RedisStore, and return the URLs it gets; a URL with port 99999 is invalid."""
    urls = []

    def from_url(url):
        urls.append(url)
        if "99999" in url:
            raise ValueError(f"Port out of range in {url}")
        return SimpleNamespace()

    module = SimpleNamespace(RedisStore=SimpleNamespace(from_url=from_url))
    monkeypatch.setitem(sys.modules, "wxtcb.tokens.redis", module)
    return urls


@pytest.mark.parametrize("wrap", [str, Secret])
async def test_sqlite_url_is_a_file(tmp_path, monkeypatch, wrap):
    """Three slashes begin a relative path, four an absolute one; special characters are percent-encoded."""
    monkeypatch.chdir(tmp_path)
    urls = ["sqlite:///tokens.db", f"SQLite:///{tmp_path}/a%20b%3F%23.db", "sqlite:///./令牌.db"]
    for url, name in zip(urls, ["tokens.db", "a b?#.db", "令牌.db"], strict=True):
        store = open_store(wrap(url))
        assert isinstance(store, SqliteStore)
        assert await store.compare_and_set(APPID, "document", version="")
        await store.aclose()
        assert (tmp_path / name).exists()


@pytest.mark.parametrize(("path", "count"), [("tokens.db", 1), ("./tokens.db", 1), ("{}/tokens.db", 0)])
async def test_new_file_of_a_relative_path_is_a_warning(tmp_path, monkeypatch, caplog, path, count):
    """It names the file; there is none for an absolute path, or for a file that exists."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        store = open_store(f"sqlite:///{path.format(tmp_path)}")
        await store.load(APPID)
        await store.aclose()
    assert len(caplog.records) == count
    assert all(f"created the token store {tmp_path}/tokens.db" in each.getMessage() for each in caplog.records)


@pytest.mark.parametrize("url", ["redis://:S3CRET@127.0.0.1/0", "rediss://cache:6380", "unix:///run/valkey.sock?db=1"])
def test_redis_urls_are_passed_to_the_store(redis_urls, url):
    """RedisStore gets the URL unchanged, and its result is returned."""
    assert isinstance(open_store(url), SimpleNamespace)
    assert redis_urls == [url]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begin with sqlite:///"),
        ("mysql://me:S3CRET@db/x", "begin with sqlite:///"),
        ("postgres://me:S3CRET@db/x", "sslmode=verify-full"),
        ("postgresql://me:S3CRET@[db/x", "must be postgresql://"),
        ("/var/lib/S3CRET.db", "begin with sqlite:///"),
        (None, "begin with sqlite:///"),
        (Secret("S3CRET"), "begin with sqlite:///"),
        ("sqlite:S3CRET.db", "three slashes"),
        ("sqlite:/S3CRET.db", "three slashes"),
        ("sqlite://S3CRET.db", "three slashes"),
        ("sqlite://me:S3CRET@host/x.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:///S3CRET.db?mode=ro", "no options"),
        ("sqlite:///S3CRET.db#1", "no options"),
        ("sqlite:///:memory:", "MemoryStore"),
        ("sqlite:///%00", "path must be"),
        ("sqlite://[S3CRET", "not a valid sqlite://"),
        ("redis://:S3CRET@host:99999", "not a valid redis://"),
    ],
)
def test_invalid_url_is_rejected_and_not_shown(redis_urls, url, words):
    """Neither the message nor a frame of the package shows the URL, which may contain a password."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        open_store(url)
    story = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "S3CRET" not in "".join([str(caught.value), *(str(frame.locals) for frame in [*story.stack][1:])])
    assert caught.value.__context__ is None


def test_missing_extra_is_named(monkeypatch):
    """A missing extra is an InvalidArgument. No frame of it or of its causes holds the URL."""
    monkeypatch.delitem(sys.modules, "wxtcb.tokens.redis", raising=False)
    monkeypatch.delattr("wxtcb.tokens.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(
        InvalidArgument, match=r"wxtcb.tokens.redis needs redis: pip install 'wxtcb\[redis\]'"
    ) as caught:
        open_store(WITH_PASSWORD)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "S3CRET" not in "".join(frames.format())
