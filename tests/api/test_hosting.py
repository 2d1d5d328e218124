"""The calls of static hosting, and waiting for a website."""

from __future__ import annotations

import pytest

from wxtcb import InvalidArgument, OperationFailed, OperationNotFound, OperationTimeout, OutcomeUnknown
from wxtcb._http.transport import SendFailure
from wxtcb.api import hosting

LOOK = hosting.DESCRIBE_STATIC_STORE.path


def site(status, env="e", **more):
    return {"env": env, "domain": "d", "bucket": "b", "status": status, **(more or {"regoin": "ap-shanghai"})}


def reply(*sites, name="Data"):
    return {"errcode": 0, "errmsg": "ok", name: list(sites)}


@pytest.mark.parametrize("name", ["Data", "data"])
@pytest.mark.parametrize("region", ["regoin", "region"])
async def test_a_website_is_described_in_either_spelling(session, platform, name, region):
    """The list and the region have two names each on the wire, and one here."""
    platform.replies = [reply(site("online", **{region: "ap-x"}), name=name)]
    [store] = (await hosting.describe_static_store(session, "e")).data
    assert (store.region, store.status) == ("ap-x", "online")


@pytest.mark.parametrize("none", [{}, {"Data": None}, {"data": []}])
async def test_no_website_is_none(session, platform, none):
    """Where hosting is off the list is missing, null or empty."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", **none}]
    assert (await hosting.describe_static_store(session, "e")).data == ()


async def test_an_upload_link_shows_no_secret(session, platform):
    """Its URL is signed."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "signed_url": "https://U", "token": "T"}]
    assert repr(await hosting.static_upload_file(session, "e", "x")) == "StaticUploadLink(signed_url=***, token=***)"


@pytest.mark.parametrize(
    "call",
    [
        lambda s: hosting.create_static_store(s, ""),
        lambda s: hosting.describe_static_store(s, ""),
        lambda s: hosting.static_file_list(s, "e", marker=1),
        lambda s: hosting.static_upload_file(s, "e", ""),
        lambda s: hosting.upload_file(s, "e", "", b""),
        lambda s: hosting.wait_until_online(s, ""),
    ],
    ids=range(6),
)
async def test_what_cannot_be_is_refused(session, platform, call):
    """Nothing is sent for it."""
    with pytest.raises(InvalidArgument):
        await call(session)
    assert platform.sent == []


async def test_a_list_turns_its_pages(session, platform):
    """The next page begins after the last key."""
    entry = {"last_modified": "2020-12-04T08:56:59.000Z", "md5": "6f58-1", "size": "5"}
    platform.replies = [
        {"errcode": 0, "errmsg": "ok", "contents": [{"key": key, **entry}], "is_truncated": key == "a"} for key in "ab"
    ]
    assert [file.key async for file in hosting.iter_files(session, "e", prefix="p")] == ["a", "b"]
    assert platform.bodies == [{"env": "e", "prefix": "p"}, {"env": "e", "prefix": "p", "marker": "a"}]


class TestWaiting:
    """In virtual time."""

    pytestmark = pytest.mark.virtual_time

    @pytest.fixture
    async def session(self, new_session):
        """Open a session before a platform that answers from scripts."""
        async with new_session() as session:
            yield session

    async def test_it_is_waited_for(self, session, wechat):
        """init, process and what is not known is waiting; another environment's website is none."""
        statuses = ["init", "process", "frobnicating"]
        wechat.play(LOOK, reply(), reply(site("online", env="f")), *[reply(site(each)) for each in statuses])
        wechat.usual[LOOK] = reply(site("online"))
        store = await hosting.wait_until_online(session, "e", interval=5)
        assert (store.env, store.status) == ("e", "online")
        assert wechat.sent_at(LOOK) == pytest.approx([1000 + 5 * look for look in range(6)])

    @pytest.mark.parametrize("status", ["offline", "destroying"])
    async def test_what_will_not_come_is_raised_at_once(self, session, wechat, status):
        """The error has the status."""
        wechat.usual[LOOK] = reply(site(status))
        with pytest.raises(OperationFailed, match=f"static website of e: {status}") as caught:
            await hosting.wait_until_online(session, "e")
        assert caught.value.status == status

    async def test_waiting_has_an_end(self, session, wechat):
        """The error names the last status."""
        wechat.usual[LOOK] = reply(site("process"))
        with pytest.raises(OperationTimeout, match="still process after 20 s"):
            await hosting.wait_until_online(session, "e", timeout=20)

    async def test_no_website_is_gone(self, session, wechat):
        """It was never turned on."""
        wechat.usual[LOOK] = reply()
        with pytest.raises(OperationNotFound):
            await hosting.wait_until_online(session, "e")

    async def test_creating_is_not_repeated_in_doubt(self, session, wechat):
        """A second one would be refused, or be another one."""
        wechat.usual[hosting.CREATE_STATIC_STORE.path] = SendFailure("lost", sent=True)
        with pytest.raises(OutcomeUnknown):
            await hosting.create_static_store(session, "e")
        assert len(wechat.sent_to(hosting.CREATE_STATIC_STORE.path)) == 1
