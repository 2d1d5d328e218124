"""The waiter for an Active function."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from wxtcb.api import functions
from wxtcb.errors import InvalidArgument, OperationFailed, OperationNotFound, OperationTimeout

pytestmark = pytest.mark.virtual_time

PATH = functions.GET_SCF_LIST.path
TIMES = {"add_time": "2026-11-22 00:00:00", "mod_time": "2026-11-22 00:00:00"}


def listing(*, total=None, reason=(), **statuses):
    """Return a page with functions of these statuses."""
    reasons = [{"errcode": code, "errmsg": text} for code, text in reason]
    rows = [
        {"name": name, "runtime": "Nodejs8.9", "status": status, "status_reason": reasons, **TIMES}
        for name, status in statuses.items()
    ]
    return {"errcode": 0, "errmsg": "ok", "total_count": len(rows) if total is None else total, "functions": rows}


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


def requested(wechat):
    """Return the search keys and offsets of the requests."""
    return [orjson.loads(request.body.data) for request in wechat.sent_to(PATH)]


async def test_only_the_exact_name_counts(session, wechat):
    """The search also finds functions whose names contain the name."""
    wechat.play(PATH, listing(login2="CreateFailed", login="Creating"), listing(login2="CreateFailed", login="Active"))
    found = await functions.wait_until_active(session, "e-1", "login")
    assert (found.function_name, found.status) == ("login", "Active")
    assert requested(wechat) == [{"env": "e-1", "offset": 0, "searchkey": "login"}] * 2
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1005])


async def test_function_on_the_second_page_is_found(session, wechat):
    """The waiter iterates over all pages."""
    wechat.play(PATH, listing(total=2, login2="Active"), listing(total=2, login="Active"))
    assert (await functions.wait_until_active(session, "e-1", "login")).function_name == "login"
    assert [body["offset"] for body in requested(wechat)] == [0, 1]


@pytest.mark.parametrize("status", ["Creating", "Updating", "Publishing", "Frobnicating"])
async def test_unknown_status_keeps_waiting(session, wechat, status):
    """An unknown status is no failure."""
    wechat.play(PATH, listing(f=status), listing(f=status), listing(f="Active"))
    await functions.wait_until_active(session, "e-1", "f", interval=2)
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1002, 1004])


@pytest.mark.parametrize("status", ["CreateFailed", "UpdateFailed", "PublishFailed", "DeleteFailed"])
async def test_failure_has_the_platforms_reasons(session, wechat, status):
    """All of them are in the message."""
    reason = [("ResourceNotFound.File", "entry file not found"), ("Second", "too")]
    wechat.usual[PATH] = listing(f=status, reason=reason)
    with pytest.raises(OperationFailed) as caught:
        await functions.wait_until_active(session, "e-1", "f")
    words = rf"function f of e-1: {status}: "
    assert str(caught.value).startswith(words)
    assert str(caught.value).endswith("(ResourceNotFound.File: entry file not found; Second: too)")
    assert asyncio.get_running_loop().time() == 1000


async def test_failure_without_reasons_has_only_the_explanation(session, wechat):
    """The message has no empty brackets."""
    wechat.usual[PATH] = listing(f="UpdateFailed")
    with pytest.raises(OperationFailed, match=r"UpdateFailed: it could not be updated$"):
        await functions.wait_until_active(session, "e-1", "f")


async def test_missing_function_is_not_found(session, wechat):
    """It must be missing from 3 polls over 30 seconds."""
    wechat.usual[PATH] = listing(login2="Active")
    with pytest.raises(OperationNotFound, match="function login of e-1"):
        await functions.wait_until_active(session, "e-1", "login", interval=10)
    assert len(requested(wechat)) == 4


async def test_timeout_names_the_last_status(session, wechat):
    """The function may become Active later."""
    wechat.usual[PATH] = listing(f="Updating")
    with pytest.raises(OperationTimeout, match="still Updating after 12 s; it may become Active later"):
        await functions.wait_until_active(session, "e-1", "f", timeout=12)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"interval": -1}], ids=str)
async def test_invalid_wait_is_rejected(session, wechat, options):
    """Nothing is sent."""
    [name] = options
    with pytest.raises(InvalidArgument, match=rf"^{name}\b"):
        await functions.wait_until_active(session, **{"env": "e-1", "function_name": "f"} | options)
    assert wechat.requests == []
