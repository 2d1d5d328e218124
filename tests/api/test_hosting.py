"""Calls of static hosting, and the waiter for a website."""

from __future__ import annotations

import pytest

from wxtcb import OperationFailed, OperationNotFound, OperationTimeout, OutcomeUnknown
from wxtcb._http.transport import SendFailure
from wxtcb.api import hosting

PATH = hosting.DESCRIBE_STATIC_STORE.path


def site(status, env="e", **more):
    return {"env": env, "domain": "d", "bucket": "b", "status": status, **(more or {"regoin": "ap-shanghai"})}


def reply(*sites, name="Data"):
    return {"errcode": 0, "errmsg": "ok", name: list(sites)}


@pytest.mark.parametrize("name", ["Data", "data"])
@pytest.mark.parametrize("region", ["regoin", "region"])
async def test_both_spellings_of_a_website_are_read(session, platform, name, region):
    """The list and the region have two names each on the wire."""
    platform.replies = [reply(site("online", **{region: "ap-x"}), name=name)]
    [store] = (await hosting.describe_static_store(session, "e")).data
    assert (store.region, store.status) == ("ap-x", "online")


@pytest.mark.parametrize("none", [{}, {"Data": None}, {"data": []}])
async def test_list_of_websites_may_be_empty(session, platform, none):
    """Without a website the list is missing, null or empty."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", **none}]
    assert (await hosting.describe_static_store(session, "e")).data == ()


async def test_upload_link_shows_no_secret(session, platform):
    """Its URL is signed."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "signed_url": "https://U", "token": "T"}]
    assert repr(await hosting.static_upload_file(session, "e", "x")) == "StaticUploadLink(signed_url=***, token=***)"


async def test_all_pages_are_iterated(session, platform):
    """The next page begins after the last key."""
    entry = {"last_modified": "2020-12-04T08:56:59.000Z", "md5": "6f58-1", "size": "5"}
    platform.replies = [
        {"errcode": 0, "errmsg": "ok", "contents": [{"key": key, **entry}], "is_truncated": key == "a"} for key in "ab"
    ]
    assert [file.key async for file in hosting.iter_files(session, "e", prefix="p")] == ["a", "b"]
    assert platform.bodies == [{"env": "e", "prefix": "p"}, {"env": "e", "prefix": "p", "marker": "a"}]


class TestWaiting:
    """Waits in virtual time."""

    pytestmark = pytest.mark.virtual_time

    @pytest.fixture
    async def session(self, new_session):
        """Open a session with the scripted platform."""
        async with new_session() as session:
            yield session

    async def test_wait_polls_until_the_website_is_online(self, session, wechat):
        """init, process and unknown statuses keep waiting; a website of another environment does not count."""
        statuses = ["init", "process", "frobnicating"]
        wechat.play(PATH, reply(), reply(site("online", env="f")), *[reply(site(each)) for each in statuses])
        wechat.usual[PATH] = reply(site("online"))
        store = await hosting.wait_until_online(session, "e", interval=5)
        assert (store.env, store.status) == ("e", "online")
        assert wechat.sent_at(PATH) == pytest.approx([1000 + 5 * poll for poll in range(6)])

    @pytest.mark.parametrize("status", ["offline", "destroying"])
    async def test_failure_status_ends_the_wait(self, session, wechat, status):
        """The error has the status."""
        wechat.usual[PATH] = reply(site(status))
        with pytest.raises(OperationFailed, match=f"static website of e: {status}") as caught:
            await hosting.wait_until_online(session, "e")
        assert caught.value.status == status

    async def test_timeout_names_the_last_status(self, session, wechat):
        """`OperationTimeout` comes on time."""
        wechat.usual[PATH] = reply(site("process"))
        with pytest.raises(OperationTimeout, match="still process after 20 s"):
            await hosting.wait_until_online(session, "e", timeout=20)

    async def test_missing_website_is_not_found(self, session, wechat):
        """The website was never turned on."""
        wechat.usual[PATH] = reply()
        with pytest.raises(OperationNotFound):
            await hosting.wait_until_online(session, "e")

    async def test_ambiguous_create_is_not_repeated(self, session, wechat):
        """A second create could be rejected or create another website."""
        wechat.usual[hosting.CREATE_STATIC_STORE.path] = SendFailure("lost", sent=True)
        with pytest.raises(OutcomeUnknown):
            await hosting.create_static_store(session, "e")
        assert len(wechat.sent_to(hosting.CREATE_STATIC_STORE.path)) == 1
