"""Whole uploads before the simulated platform: what is stored, what is refused, and how many go at once."""

from __future__ import annotations

import asyncio
import gc
import os

import aiohttp
import pytest

import wxtcb
from wxtcb import InvalidArgument, TransferError
from wxtcb._object_storage.body import TransferAborted, UploadBody, open_source
from wxtcb.api import hosting, storage

LINK = "/componenttcb/uploadfile"
PAGE_LINK = "/componenttcb/staticuploadfile"
DOWN_LINK = "/componenttcb/batchdownloadfile"
POST = "/_cos/post"
PUT = "/_cos/put"
GET = "/_cos/get"
BIG = b"0123456789abcdef" * (1 << 18)


async def pieces(*parts):
    for part in parts:
        yield part


async def test_bytes_are_stored(store, stored):
    """What is given is there, and how much it is comes back."""
    assert (await store(b"hello")).size == 5
    assert stored() == b"hello"


async def test_nothing_is_stored_as_nothing(store, stored):
    """An empty file is a file."""
    assert (await store(b"")).size == 0
    assert stored() == b""


async def test_a_file_is_stored(store, stored, tmp_path):
    """A path, as a text or a `Path`, stands for the bytes of its file."""
    file = tmp_path / "f"
    file.write_bytes(BIG)
    await store(file)
    assert stored() == BIG
    file.write_bytes(b"x")
    await store(str(file), size=1)
    assert stored() == b"x"


async def test_an_iterator_is_stored(store, stored):
    """Its pieces are joined, whatever kind of bytes they are, and empty ones do no harm."""
    await store(pieces(b"", b"ab", bytearray(b"c"), memoryview(b"de"), b""), size=5)
    assert stored() == b"abcde"


@pytest.mark.parametrize("size", [4, 6])
async def test_an_iterator_of_another_size_breaks_the_upload(store, stored, size):
    """More or less than announced makes no object, and leaves the older one."""
    await store(b"older")
    with pytest.raises(TransferError, match=r"5 of 6 bytes|more than the 4") as caught:
        await store(pieces(b"abcd", b"e"), size=size)
    assert (caught.value.stored, stored()) == (False, b"older")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_what_the_source_raises_is_the_cause(store, stored):
    """The caller finds his own error below ours, and nothing was stored."""

    async def broken():
        yield b"ab"
        raise ConnectionError("my own trouble")

    with pytest.raises(TransferError, match="my own trouble") as caught:
        await store(broken(), size=3)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert (caught.value.stored, stored()) == (False, None)


async def test_a_source_gives_bytes(store):
    """A text is none."""
    with pytest.raises(TransferError, match="not str"):
        await store(pieces("ab"), size=2)


async def test_progress_is_told(store):
    """The callback hears of what was sent, and of all, up to the end."""
    told = []
    await store(BIG, progress=lambda *step: told.append(step))
    assert told[-1] == (len(BIG), len(BIG))
    assert len(told) == len(BIG) // (256 * 1024)
    assert told == sorted(told)


async def test_a_progress_callback_that_raises_ends_the_upload(store, stored):
    """Its error is the cause; before the last bytes nothing is stored."""
    with pytest.raises(TransferError, match="ZeroDivisionError") as caught:
        await store(BIG, progress=lambda sent, _: sent // 0)
    assert (caught.value.stored, stored()) == (False, None)


async def test_a_progress_callback_that_raises_at_the_end_stops_nothing(store, stored):
    """All had left, so the answer is waited for: the error says that the file is there."""
    with pytest.raises(TransferError, match="was stored") as caught:
        await store(b"hello", progress=lambda *_: 1 // 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (caught.value.stored, stored()) == (True, b"hello")


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "zero"])
async def test_a_file_that_cannot_be_sent_is_told_before_anything(store, box, tmp_path, what):
    """No link is asked for where there is no regular file."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    seen = len(box.seen)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        await store(tmp_path / what if what != "zero" else "a\0b")
    assert len(box.seen) == seen


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (7, {}, "must be a path, bytes or"),
        (None, {}, "must be a path, bytes or"),
        (b"ab", {"size": 3}, "has 2 bytes"),
        (b"ab", {"size": -1}, "integer"),
        (b"ab", {"size": True}, "integer"),
        (pieces(b"a"), {}, "size"),
    ],
)
async def test_a_source_that_is_none_is_refused(store, box, source, options, words):
    """Nothing is sent for it."""
    seen = len(box.seen)
    with pytest.raises(InvalidArgument, match=words):
        await store(source, **options)
    assert len(box.seen) == seen


async def test_a_path_of_bytes_is_refused(store):
    """Paths are texts here."""

    class Odd:
        def __fspath__(self):
            return b"a"

    with pytest.raises(InvalidArgument, match="bytes"):
        await store(Odd())


async def test_nothing_of_a_session_of_the_callers_gets_there(connect, env, box, monkeypatch):
    """Its middlewares, headers, cookies and credentials are for WeChat; only its connector is used."""
    heads, passed = [], []
    serve = type(box)._serve_object

    async def noting(box, request):
        heads.append(dict(request.headers))
        return await serve(box, request)

    async def middleware(request, handler):
        passed.append(request.url.path)
        return await handler(request)

    monkeypatch.setattr(type(box), "_serve_object", noting)
    jar = aiohttp.CookieJar(unsafe=True)
    jar.update_cookies({"mine": "cookie"}, aiohttp.client.URL(box.url))
    options = {"headers": {"X-Mine": "1", "Authorization": "Basic me"}, "middlewares": (middleware,)}
    async with aiohttp.ClientSession(cookie_jar=jar, **options) as http:
        async with connect(http=http) as session:
            done = await storage.upload_file(session, env, "a", b"hello")
        assert not http.closed
        assert not http.connector.closed
    assert done.size == 5
    assert not {"X-Mine", "Authorization", "Cookie"} & heads[0].keys()
    assert "/_cos" not in "".join(passed)


async def test_a_connector_of_the_callers_is_used(connect, env):
    """It stays his to close; once it is closed nothing is sent."""
    async with aiohttp.TCPConnector() as connector, connect(http=connector) as session:
        await storage.upload_file(session, env, "a", b"hello")
        assert session.storage_client._session.connector is connector
        await connector.close()
        with pytest.raises(wxtcb.WxtcbError):
            await storage.upload_file(session, env, "a", b"hello")


async def test_no_file_stays_open(session, env, tmp_path):
    """Sent or refused, the source is closed: a warning would fail this test."""
    (tmp_path / "f").write_bytes(b"x")
    await storage.upload_file(session, env, "a", tmp_path / "f")
    with pytest.raises(InvalidArgument):
        await storage.upload_file(session, env, "a", tmp_path / "f", size=2)
    gc.collect()


class DeadWriter:
    """A connection that is lost."""

    async def write(self, _):
        raise ConnectionResetError


async def test_a_connection_that_is_lost_is_no_trouble_of_the_source():
    """The body stops, and what comes of it is the request's to tell."""
    async with open_source(b"hello", None) as source:
        outflow = UploadBody(source, "text/plain", 1, None)
        with pytest.raises(TransferAborted):
            await outflow.write(DeadWriter())
    assert (outflow.error, outflow.stalled, outflow.sent, outflow.fully_sent) == (None, False, 0, True)


async def test_a_file_on_its_way_is_not_held_in_memory():
    """Nobody can have the whole of it as a text."""
    async with open_source(b"hello", None) as source:
        with pytest.raises(TypeError, match="cannot be decoded"):
            UploadBody(source, "text/plain", 1, None).decode()


async def test_a_generator_that_is_left_in_the_middle_is_closed(session, env):
    """What it holds open is let go before the upload ends, not when somebody collects garbage."""

    async def generator():
        try:
            for _ in range(64):
                yield bytes(1 << 18)
        finally:
            closed.append(asyncio.current_task() is not None)

    closed = []
    with pytest.raises(TransferError):
        await storage.upload_file(session, env, "a", generator(), size=64 << 18, progress=lambda *_: 1 // 0)
    assert closed == [True]


async def test_what_is_no_generator_need_not_be_closed(session, env):
    """Any asynchronous iterator will do."""

    class Once:
        def __init__(self):
            self.left = [b"ab"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    assert (await storage.upload_file(session, env, "a", Once(), size=2)).size == 2


@pytest.mark.parametrize("way", ["file", "page", "down"])
async def test_only_so_many_are_under_way_at_once(connect, box, site, tmp_path, way):
    """The others hold neither file nor link nor connection."""
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    async with connect(connections=3) as session:
        file_id = (await storage.upload_file(session, site, "a", b"hello")).file_id
        link, path, start = {
            "file": (LINK, POST, lambda name: storage.upload_file(session, site, name, source)),
            "page": (PAGE_LINK, PUT, lambda name: hosting.upload_file(session, site, name, source)),
            "down": (DOWN_LINK, GET, lambda name: storage.download_file(session, site, file_id, tmp_path / name)),
        }[way]
        links, moves = box.count(link), box.count(path)
        box.faults.hang(path=path, times=None)
        tasks = [asyncio.create_task(start(f"{number}")) for number in range(10)]
        while box.count(path) < moves + 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert (box.count(link), box.count(path)) == (links + 3, moves + 3)
        box.faults.clear()
        for task in tasks[:3]:
            task.cancel()
        await asyncio.gather(*tasks[3:])
    assert all(task.cancelled() for task in tasks[:3])


async def test_who_waits_for_a_turn_hears_that_the_session_closes(connect, env, box):
    """Nothing was sent for it."""
    async with connect(connections=1) as session:
        box.faults.hang(path=POST)
        first = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        second = asyncio.create_task(storage.upload_file(session, env, "b", b"hello"))
        while not box.count(POST):
            await asyncio.sleep(0.001)
    with pytest.raises(wxtcb.SessionClosed):
        await second
    with pytest.raises(TransferError):
        await first
    assert box.count(LINK) == 1


async def test_many_go_up_at_once(session, env, box):
    """They share nothing but the session."""
    await asyncio.gather(*(storage.upload_file(session, env, f"{n}", b"%d" % n) for n in range(50)))
    assert [box.world.storage.read(env, f"{n}") for n in range(50)] == [b"%d" % n for n in range(50)]
