"""Downloads: whole or not there, resumed after a break, and given up when nothing moves."""

from __future__ import annotations

import asyncio
import os

import pytest

import wxtcb
from wxtcb import InvalidArgument, TransferError
from wxtcb.api import storage
from wxtcb.sandbox import Fault, FaultKind

from .conftest import QUICK

GET = "/_cos/get"
BIG = bytes(range(256)) * 2048
ETAG = 'ETag: "e1"'


def said(status, body, *headers, length=None):
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@pytest.fixture
def target(tmp_path):
    """Give a path in a folder of its own."""
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "f"


@pytest.fixture
async def stored(session, env):
    """Give the id of a stored file."""
    return (await storage.upload_file(session, env, "a", BIG)).file_id


@pytest.fixture
async def plain(new_session):
    """Open a session for downloads from a raw server."""
    async with new_session(retry=QUICK, timeout=wxtcb.Timeout(connect=60, reply=60)) as session:
        yield session


def ranges(server):
    """Return what the requests asked for, from which byte on."""
    return [head.partition("Range: bytes=")[2].split("-")[0] or None for head, _ in server.requests]


async def test_a_file_is_downloaded(session, env, stored, target):
    """It is there as it was stored, with the rights of any new file, and nothing else is left beside it."""
    told = []
    got = await storage.download_file(session, env, stored, target, progress=lambda *step: told.append(step))
    assert (got.path, got.size, os.fspath(got)) == (target, len(BIG), str(target))
    assert target.read_bytes() == BIG
    assert told[-1] == (len(BIG), len(BIG))
    (target.parent / "other").touch()
    assert target.stat().st_mode == (target.parent / "other").stat().st_mode
    assert {each.name for each in target.parent.iterdir()} == {"f", "other"}


async def test_a_url_of_the_platforms_is_downloaded(session, env, box, target):
    """So is a database's export; an older file is replaced."""
    target.write_bytes(b"older")
    url = box.world.storage.write(env, "export.json", b"{}")
    await storage.download_url(session, wxtcb.Secret(url), str(target))
    assert target.read_bytes() == b"{}"


async def test_an_empty_file_is_downloaded(session, env, box, target):
    """A file of no bytes is there all the same."""
    await storage.download_url(session, box.world.storage.write(env, "e", b""), target)
    assert target.read_bytes() == b""


@pytest.mark.parametrize("trouble", [FaultKind.DROP, FaultKind.TRUNCATE, FaultKind.HTTP])
async def test_a_break_is_resumed_with_a_fresh_link(session, env, stored, *, target, box, trouble):
    """What has come is not asked for again."""
    box.faults.add(Fault(trouble, path=GET, times=2))
    told = []
    await storage.download_file(session, env, stored, target, progress=lambda size, _: told.append(size))
    assert target.read_bytes() == BIG
    assert told == sorted(told)
    assert box.count(GET) == 3
    assert box.count("/componenttcb/batchdownloadfile") == (
        2 if trouble is FaultKind.DROP else 3
    )  # aiohttp repeats a GET


async def test_it_gives_up_after_five_breaks_without_progress(session, env, stored, target, box):
    """Nothing is left behind, and what was there is as it was."""
    target.write_bytes(b"older")
    box.faults.http(502, path=GET)
    with pytest.raises(TransferError, match="HTTP 502") as caught:
        await storage.download_file(session, env, stored, target)
    assert (caught.value.status, caught.value.stored, box.count(GET)) == (502, None, 5)
    assert {each.name: each.read_bytes() for each in target.parent.iterdir()} == {"f": b"older"}


async def test_a_file_that_is_not_there_is_told_by_its_code(session, env, target):
    """The link already says so."""
    with pytest.raises(TransferError, match="STORAGE_FILE_NONEXIST") as caught:
        await storage.download_file(session, env, "cloud://nothing", target)
    assert (caught.value.code, caught.value.stored) == ("STORAGE_FILE_NONEXIST", None)
    assert list(target.parent.iterdir()) == []


async def test_an_object_that_is_not_there_is_told_at_once(session, env, box, target):
    """Object storage says 404, which another try would not change."""
    url = box.world.storage.write(env, "a", b"x")
    box.world.storage.delete(env, f"cloud://{env}.7465-{env}-1304480914/a")
    with pytest.raises(TransferError, match="HTTP 404 NoSuchKey") as caught:
        await storage.download_url(session, url, target)
    assert (caught.value.code, box.count(GET)) == ("NoSuchKey", 1)


async def test_a_url_that_has_expired_is_told(session, env, box, target, clock):
    """There is no fresh one, so it is an error in the end."""
    url = box.world.storage.write(env, "a", b"x")
    clock.now += 7201
    with pytest.raises(TransferError, match="Request has expired"):
        await storage.download_url(session, url, target)


async def test_a_link_that_expired_on_the_way_is_renewed(session, env, stored, *, target, box, clock, monkeypatch):
    """A fresh link is asked for, and the download goes on."""
    late, link = [8000.0, 0.0], type(box.world.storage).download_link

    def slowly(*args):
        made = link(*args)
        clock.now += late.pop(0)
        return made

    monkeypatch.setattr(type(box.world.storage), "download_link", slowly)
    await storage.download_file(session, env, stored, target)
    assert target.read_bytes() == BIG


@pytest.mark.parametrize("path", [".", "/", "..", "fifo", "\ud800", "f/x"])
async def test_only_a_file_is_replaced(session, env, stored, *, tmp_path, box, path, monkeypatch):
    """Neither a folder, however it is called, nor a pipe or a device; nor what the disk has no name for."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "f").touch()
    with pytest.raises(InvalidArgument, match="cannot be written"):
        await storage.download_file(session, env, stored, path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "f", tmp_path / "fifo"]
    assert box.count("/componenttcb/batchdownloadfile") == 0


async def test_a_link_is_replaced_and_not_followed(session, env, stored, target):
    """What it leads to is as it was."""
    (target.parent / "other").write_bytes(b"other")
    target.symlink_to("other")
    await storage.download_file(session, env, stored, target)
    assert (target.read_bytes(), target.is_symlink()) == (BIG, False)
    assert (target.parent / "other").read_bytes() == b"other"


@pytest.mark.parametrize("what", ["", ".", "missing/f", "f" * 300, "f\0", 7, b"f"])
async def test_a_target_that_cannot_be_is_told_before_anything(session, env, stored, *, tmp_path, box, what):
    """No link is asked for where no file can be made."""
    path = tmp_path / what if isinstance(what, str) and what else what
    with pytest.raises(InvalidArgument, match="path"):
        await storage.download_file(session, env, stored, path)
    assert box.count("/componenttcb/batchdownloadfile") == 0


async def test_a_disk_that_fails_is_the_cause(session, env, stored, *, tmp_path, target, monkeypatch):
    """What the system says stands below our error, and nothing is left."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError, match="No space left") as caught:
        await storage.download_file(session, env, stored, target)
    assert isinstance(caught.value.__cause__, OSError)
    assert list(target.parent.iterdir()) == []


async def test_a_progress_callback_that_raises_ends_the_download(session, env, stored, target):
    """Its error is the cause, it is asked once, and no file is made."""
    told = []

    def progress(size, _):
        told.append(size)
        raise LookupError("mine")

    with pytest.raises(TransferError, match="LookupError: mine") as caught:
        await storage.download_file(session, env, stored, target, progress=progress)
    assert isinstance(caught.value.__cause__, LookupError)
    assert (len(told), list(target.parent.iterdir())) == (1, [])


async def test_a_cancelled_download_leaves_nothing(session, env, stored, target, box):
    """It comes out as it went in, and what was there is as it was."""
    target.write_bytes(b"older")
    box.faults.hang(path=GET)
    task = asyncio.create_task(storage.download_file(session, env, stored, target))
    while not box.count(GET):
        await asyncio.sleep(0.001)
    assert len(list(target.parent.iterdir())) == 2
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert {each.name: each.read_bytes() for each in target.parent.iterdir()} == {"f": b"older"}


async def test_a_download_without_connections_is_refused(session, env, stored, target, *, request):
    """Closed between link and download, nothing is sent, and no file is made."""
    request.getfixturevalue("closes_at_link")
    with pytest.raises(wxtcb.SessionClosed):
        await storage.download_file(session, env, stored, target)
    assert list(target.parent.iterdir()) == []


async def test_the_rest_is_asked_for_if_nothing_has_changed(plain, serve, target):
    """Range and If-Range say what is missing, and of which object."""
    server = await serve(said(200, b"abc", ETAG, length=6), said(206, b"def", ETAG, "Content-Range: bytes 3-5/6"))
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert (target.read_bytes(), ranges(server)) == (b"abcdef", [None, "3"])
    assert 'If-Range: "e1"\r\n' in server.requests[1][0]


@pytest.mark.parametrize(
    "second",
    [
        [said(200, b"new one", 'ETag: "e2"')],
        [said(416, b""), said(200, b"new one")],
        [said(206, b"xyz", "Content-Range: bytes 2-5/6"), said(200, b"new one")],
        [said(206, b"xyz", "Content-Range: bytes 3-6/7"), said(200, b"new one")],
        [said(206, b"xyz"), said(200, b"new one")],
        [said(206, b"f", 'ETag: "e2"', "Content-Range: bytes 5-5/6"), said(200, b"new one")],
        [said(206, b"fg", "Content-Range: bytes 5-5/6"), said(200, b"new one")],
    ],
    ids=["changed", "too far", "elsewhere", "longer", "nowhere", "another", "too much"],
)
async def test_it_starts_over_when_the_object_has_changed(plain, serve, target, second):
    """So does it when what comes does not fit; nothing of the older object remains."""
    server = await serve(said(200, b"abcde", ETAG, length=6), *second)
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert target.read_bytes() == b"new one"
    assert ranges(server) == [None, "5", None][: len(server.requests)]


async def test_less_than_the_rest_is_not_the_whole(plain, serve, target):
    """An answer may hold a part of what was asked for: then the next part is."""
    parts = [said(206, each, ETAG, f"Content-Range: bytes {each.decode()}-{each.decode()}/6") for each in (b"3", b"4")]
    last = said(206, b"5", ETAG, "Content-Range: bytes 5-5/6")
    server = await serve(said(200, b"012", ETAG, length=6), *parts, last)
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert (target.read_bytes(), ranges(server)) == (b"012345", [None, "3", "4", "5"])


@pytest.mark.parametrize("etag", [(), ('ETag: W/"weak"',)])
async def test_without_a_strong_etag_the_whole_is_asked_for(plain, serve, target, etag):
    """Nobody could tell whether the rest belongs to what has come."""
    server = await serve(said(200, b"abc", *etag, length=6), said(200, b"uvwxyz", *etag))
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert (target.read_bytes(), ranges(server)) == (b"uvwxyz", [None, None])


async def test_an_object_that_never_stays_the_same_is_given_up(plain, serve, target):
    """Its end never comes."""
    server = await serve(said(200, b"abc", ETAG, length=6), said(206, b"x", "Content-Range: bytes 0-0/1"))
    server.answer = lambda number: [said(200, b"abc", ETAG, length=6) if number % 2 else said(416, b"")]
    server.waits = lambda number: number % 2
    with pytest.raises(TransferError) as caught:
        await storage.download_url(plain, server.url, target, progress=server.progress)
    assert caught.value.bytes_sent == 3
    assert list(target.parent.iterdir()) == []


async def test_what_cannot_be_resumed_ends_with_its_reason(plain, serve, target):
    """Answers that never fit are named."""
    server = await serve(said(416, b""))
    with pytest.raises(TransferError, match="changed"):
        await storage.download_url(plain, server.url, target)
    assert len(server.requests) == 5


async def test_an_unknown_length_ends_with_the_answer(plain, serve, target):
    """Progress cannot say of how much."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    server, told = await serve(chunked), []
    await storage.download_url(plain, server.url, target, progress=lambda *step: told.append(step))
    assert (target.read_bytes(), told) == (b"abc", [(3, None)])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_answer_that_does_not_tell_its_end_is_not_believed(plain, serve, target, version):
    """It may have been cut off, so it is no whole file."""
    server = await serve(f"HTTP/{version} 200 OK\r\nConnection: close\r\n\r\nabc".encode())
    with pytest.raises(TransferError, match="does not announce"):
        await storage.download_url(plain, server.url, target)
    assert list(target.parent.iterdir()) == []


async def test_a_stalled_download_is_a_break(plain, serve, target, pass_time):
    """When nothing comes for the reply timeout, the rest is asked for on another connection."""
    server = await serve(said(200, b"abc", ETAG, length=6), said(206, b"def", "Content-Range: bytes 3-5/6"))
    server.stalls = lambda number: number == 1
    task = asyncio.create_task(storage.download_url(plain, server.url, target, progress=server.progress))
    await server.heard.wait()
    assert not task.done()
    pass_time(61)
    async with asyncio.timeout(50):
        await task
    assert (target.read_bytes(), ranges(server)) == (b"abcdef", [None, "3"])


async def test_no_error_shows_the_link(plain, serve, target, whole_story):
    """No frame, chain or attribute of an error holds the signed URL."""
    server = await serve(said(403, b"<Error><Code>AccessDenied</Code><Message>sign=S1GNATURE-1234</Message></Error>"))
    link = wxtcb.Secret(f"{server.url}/x?sign=S1GNATURE-1234")
    with pytest.raises(TransferError) as caught:
        await storage.download_url(plain, link, target)
    assert caught.value.__context__ is None
    assert "S1GNATURE" not in whole_story(caught.value)


async def test_a_session_that_closes_ends_its_downloads(new_session, serve, target):
    """What waits for more of a file is told so, and nothing is left of it."""
    server = await serve(said("200", b"abc", length=6))
    server.stalls = lambda _: True
    async with new_session() as session:
        task = asyncio.create_task(storage.download_url(session, server.url, target, progress=server.progress))
        await server.heard.wait()
    async with asyncio.timeout(60):
        with pytest.raises(wxtcb.SessionClosed):
            await task
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("coding", ["identity", "gzip", "gzip, chunked"])
async def test_a_coding_that_is_not_chunked_tells_no_end(plain, serve, target, coding):
    """A file in it could be cut off, or be another than was stored, and nobody would know."""
    server = await serve(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\nConnection: close\r\n\r\nabc".encode())
    with pytest.raises(TransferError, match="does not announce"):
        await storage.download_url(plain, server.url, target)
    assert list(target.parent.iterdir()) == []
