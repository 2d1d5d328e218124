"""Uploads that break: what is stored then, what is said, and how they end when they are ended."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb import TransferError
from wxtcb.api import storage
from wxtcb.sandbox import Fault, FaultKind

LOOK = "/componenttcb/getbucket"
POST = "/_cos/post"
BIG = b"0123456789abcdef" * (1 << 18)
LIMITS = wxtcb.Timeout(connect=1e6, reply=100)  # an upload may rest for the second, calls take less than both


@pytest.fixture
def outlast(box, pass_time):
    """Give a function that lets time pass while an upload does not move, until its end is looked into."""

    async def wait(task):
        for _ in range(5000):
            if task.done() or box.count(LOOK):
                return await task
            pass_time(LIMITS.reply + 1)
            await asyncio.sleep(0.01)
        raise AssertionError("it does not end")

    return wait


async def pieces(*parts):
    for part in parts:
        yield part


async def test_an_upload_cut_off_leaves_nothing(store, stored, path, box):
    """Some of it never left: so nothing is stored, nothing is sent again, and nobody need look."""
    box.faults.drop(path=path)
    with pytest.raises(TransferError, match="was not stored") as caught:
        await store(BIG * 8)
    assert (caught.value.stored, stored(), box.count(path), box.count(LOOK)) == (False, None, 1, 0)
    assert caught.value.bytes_sent < len(BIG) * 8


@pytest.mark.parametrize(("trouble", "there"), [(FaultKind.DROP, None), (FaultKind.DROP_AFTER, True)])
async def test_where_the_answer_is_lost_a_look_tells(store, stored, path, *, box, trouble, there):
    """All had left: the list of files says that the object is there; if it is not, it may still be made."""
    await store(b"older")
    box.faults.add(Fault(trouble, path=path))
    with pytest.raises(TransferError) as caught:
        await store(b"hello")
    assert caught.value.stored is there
    assert stored() == (b"hello" if there else b"older")


async def test_nobody_knows_where_the_look_fails_too(session, env, box):
    """An upload whose answer is lost is `stored` None when files cannot be listed."""
    box.faults.drop_after(path=POST)
    box.faults.errcode(85088, path=LOOK)
    with pytest.raises(TransferError, match="unknown whether") as caught:
        await storage.upload_file(session, env, "a", b"hello")
    assert caught.value.stored is None


@pytest.mark.parametrize("size", [5, 6])
async def test_an_object_of_several_parts_cannot_be_told_by_its_hash(size):
    """Its hash is no MD5, so one of that size may be ours; one of another size is not."""

    async def page():
        file = storage.StoredFile(key="a", last_modified="", md5="6f58-2", size=size)
        return storage.FileList(contents=(file,))

    assert await storage.transfer.is_stored(page, "a", 5, "x") is (None if size == 5 else False)


@pytest.mark.parametrize("trouble", [FaultKind.HTTP, FaultKind.HTTP_AFTER])
async def test_a_page_of_a_machine_between_says_nothing(store, path, box, trouble):
    """After a 502 a look tells whether the object is there; if it is not, it may still be made."""
    box.faults.add(Fault(trouble, path=path))
    with pytest.raises(TransferError, match="HTTP 502") as caught:
        await store(b"hello")
    assert (caught.value.status, caught.value.code) == (502, None)
    assert caught.value.stored is (True if trouble is FaultKind.HTTP_AFTER else None)


async def test_a_redirect_is_not_followed(store, path, box):
    """It is an error, and nothing is stored."""
    box.faults.redirect(path=path)
    with pytest.raises(TransferError, match="HTTP 307") as caught:
        await store(b"hello")
    assert (caught.value.stored, box.count(path)) == (False, 1)


async def test_the_reason_of_a_refusal_is_told(store, box):
    """Code, message and request id come out of the XML."""
    box.world.storage.objects.max_object_bytes = 4
    with pytest.raises(TransferError, match=r"HTTP 400 EntityTooLarge .Your proposed upload exceeds") as caught:
        await store(b"hello")
    error = caught.value
    assert (error.status, error.code, error.stored) == (400, "EntityTooLarge", False)
    assert error.request_id.startswith("NWFj")


async def test_a_signature_that_came_too_late_is_renewed_once(store, stored, path, *, box, clock, monkeypatch):
    """The upload begins again with a fresh link; a second time it is an error."""
    late = [2000.0, 0.0]
    issue = type(box.world.storage.objects).issue_link

    def slowly(*args):
        link = issue(*args)
        clock.now += late.pop(0)
        return link

    monkeypatch.setattr(type(box.world.storage.objects), "issue_link", slowly)
    await store(b"hello")
    assert (stored(), box.count(path)) == (b"hello", 2)
    late[:] = [2000.0, 2000.0]
    with pytest.raises(TransferError, match="Request has expired") as caught:
        await store(b"again")
    assert (caught.value.stored, stored(), box.count(path)) == (False, b"hello", 4)


async def test_an_iterator_is_not_begun_again(session, env, box, clock, monkeypatch):
    """What was taken from it is gone, so a signature that came too late is an error."""
    issue = type(box.world.storage.objects).issue_link

    def slowly(*args):
        link = issue(*args)
        clock.now += 2000
        return link

    monkeypatch.setattr(type(box.world.storage.objects), "issue_link", slowly)
    with pytest.raises(TransferError, match="expired"):
        await storage.upload_file(session, env, "a", pieces(b"hello"), size=5)
    assert box.count(POST) == 1


@pytest.mark.parametrize("trouble", [FaultKind.HANG, FaultKind.HANG_AFTER])
async def test_a_stalled_upload_ends(connect, env, box, outlast, trouble):
    """When nothing moves for the reply timeout it is over, in the middle or at the end."""
    box.faults.add(Fault(trouble, path=POST))
    async with connect(timeout=LIMITS) as session:
        source = BIG * 4 if trouble is FaultKind.HANG else b"hello"
        task = asyncio.create_task(storage.upload_file(session, env, "a", source))
        while not box.count(POST):
            await asyncio.sleep(0.001)
        with pytest.raises(TransferError, match="no data") as caught:
            await outlast(task)
    assert caught.value.stored is (trouble is FaultKind.HANG_AFTER)


async def test_nobody_knows_what_becomes_of_a_whole_that_nobody_answers(connect, env, box, outlast):
    """All had left, so the object may be made after the look that did not find it."""
    box.faults.hang(path=POST)
    async with connect(timeout=LIMITS) as session:
        task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        while not box.count(POST):
            await asyncio.sleep(0.001)
        with pytest.raises(TransferError, match="unknown whether") as caught:
            await outlast(task)
    assert (caught.value.stored, box.count(LOOK)) == (None, 1)


async def test_a_slow_upload_that_moves_goes_on(connect, env, box, pass_time, settle):
    """It may take longer in all than any one pause, and than a call may take."""

    async def slowly():
        for _ in range(5):
            pass_time(60)
            await settle()
            yield b"x"

    async with connect(timeout=wxtcb.Timeout(connect=100, reply=100)) as session:
        await storage.upload_file(session, env, "a", slowly(), size=5)
    assert box.world.storage.read(env, "a") == b"xxxxx"


async def test_a_cancelled_upload_leaves_nothing(session, env, box, tmp_path):
    """Cancelling is heard at once, comes out as it went in, and makes no object."""
    (tmp_path / "f").write_bytes(b"x")
    box.faults.hang(path=POST)
    task = asyncio.create_task(storage.upload_file(session, env, "a", tmp_path / "f"))
    while not box.count(POST):
        await asyncio.sleep(0.001)
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert box.world.storage.read(env, "a") is None


async def test_a_session_that_closes_ends_its_uploads(connect, env, box):
    """An upload under way breaks off; one that has its link is refused."""
    box.faults.hang(path=POST)
    async with connect() as session:
        task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
        while not box.count(POST):
            await asyncio.sleep(0.001)
        transfers = session.storage_client
    with pytest.raises(TransferError) as caught:
        await task
    assert caught.value.stored is None
    assert transfers._session.closed


@pytest.mark.usefixtures("closes_at_link")
async def test_an_upload_without_connections_is_refused(session, env, box):
    """Closed between link and upload, nothing is sent."""
    with pytest.raises(wxtcb.SessionClosed):
        await storage.upload_file(session, env, "a", b"hello")
    assert box.count(POST) == 0


async def test_being_cancelled_shows_no_link(session, env, box, whole_story):
    """No frame below the caller's, and no chain, holds what the link gave."""
    box.faults.hang(path=POST)
    task = asyncio.create_task(storage.upload_file(session, env, "a", b"hello"))
    while not box.count(POST):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    told = whole_story(caught.value)
    assert caught.value.__context__ is None
    assert not [secret for secret in ("q-signature", "cos-token-") if secret in told]


@pytest.mark.parametrize("way", ["cancelled", "cancelled again and again", "refused"])
async def test_no_source_is_left_open(session, env, box, way):
    """An iterator that takes its time to close has done so when the upload is over, however that ended."""
    told, begun = [], asyncio.Event()

    async def slowly():
        try:
            for _ in range(4):
                yield BIG
                begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            told.append("closed")

    fault = FaultKind.HANG if way != "refused" else FaultKind.DROP
    box.faults.add(Fault(fault, path=POST))
    task = asyncio.create_task(storage.upload_file(session, env, "a", slowly(), size=len(BIG) * 5))
    if way != "refused":
        await begun.wait()
        task.cancel("first")
    for _ in range(20 if way == "cancelled again and again" else 0):
        await asyncio.sleep(0)
        task.cancel("again")
    with pytest.raises(TransferError if way == "refused" else asyncio.CancelledError):
        await task
    assert told == ["closed"]
    assert not [each for each in asyncio.all_tasks() if "write_bytes" in repr(each)]
