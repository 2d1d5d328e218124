"""The waiter for an import or export."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb import raw
from wxtcb.api import database
from wxtcb.errors import InvalidArgument, InvalidRequest, OperationFailed, OperationTimeout
from wxtcb.secret import Secret

pytestmark = pytest.mark.virtual_time

PATH = database.DB_MIGRATION_STATE.path


def state(status, **fields):
    """Return a reply with the state of a job."""
    return {"errcode": 0, "errmsg": "ok", "status": status, "record_success": 2, "record_fail": 1, **fields}


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


async def test_wait_polls_until_the_job_has_finished(session, wechat):
    """Every status except success and fail keeps waiting, with one poll per interval."""
    wechat.play(PATH, *[state(status) for status in ("waiting", "reading", "frobnicating", "migrating")])
    wechat.usual[PATH] = state("success", file_url="https://files/x")
    ended = await database.wait_until_migrated(session, "e-1", 5, interval=7)
    assert (ended.status, ended.record_fail, ended.file_url) == ("success", 1, Secret("https://files/x"))
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1007, 1014, 1021, 1028])


async def test_empty_url_is_none(session, wechat):
    """A job without a file, or one that is still running, may have an empty URL."""
    wechat.usual[PATH] = state("migrating", file_url="")
    assert (await database.db_migration_state(session, "e-1", 5)).file_url is None


async def test_url_of_an_export_is_not_shown(session, wechat):
    """Everyone who has the URL can read the exported records."""
    wechat.usual[PATH] = state("success", file_url="https://files/x?sign=S1GN")
    ended = await database.db_migration_state(session, "e-1", 5)
    assert "S1GN" not in repr(ended)
    with pytest.raises(InvalidArgument, match="secret"):
        raw(ended)


@pytest.mark.parametrize(
    ("fields", "words"), [({"error_msg": "no such file"}, "no such file"), ({}, "gives no reason")], ids=str
)
async def test_failed_job_raises_the_platforms_reason(session, wechat, fields, words):
    """The message has the job, the reason and the counts."""
    wechat.usual[PATH] = state("fail", **fields)
    with pytest.raises(OperationFailed, match=words) as caught:
        await database.wait_until_migrated(session, "e-1", 5)
    assert (caught.value.resource, caught.value.status) == ("job 5 of environment e-1", "fail")
    assert "2 records done, 1 failed" in str(caught.value)


async def test_timeout_names_the_last_status(session, wechat):
    """`OperationTimeout` comes on time."""
    wechat.usual[PATH] = state("migrating")
    with pytest.raises(OperationTimeout, match="still migrating") as caught:
        await database.wait_until_migrated(session, "e-1", 5, timeout=12)
    assert caught.value.status == "migrating"
    assert asyncio.get_running_loop().time() == 1012


async def test_transient_error_keeps_waiting_and_permanent_error_is_raised(session, wechat):
    """A poll that may succeed later does not end the wait."""
    wechat.play(PATH, *[-1] * 8)
    wechat.usual[PATH] = state("success")
    await database.wait_until_migrated(session, "e-1", 5)
    wechat.usual[PATH] = 40097
    with pytest.raises(InvalidRequest):
        await database.wait_until_migrated(session, "e-1", 6)
