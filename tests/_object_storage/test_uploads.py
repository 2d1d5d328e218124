"""Uploads to the sandbox: sources, progress, errors and concurrency."""

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
    """The result has their number."""
    assert (await store(b"hello")).size == 5
    assert stored() == b"hello"


async def test_empty_file_is_stored(store, stored):
    """An object of zero bytes is created."""
    assert (await store(b"")).size == 0
    assert stored() == b""


async def test_file_is_stored(store, stored, tmp_path):
    """Its path may be a string or a `Path`."""
    file = tmp_path / "f"
    file.write_bytes(BIG)
    await store(file)
    assert stored() == BIG
    file.write_bytes(b"x")
    await store(str(file), size=1)
    assert stored() == b"x"


async def test_iterator_is_stored(store, stored):
    """Chunks of all bytes-like types are joined, and empty ones are ignored."""
    await store(pieces(b"", b"ab", bytearray(b"c"), memoryview(b"de"), b""), size=5)
    assert stored() == b"abcde"


@pytest.mark.parametrize("size", [4, 6])
async def test_iterator_of_another_size_fails(store, stored, size):
    """No object is created, and an existing one is unchanged."""
    await store(b"older")
    with pytest.raises(TransferError, match=r"5 of 6 bytes|more than the 4") as caught:
        await store(pieces(b"abcd", b"e"), size=size)
    assert (caught.value.stored, stored()) == (False, b"older")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_exception_of_the_source_is_the_cause(store, stored):
    """Nothing is stored."""

    async def broken():
        yield b"ab"
        raise ConnectionError("my own trouble")

    with pytest.raises(TransferError, match="my own trouble") as caught:
        await store(broken(), size=3)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert (caught.value.stored, stored()) == (False, None)


async def test_source_must_yield_bytes(store):
    """Strings are rejected."""
    with pytest.raises(TransferError, match="not str"):
        await store(pieces("ab"), size=2)


async def test_progress_is_reported(store):
    """The callback gets the bytes sent and the total."""
    reported = []
    await store(BIG, progress=lambda *step: reported.append(step))
    assert reported[-1] == (len(BIG), len(BIG))
    assert len(reported) == len(BIG) // (256 * 1024)
    assert reported == sorted(reported)


async def test_exception_of_the_progress_callback_aborts_the_upload(store, stored):
    """It is the cause of the error, and nothing is stored."""
    with pytest.raises(TransferError, match="ZeroDivisionError") as caught:
        await store(BIG, progress=lambda sent, _: sent // 0)
    assert (caught.value.stored, stored()) == (False, None)


async def test_exception_of_the_last_progress_callback_waits_for_the_response(store, stored):
    """The error says that the file was stored."""
    with pytest.raises(TransferError, match="was stored") as caught:
        await store(b"hello", progress=lambda *_: 1 // 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (caught.value.stored, stored()) == (True, b"hello")


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "zero"])
async def test_unreadable_file_is_reported_first(store, sandbox, tmp_path, what):
    """No link is requested."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    seen = len(sandbox.seen)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        await store(tmp_path / what if what != "zero" else "a\0b")
    assert len(sandbox.seen) == seen


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
async def test_invalid_source_is_rejected(store, sandbox, source, options, words):
    """Nothing is sent."""
    seen = len(sandbox.seen)
    with pytest.raises(InvalidArgument, match=words):
        await store(source, **options)
    assert len(sandbox.seen) == seen


async def test_path_of_type_bytes_is_rejected(store):
    """Paths are strings."""

    class Odd:
        def __fspath__(self):
            return b"a"

    with pytest.raises(InvalidArgument, match="bytes"):
        await store(Odd())


async def test_session_of_the_caller_is_used_only_for_its_connector(connect, env, sandbox, monkeypatch):
    """Its middlewares, headers, cookies and credentials are for WeChat."""
    heads, passed = [], []
    serve = type(sandbox)._serve_object

    async def noting(sandbox, request):
        heads.append(dict(request.headers))
        return await serve(sandbox, request)

    async def middleware(request, handler):
        passed.append(request.url.path)
        return await handler(request)

    monkeypatch.setattr(type(sandbox), "_serve_object", noting)
    jar = aiohttp.CookieJar(unsafe=True)
    jar.update_cookies({"mine": "cookie"}, aiohttp.client.URL(sandbox.url))
    options = {"headers": {"X-Mine": "1", "Authorization": "Basic me"}, "middlewares": (middleware,)}
    async with aiohttp.ClientSession(cookie_jar=jar, **options) as http:
        async with connect(http=http) as session:
            done = await storage.upload_file(session, env, "a", b"hello")
        assert not http.closed
        assert not http.connector.closed
    assert done.size == 5
    assert not {"X-Mine", "Authorization", "Cookie"} & heads[0].keys()
    assert "/_cos" not in "".join(passed)


async def test_connector_of_the_caller_is_used_and_not_closed(connect, env):
    """Once the caller closes it, uploads fail without sending."""
    async with aiohttp.TCPConnector() as connector, connect(http=connector) as session:
        await storage.upload_file(session, env, "a", b"hello")
        assert session.storage_client._session.connector is connector
        await connector.close()
        with pytest.raises(wxtcb.WxtcbError):
            await storage.upload_file(session, env, "a", b"hello")


class BrokenConnector(aiohttp.TCPConnector):
    """Connector with a programming error for requests to object storage; `attempts` counts them."""

    attempts = 0

    async def connect(self, req, *args, **options):
        if req.url.path.startswith("/_cos"):
            self.attempts += 1
            raise KeyError("a name that the connector lacks")
        return await super().connect(req, *args, **options)


@pytest.mark.parametrize("transfer", ["upload", "download"])
async def test_programming_error_ends_a_transfer_at_once(connect, session, env, tmp_path, transfer):
    """The error names the file and line of the caller's connector."""
    file_id = (await storage.upload_file(session, env, "a", b"hello")).file_id
    async with BrokenConnector() as connector, connect(http=connector) as broken:
        run = (
            storage.upload_file(broken, env, "a", b"hello")
            if transfer == "upload"
            else storage.download_file(broken, env, file_id, tmp_path / "f")
        )
        with pytest.raises(TransferError, match=r"KeyError; fix the code .*test_uploads\.py, line"):
            await run
    assert connector.attempts == 1


async def test_user_agent_of_a_transfer_is_that_of_all_requests(connect, env, sandbox, monkeypatch):
    """Object storage sees which library sends the request."""
    seen = []
    serve = type(sandbox)._serve_object

    async def recording(sandbox, request):
        seen.append(request.headers["User-Agent"])
        return await serve(sandbox, request)

    monkeypatch.setattr(type(sandbox), "_serve_object", recording)
    async with connect() as session:
        await storage.upload_file(session, env, "a", b"hello")
    assert {each.partition("/")[0] for each in seen} == {"wxtcb"}


async def test_no_file_stays_open(session, env, tmp_path):
    """The source is closed after success and failure."""
    (tmp_path / "f").write_bytes(b"x")
    await storage.upload_file(session, env, "a", tmp_path / "f")
    with pytest.raises(InvalidArgument):
        await storage.upload_file(session, env, "a", tmp_path / "f", size=2)
    gc.collect()


class LostWriter:
    """Writer whose connection is lost."""

    async def write(self, _):
        raise ConnectionResetError


async def test_lost_connection_is_not_an_error_of_the_source():
    """The body stops, and the request reports the failure."""
    async with open_source(b"hello", None) as source:
        outflow = UploadBody(source, "text/plain", 1, None)
        with pytest.raises(TransferAborted):
            await outflow.write(LostWriter())
    assert (outflow.error, outflow.stalled, outflow.sent, outflow.fully_sent) == (None, False, 0, True)


async def test_upload_body_cannot_be_decoded():
    """It is not in memory."""
    async with open_source(b"hello", None) as source:
        with pytest.raises(TypeError, match="cannot be decoded"):
            UploadBody(source, "text/plain", 1, None).decode()


async def test_unfinished_generator_is_closed(session, env):
    """Its resources are released before the upload ends."""

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


async def test_iterator_without_aclose_is_accepted(session, env):
    """Any asynchronous iterator works."""

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
async def test_concurrent_uploads_are_limited(connect, sandbox, site, tmp_path, way):
    """Waiting uploads hold neither file nor link nor connection."""
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    async with connect(connections=3) as session:
        file_id = (await storage.upload_file(session, site, "a", b"hello")).file_id
        link, path, start = {
            "file": (LINK, POST, lambda name: storage.upload_file(session, site, name, source)),
            "page": (PAGE_LINK, PUT, lambda name: hosting.upload_file(session, site, name, source)),
            "down": (DOWN_LINK, GET, lambda name: storage.download_file(session, site, file_id, tmp_path / name)),
        }[way]
        links, moves = sandbox.count(link), sandbox.count(path)
        sandbox.faults.hang(path=path, times=None)
        tasks = [asyncio.create_task(start(f"{number}")) for number in range(10)]
        while sandbox.count(path) < moves + 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert (sandbox.count(link), sandbox.count(path)) == (links + 3, moves + 3)
        sandbox.faults.clear()
        for task in tasks[:3]:
            task.cancel()
        await asyncio.gather(*tasks[3:])
    assert all(task.cancelled() for task in tasks[:3])


async def test_waiting_upload_ends_when_the_session_closes(connect, env, sandbox):
    """No request was sent."""
    async with connect(connections=1) as session:
        sandbox.faults.hang(path=POST)
        first = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        second = asyncio.create_task(storage.upload_file(session, env, "b", b"hello"))
        while not sandbox.count(POST):
            await asyncio.sleep(0.001)
    with pytest.raises(wxtcb.SessionClosed):
        await second
    with pytest.raises(TransferError):
        await first
    assert sandbox.count(LINK) == 1


async def test_concurrent_uploads_are_independent(session, env, sandbox):
    """All files are stored correctly."""
    await asyncio.gather(*(storage.upload_file(session, env, f"{n}", b"%d" % n) for n in range(50)))
    assert [sandbox.world.storage.read(env, f"{n}") for n in range(50)] == [b"%d" % n for n in range(50)]
