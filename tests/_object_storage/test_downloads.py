"""Downloads: complete or absent, resumed after a lost connection, and abandoned without progress."""

from __future__ import annotations

import asyncio
import os
import stat

import pytest

import wxtcb
from wxtcb import InvalidArgument, TransferError
from wxtcb.api import storage
from wxtcb.sandbox import Fault, FaultKind

from .conftest import ON_LOOPBACK, QUICK

GET = "/_cos/get"
BIG = bytes(range(256)) * 2048
ETAG = 'ETag: "e1"'


def said(status, body, *headers, length=None):
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@pytest.fixture
def target(tmp_path):
    """Return a path in a directory of its own."""
    (tmp_path / "down").mkdir()
    return tmp_path / "down" / "f"


@pytest.fixture
async def stored(session, env):
    """Return the id of a stored file."""
    return (await storage.upload_file(session, env, "a", BIG)).file_id


@pytest.fixture
async def plain(new_session):
    """Open a session for downloads from a raw server."""
    options = {"timeout": wxtcb.Timeout(connect=60, reply=60), "base_url": ON_LOOPBACK}
    async with new_session(retry=QUICK, **options) as session:
        yield session


def ranges(server):
    """Return the first byte that each request asked for."""
    return [head.partition("Range: bytes=")[2].split("-")[0] or None for head, _ in server.requests]


async def test_file_is_downloaded(session, env, stored, target):
    """No temporary file is left."""
    reported = []
    got = await storage.download_file(session, env, stored, target, progress=lambda *step: reported.append(step))
    assert (got.path, got.size, os.fspath(got)) == (target, len(BIG), str(target))
    assert target.read_bytes() == BIG
    assert reported[-1] == (len(BIG), len(BIG))
    assert {each.name for each in target.parent.iterdir()} == {"f"}


@pytest.fixture(params=[0, 0o22, 0o377])
def umask(request):
    """Set a umask that removes no permission from new files, the usual ones, or too many."""
    before = os.umask(request.param)
    yield
    os.umask(before)


async def download_and_collect_modes(session, url, target):
    """Download a file; return the modes that its temporary file and the file itself have had."""
    modes = set()

    def collect(*_):
        modes.update(stat.S_IMODE(each.stat().st_mode) for each in target.parent.glob(".*.part"))

    await storage.download_url(session, url, target, progress=collect)
    return modes, stat.S_IMODE(target.stat().st_mode)


@pytest.mark.usefixtures("umask")
async def test_download_is_private(session, env, sandbox, target):
    """Only the user may read the file, also while it is incomplete."""
    url = sandbox.world.storage.write(env, "export.json", BIG)
    modes, mode = await download_and_collect_modes(session, url, target)
    assert not any(each & 0o077 for each in modes)
    assert mode == 0o600


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o400, 0o4755])
async def test_download_keeps_the_mode_of_the_file_that_it_replaces(session, env, sandbox, target, before):
    """The temporary file is private until it is complete."""
    target.touch()
    target.chmod(before)
    url = sandbox.world.storage.write(env, "export.json", BIG)
    modes, mode = await download_and_collect_modes(session, url, target)
    assert not any(each & 0o077 for each in modes)
    assert mode == before & 0o777


async def test_download_does_not_keep_the_mode_of_a_file_of_another_user(session, env, sandbox, target, monkeypatch):
    """In a shared directory, another user could have created a file that everyone may read."""
    target.touch()
    target.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: target.stat().st_uid + 1)
    await storage.download_url(session, sandbox.world.storage.write(env, "export.json", b"{}"), target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_url_of_the_platform_is_downloaded(session, env, sandbox, target):
    """An existing file is replaced."""
    target.write_bytes(b"older")
    url = sandbox.world.storage.write(env, "export.json", b"{}")
    await storage.download_url(session, wxtcb.Secret(url), str(target))
    assert target.read_bytes() == b"{}"


async def test_empty_file_is_downloaded(session, env, sandbox, target):
    """A file of zero bytes is created."""
    await storage.download_url(session, sandbox.world.storage.write(env, "e", b""), target)
    assert target.read_bytes() == b""


@pytest.mark.parametrize("trouble", [FaultKind.DROP, FaultKind.TRUNCATE, FaultKind.HTTP])
async def test_lost_connection_is_resumed_with_a_new_link(session, env, stored, *, target, sandbox, trouble):
    """Received data is not requested again."""
    sandbox.faults.add(Fault(trouble, path=GET, times=2))
    reported = []
    await storage.download_file(session, env, stored, target, progress=lambda size, _: reported.append(size))
    assert target.read_bytes() == BIG
    assert reported == sorted(reported)
    assert sandbox.count(GET) == 3
    assert sandbox.count("/componenttcb/batchdownloadfile") == (
        2 if trouble is FaultKind.DROP else 3
    )  # aiohttp repeats a GET


async def test_download_fails_after_five_breaks_without_progress(session, env, stored, target, sandbox):
    """No temporary file is left, and an existing file is unchanged."""
    target.write_bytes(b"older")
    sandbox.faults.http(502, path=GET)
    with pytest.raises(TransferError, match="HTTP 502") as caught:
        await storage.download_file(session, env, stored, target)
    assert (caught.value.status, caught.value.stored, sandbox.count(GET)) == (502, None, 5)
    assert {each.name: each.read_bytes() for each in target.parent.iterdir()} == {"f": b"older"}


async def test_missing_file_is_reported_by_the_platform(session, env, target):
    """The request of the link fails."""
    with pytest.raises(TransferError, match="STORAGE_FILE_NONEXIST") as caught:
        await storage.download_file(session, env, "cloud://nothing", target)
    assert (caught.value.code, caught.value.stored) == ("STORAGE_FILE_NONEXIST", None)
    assert list(target.parent.iterdir()) == []


async def test_missing_object_is_not_retried(session, env, sandbox, target):
    """Object storage responds with 404."""
    url = sandbox.world.storage.write(env, "a", b"x")
    sandbox.world.storage.delete(env, f"cloud://{env}.7465-{env}-1304480914/a")
    with pytest.raises(TransferError, match="HTTP 404 NoSuchKey") as caught:
        await storage.download_url(session, url, target)
    assert (caught.value.code, sandbox.count(GET)) == ("NoSuchKey", 1)


async def test_expired_url_fails(session, env, sandbox, target, clock):
    """There is no function that returns a new URL."""
    url = sandbox.world.storage.write(env, "a", b"x")
    clock.now += 7201
    with pytest.raises(TransferError, match="Request has expired"):
        await storage.download_url(session, url, target)


async def test_link_that_expires_during_the_download_is_renewed(
    session, env, stored, *, target, sandbox, clock, monkeypatch
):
    """The download continues with a new link."""
    late, link = [8000.0, 0.0], type(sandbox.world.storage).download_links

    def slowly(*args):
        made = link(*args)
        clock.now += late.pop(0)
        return made

    monkeypatch.setattr(type(sandbox.world.storage), "download_links", slowly)
    await storage.download_file(session, env, stored, target)
    assert target.read_bytes() == BIG


@pytest.mark.parametrize("path", [".", "/", "..", "fifo", "\ud800", "f/x"])
async def test_only_a_regular_file_is_replaced(session, env, stored, *, tmp_path, sandbox, path, monkeypatch):
    """Directories, pipes, devices and invalid names are rejected."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "f").touch()
    with pytest.raises(InvalidArgument, match="cannot be written"):
        await storage.download_file(session, env, stored, path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "f", tmp_path / "fifo"]
    assert sandbox.count("/componenttcb/batchdownloadfile") == 0


async def test_symbolic_link_is_replaced(session, env, stored, target):
    """The file that it refers to is unchanged, and its mode is not used."""
    (target.parent / "other").write_bytes(b"other")
    (target.parent / "other").chmod(0o666)
    target.symlink_to("other")
    await storage.download_file(session, env, stored, target)
    assert (target.read_bytes(), target.is_symlink()) == (BIG, False)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert (target.parent / "other").read_bytes() == b"other"


@pytest.mark.parametrize("what", ["", ".", "missing/f", "f" * 300, "f\0", 7, b"f"])
async def test_invalid_target_is_reported_first(session, env, stored, *, tmp_path, sandbox, what):
    """No link is requested."""
    path = tmp_path / what if isinstance(what, str) and what else what
    with pytest.raises(InvalidArgument, match="path"):
        await storage.download_file(session, env, stored, path)
    assert sandbox.count("/componenttcb/batchdownloadfile") == 0


async def test_disk_error_is_the_cause(session, env, stored, *, tmp_path, target, monkeypatch):
    """No temporary file is left."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError, match="No space left") as caught:
        await storage.download_file(session, env, stored, target)
    assert isinstance(caught.value.__cause__, OSError)
    assert list(target.parent.iterdir()) == []


async def test_exception_of_the_progress_callback_aborts_the_download(session, env, stored, target):
    """It is the cause of the error, and no file is created."""
    reported = []

    def progress(size, _):
        reported.append(size)
        raise LookupError("mine")

    with pytest.raises(TransferError, match="LookupError: mine") as caught:
        await storage.download_file(session, env, stored, target, progress=progress)
    assert isinstance(caught.value.__cause__, LookupError)
    assert (len(reported), list(target.parent.iterdir())) == (1, [])


async def test_cancelled_download_leaves_nothing(session, env, stored, target, sandbox):
    """An existing file is unchanged, and the cancellation keeps its arguments."""
    target.write_bytes(b"older")
    sandbox.faults.hang(path=GET)
    task = asyncio.create_task(storage.download_file(session, env, stored, target))
    while not sandbox.count(GET):
        await asyncio.sleep(0.001)
    assert len(list(target.parent.iterdir())) == 2
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert {each.name: each.read_bytes() for each in target.parent.iterdir()} == {"f": b"older"}


async def test_download_on_closed_connections_is_rejected(session, env, stored, target, *, request):
    """Closed between link and download, nothing is sent and no file is created."""
    request.getfixturevalue("closes_at_link")
    with pytest.raises(wxtcb.SessionClosed):
        await storage.download_file(session, env, stored, target)
    assert list(target.parent.iterdir()) == []


async def test_rest_is_requested_if_the_object_is_unchanged(plain, serve, target):
    """Range and If-Range name the missing bytes and the version."""
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
async def test_download_restarts_when_the_object_has_changed(plain, serve, target, second):
    """No data of the older version remains."""
    server = await serve(said(200, b"abcde", ETAG, length=6), *second)
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert target.read_bytes() == b"new one"
    assert ranges(server) == [None, "5", None][: len(server.requests)]


async def test_partial_rest_is_continued(plain, serve, target):
    """A response may contain only a part of the range."""
    parts = [said(206, each, ETAG, f"Content-Range: bytes {each.decode()}-{each.decode()}/6") for each in (b"3", b"4")]
    last = said(206, b"5", ETAG, "Content-Range: bytes 5-5/6")
    server = await serve(said(200, b"012", ETAG, length=6), *parts, last)
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert (target.read_bytes(), ranges(server)) == (b"012345", [None, "3", "4", "5"])


@pytest.mark.parametrize("etag", [(), ('ETag: W/"weak"',)])
async def test_download_without_strong_etag_restarts(plain, serve, target, etag):
    """It is unknown whether the rest would match the received data."""
    server = await serve(said(200, b"abc", *etag, length=6), said(200, b"uvwxyz", *etag))
    server.waits = lambda number: number == 1
    await storage.download_url(plain, server.url, target, progress=server.progress)
    assert (target.read_bytes(), ranges(server)) == (b"uvwxyz", [None, None])


async def test_object_that_keeps_changing_is_abandoned(plain, serve, target):
    """Otherwise the download would never end."""
    server = await serve(said(200, b"abc", ETAG, length=6), said(206, b"x", "Content-Range: bytes 0-0/1"))
    server.answer = lambda number: [said(200, b"abc", ETAG, length=6) if number % 2 else said(416, b"")]
    server.waits = lambda number: number % 2
    with pytest.raises(TransferError) as caught:
        await storage.download_url(plain, server.url, target, progress=server.progress)
    assert caught.value.bytes_sent == 3
    assert list(target.parent.iterdir()) == []


async def test_invalid_ranges_are_reported(plain, serve, target):
    """Responses that never match the request have their own reason."""
    server = await serve(said(416, b""))
    with pytest.raises(TransferError, match="changed"):
        await storage.download_url(plain, server.url, target)
    assert len(server.requests) == 5


async def test_unknown_length_ends_with_the_response(plain, serve, target):
    """The progress has no total."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    server, reported = await serve(chunked), []
    await storage.download_url(plain, server.url, target, progress=lambda *step: reported.append(step))
    assert (target.read_bytes(), reported) == (b"abc", [(3, None)])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_response_without_a_length_is_rejected(plain, serve, target, version):
    """It could be truncated."""
    server = await serve(f"HTTP/{version} 200 OK\r\nConnection: close\r\n\r\nabc".encode())
    with pytest.raises(TransferError, match="does not announce"):
        await storage.download_url(plain, server.url, target)
    assert list(target.parent.iterdir()) == []


async def test_stalled_download_is_resumed(plain, serve, target, pass_time):
    """After the reply timeout the rest is requested on another connection."""
    server = await serve(said(200, b"abc", ETAG, length=6), said(206, b"def", "Content-Range: bytes 3-5/6"))
    server.stalls = lambda number: number == 1
    task = asyncio.create_task(storage.download_url(plain, server.url, target, progress=server.progress))
    await server.progressed.wait()
    assert not task.done()
    pass_time(61)
    async with asyncio.timeout(50):
        await task
    assert (target.read_bytes(), ranges(server)) == (b"abcdef", [None, "3"])


async def test_no_error_shows_the_link(plain, serve, target, exposed_text):
    """No frame, chain or attribute of an error contains the signed URL."""
    server = await serve(said(403, b"<Error><Code>AccessDenied</Code><Message>sign=S1GNATURE-1234</Message></Error>"))
    link = wxtcb.Secret(f"{server.url}/x?sign=S1GNATURE-1234")
    with pytest.raises(TransferError) as caught:
        await storage.download_url(plain, link, target)
    assert caught.value.__context__ is None
    assert "S1GNATURE" not in exposed_text(caught.value)


async def test_closing_the_session_ends_its_downloads(new_session, serve, target):
    """A download that waits for data fails and leaves no file."""
    server = await serve(said("200", b"abc", length=6))
    server.stalls = lambda _: True
    async with new_session(base_url=ON_LOOPBACK) as session:
        task = asyncio.create_task(storage.download_url(session, server.url, target, progress=server.progress))
        await server.progressed.wait()
    async with asyncio.timeout(60):
        with pytest.raises(wxtcb.SessionClosed):
            await task
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("coding", ["identity", "gzip", "gzip, chunked"])
async def test_other_transfer_encoding_is_rejected(plain, serve, target, coding):
    """Only a chunked body has a recognisable end."""
    server = await serve(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\nConnection: close\r\n\r\nabc".encode())
    with pytest.raises(TransferError, match="does not announce"):
        await storage.download_url(plain, server.url, target)
    assert list(target.parent.iterdir()) == []


async def test_file_system_without_permissions_is_usable(session, env, sandbox, target, monkeypatch):
    """There, the mode cannot be set."""

    def fail(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", fail)
    monkeypatch.setattr(os, "supports_fd", {fail})
    await storage.download_url(session, sandbox.world.storage.write(env, "export.json", b"{}"), target)
    assert target.read_bytes() == b"{}"


async def test_endless_response_stops_at_max_bytes(plain, serve, target):
    """The error names the limit, and no file is left."""
    server = await serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % bytes(1024) * 64)
    server.stalls = lambda _: True
    reported = []
    with pytest.raises(TransferError, match=r"larger than max_bytes \(10,240 bytes\).*No file was created") as caught:
        await storage.download_url(
            plain, server.url, target, max_bytes=10240, progress=lambda size, _: reported.append(size)
        )
    assert (caught.value.stored, len(server.requests)) == (None, 1)
    assert max(reported, default=0) <= 10240
    assert list(target.parent.iterdir()) == []


async def test_announced_length_above_max_bytes_is_rejected_at_once(plain, serve, target):
    """No byte of the file is written."""
    server, reported = await serve(said(200, b"abcdef")), []
    with pytest.raises(TransferError, match=r"max_bytes \(5 bytes\)") as caught:
        await storage.download_url(plain, server.url, target, max_bytes=5, progress=reported.append)
    assert (caught.value.bytes_sent, reported, len(server.requests)) == (0, [], 1)


@pytest.mark.parametrize("max_bytes", [6, None])
async def test_file_of_max_bytes_is_downloaded(plain, serve, target, max_bytes):
    """None means no limit."""
    server = await serve(said(200, b"abcdef"))
    await storage.download_url(plain, server.url, target, max_bytes=max_bytes)
    assert target.read_bytes() == b"abcdef"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9"])
async def test_invalid_max_bytes_is_rejected(session, env, sandbox, target, value):
    """No link is requested."""
    with pytest.raises(InvalidArgument, match="max_bytes"):
        await storage.download_file(session, env, "cloud://f", target, max_bytes=value)
    assert sandbox.count("/componenttcb/batchdownloadfile") == 0
