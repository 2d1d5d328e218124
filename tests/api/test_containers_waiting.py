"""The waiter for a version of a container service."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb.api import containers
from wxtcb.errors import CloudError, InvalidRequest, OperationFailed, OperationTimeout

pytestmark = pytest.mark.virtual_time

PATH = containers.GET_CS_VERSION_DETAIL.path
VERSION = ("e", "echo", "echo-001")


def version(status):
    """Return a reply with the version in *status*."""
    return {"errcode": 0, "errmsg": "ok", "version_name": "echo-001", "status": status}


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.mark.parametrize("status", ["creating", "updating", "FROBNICATING", "fail_over", None])
async def test_wait_polls_until_the_version_is_normal(session, wechat, status):
    """Unknown statuses keep waiting, with one poll per interval."""
    wechat.play(PATH, *[version(status)] * 2)
    wechat.usual[PATH] = version("normal")
    detail = await containers.wait_until_version_normal(session, *VERSION, interval=7)
    assert (detail.version_name, detail.status) == ("echo-001", "normal")
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1007, 1014])


@pytest.mark.parametrize("status", ["build_fail", "deploy_fail", "create_fail"])
async def test_failed_version_ends_the_wait(session, wechat, status):
    """Every status that ends with "_fail" raises an error with version and status."""
    wechat.usual[PATH] = version(status)
    with pytest.raises(OperationFailed, match="version echo-001 of container service echo in e") as caught:
        await containers.wait_until_version_normal(session, *VERSION)
    assert caught.value.status == status
    assert asyncio.get_running_loop().time() == 1000


async def test_timeout_names_the_last_status(session, wechat):
    """`OperationTimeout` comes on time with the last status."""
    wechat.usual[PATH] = version("creating")
    with pytest.raises(OperationTimeout, match="still creating after 60 s") as caught:
        await containers.wait_until_version_normal(session, *VERSION, timeout=60)
    assert isinstance(caught.value, TimeoutError)
    assert asyncio.get_running_loop().time() == pytest.approx(1060)


@pytest.mark.parametrize(("errcode", "error"), [(40097, InvalidRequest), (-501005, CloudError)])
async def test_missing_version_raises_the_platforms_error(session, wechat, errcode, error):
    """Another poll would not change it."""
    wechat.usual[PATH] = errcode
    with pytest.raises(error):
        await containers.wait_until_version_normal(session, *VERSION)
    assert len(wechat.sent_to(PATH)) == 1
