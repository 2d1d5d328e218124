"""Failing uploads: what is stored, what the error says, and how they end."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb import TransferError
from wxtcb.api import storage
from wxtcb.api._transfer import is_stored
from wxtcb.sandbox import Fault, FaultKind

LOOK = "/componenttcb/getbucket"
POST = "/_cos/post"
BIG = b"0123456789abcdef" * (1 << 18)
LIMITS = wxtcb.Timeout(connect=1e6, reply=100)  # an upload may pause for `reply` seconds


@pytest.fixture
def outlast(sandbox, pass_time):
    """Return a function that advances the time during a stalled upload until its result is checked."""

    async def wait(task):
        for _ in range(5000):
            if task.done() or sandbox.count(LOOK):
                return await task
            pass_time(LIMITS.reply + 1)
            await asyncio.sleep(0.01)
        raise AssertionError("it does not end")

    return wait


async def pieces(*parts):
    for part in parts:
        yield part


async def test_truncated_upload_stores_nothing(store, stored, path, sandbox):
    """The file was not sent completely, so nothing is checked or resent."""
    sandbox.faults.drop(path=path)
    with pytest.raises(TransferError, match="was not stored") as caught:
        await store(BIG * 8)
    assert (caught.value.stored, stored(), sandbox.count(path), sandbox.count(LOOK)) == (False, None, 1, 0)
    assert caught.value.bytes_sent < len(BIG) * 8


@pytest.mark.parametrize(("trouble", "there"), [(FaultKind.DROP, None), (FaultKind.DROP_AFTER, True)])
async def test_lost_response_is_resolved_by_a_check(store, stored, path, *, sandbox, trouble, there):
    """A stored file is found; a missing one may still be created."""
    await store(b"older")
    sandbox.faults.add(Fault(trouble, path=path))
    with pytest.raises(TransferError) as caught:
        await store(b"hello")
    assert caught.value.stored is there
    assert stored() == (b"hello" if there else b"older")


async def test_failed_check_leaves_the_result_unknown(session, env, sandbox):
    """`stored` is None if the files cannot be listed."""
    sandbox.faults.drop_after(path=POST)
    sandbox.faults.errcode(85088, path=LOOK)
    with pytest.raises(TransferError, match="unknown whether") as caught:
        await storage.upload_file(session, env, "a", b"hello")
    assert caught.value.stored is None


@pytest.mark.parametrize("size", [5, 6])
async def test_multipart_object_is_not_recognised_by_its_hash(size):
    """Its ETag is not an MD5, so an object of the same size leaves the result unknown."""

    async def page():
        file = storage.StoredFile(key="a", last_modified="", md5="6f58-2", size=size)
        return storage.FileList(contents=(file,))

    assert await is_stored(page, "a", 5, "x") is (None if size == 5 else False)


@pytest.mark.parametrize("trouble", [FaultKind.HTTP, FaultKind.HTTP_AFTER])
async def test_error_page_of_a_gateway_is_resolved_by_a_check(store, path, sandbox, trouble):
    """After a 502 a missing file may still be created."""
    sandbox.faults.add(Fault(trouble, path=path))
    with pytest.raises(TransferError, match="HTTP 502") as caught:
        await store(b"hello")
    assert (caught.value.status, caught.value.code) == (502, None)
    assert caught.value.stored is (True if trouble is FaultKind.HTTP_AFTER else None)


async def test_redirect_is_not_followed(store, path, sandbox):
    """It is an error, and nothing is stored."""
    sandbox.faults.redirect(path=path)
    with pytest.raises(TransferError, match="HTTP 307") as caught:
        await store(b"hello")
    assert (caught.value.stored, sandbox.count(path)) == (False, 1)


async def test_rejection_is_reported_with_its_reason(store, sandbox):
    """Code, message and request id are read from the XML."""
    sandbox.world.storage.objects.max_object_bytes = 4
    with pytest.raises(TransferError, match=r"HTTP 400 EntityTooLarge .Your proposed upload exceeds") as caught:
        await store(b"hello")
    error = caught.value
    assert (error.status, error.code, error.stored) == (400, "EntityTooLarge", False)
    assert error.request_id.startswith("NWFj")


async def test_expired_link_is_renewed_once(store, stored, path, *, sandbox, clock, monkeypatch):
    """The upload starts again with a new link, and a second expiry is an error."""
    late = [2000.0, 0.0]
    issue = type(sandbox.world.storage.objects).issue_link

    def slowly(*args):
        link = issue(*args)
        clock.now += late.pop(0)
        return link

    monkeypatch.setattr(type(sandbox.world.storage.objects), "issue_link", slowly)
    await store(b"hello")
    assert (stored(), sandbox.count(path)) == (b"hello", 2)
    late[:] = [2000.0, 2000.0]
    with pytest.raises(TransferError, match="Request has expired") as caught:
        await store(b"again")
    assert (caught.value.stored, stored(), sandbox.count(path)) == (False, b"hello", 4)


async def test_iterator_is_not_restarted(session, env, sandbox, clock, monkeypatch):
    """It cannot be read twice, so an expired link is an error."""
    issue = type(sandbox.world.storage.objects).issue_link

    def slowly(*args):
        link = issue(*args)
        clock.now += 2000
        return link

    monkeypatch.setattr(type(sandbox.world.storage.objects), "issue_link", slowly)
    with pytest.raises(TransferError, match="expired"):
        await storage.upload_file(session, env, "a", pieces(b"hello"), size=5)
    assert sandbox.count(POST) == 1


@pytest.mark.parametrize("trouble", [FaultKind.HANG, FaultKind.HANG_AFTER])
async def test_stalled_upload_fails(connect, env, sandbox, outlast, trouble):
    """It fails after the reply timeout without progress."""
    sandbox.faults.add(Fault(trouble, path=POST))
    async with connect(timeout=LIMITS) as session:
        source = BIG * 4 if trouble is FaultKind.HANG else b"hello"
        task = asyncio.create_task(storage.upload_file(session, env, "a", source))
        while not sandbox.count(POST):
            await asyncio.sleep(0.001)
        with pytest.raises(TransferError, match=r"no data|in time") as caught:
            await outlast(task)
    assert caught.value.stored is (trouble is FaultKind.HANG_AFTER)


async def test_complete_upload_without_response_is_unknown(connect, env, sandbox, outlast):
    """The object may be created after the check."""
    sandbox.faults.hang(path=POST)
    async with connect(timeout=LIMITS) as session:
        task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        while not sandbox.count(POST):
            await asyncio.sleep(0.001)
        with pytest.raises(TransferError, match="unknown whether") as caught:
            await outlast(task)
    assert (caught.value.stored, sandbox.count(LOOK)) == (None, 1)


async def test_slow_upload_with_progress_continues(connect, env, sandbox, pass_time, settle):
    """Its total time may exceed all timeouts."""

    async def slowly():
        for _ in range(5):
            pass_time(60)
            await settle()
            yield b"x"

    async with connect(timeout=wxtcb.Timeout(connect=100, reply=100)) as session:
        await storage.upload_file(session, env, "a", slowly(), size=5)
    assert sandbox.world.storage.read(env, "a") == b"xxxxx"


async def test_cancelled_upload_stores_nothing(session, env, sandbox, tmp_path):
    """The cancellation takes effect at once and keeps its arguments."""
    (tmp_path / "f").write_bytes(b"x")
    sandbox.faults.hang(path=POST)
    task = asyncio.create_task(storage.upload_file(session, env, "a", tmp_path / "f"))
    while not sandbox.count(POST):
        await asyncio.sleep(0.001)
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert sandbox.world.storage.read(env, "a") is None


async def test_closing_the_session_ends_its_uploads(connect, env, sandbox):
    """An upload in flight fails, and one with a link is rejected."""
    sandbox.faults.hang(path=POST)
    async with connect() as session:
        task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        while not sandbox.count(POST):
            await asyncio.sleep(0.001)
        transfers = session.storage_client
    with pytest.raises(TransferError) as caught:
        await task
    assert caught.value.stored is None
    assert transfers._session.closed


@pytest.mark.usefixtures("closes_at_link")
async def test_upload_on_closed_connections_is_rejected(session, env, sandbox):
    """Closed between link and upload, nothing is sent."""
    with pytest.raises(wxtcb.SessionClosed):
        await storage.upload_file(session, env, "a", b"hello")
    assert sandbox.count(POST) == 0


async def test_cancellation_does_not_expose_the_link(session, env, sandbox, exposed_text):
    """No frame below the caller's, and no chain, contains it."""
    sandbox.faults.hang(path=POST)
    task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
    while not sandbox.count(POST):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    exposed = exposed_text(caught.value)
    assert caught.value.__context__ is None
    assert not [secret for secret in ("q-signature", "cos-token-") if secret in exposed]


@pytest.mark.parametrize("way", ["cancelled", "cancelled again and again", "refused"])
async def test_no_source_is_left_open(session, env, sandbox, way):
    """A generator that closes slowly is closed when the upload ends."""
    closed, begun = [], asyncio.Event()

    async def slowly():
        try:
            for _ in range(4):
                yield BIG
                begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            closed.append("closed")

    fault = FaultKind.HANG if way != "refused" else FaultKind.DROP
    sandbox.faults.add(Fault(fault, path=POST))
    task = asyncio.create_task(storage.upload_file(session, env, "a", slowly(), size=len(BIG) * 5))
    if way != "refused":
        await begun.wait()
        task.cancel("first")
    for _ in range(20 if way == "cancelled again and again" else 0):
        await asyncio.sleep(0)
        task.cancel("again")
    with pytest.raises(TransferError if way == "refused" else asyncio.CancelledError):
        await task
    assert closed == ["closed"]
    assert not [each for each in asyncio.all_tasks() if "write_bytes" in repr(each)]
