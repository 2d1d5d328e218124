"""The three calls of /tcb/ that environments have, and the end of shares: what is sent, and what is refused before."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import environment
from wxtcb.api.environment import CloudAccess, Share, ShareFailure

DONE = {"errcode": 0, "errmsg": "ok"}
FAILURE = {"env": "e-1", "appid": "wx2", "errmsg": "invalid appid"}
SETTING = {"is_open": True, "api_whitelist": ["/*"], "version": 1}
CALLS = {
    "modify_env": {},
    "use_cloud_access_token_get": {},
    "use_cloud_access_token_set": SETTING,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("token", ["their-token", wxtcb.Secret("their-token")], ids=["text", "secret"])
async def test_an_authorisers_token_may_be_used(session, platform, call, token):
    """It stands in the place of the session's, of which none is bought."""
    platform.replies = [DONE]
    await getattr(environment, call)(session, "e-1", **CALLS[call], token=token)
    assert platform.sent[0].query["access_token"] == "their-token"
    assert platform.bought == []


@pytest.mark.parametrize(
    ("call", "options"),
    [
        *[(call, {"env": value}) for call in CALLS for value in (None, "", 5)],
        *[(call, {"token": value}) for call in CALLS for value in ("", 5, b"t")],
        *[("use_cloud_access_token_set", {"is_open": value}) for value in (None, 1, "true")],
        *[("use_cloud_access_token_set", {"api_whitelist": value}) for value in (None, "/*", [5], [""])],
        *[("use_cloud_access_token_set", {"version": value}) for value in (None, "1", True, 1.0)],
    ],
    ids=repr,
)
async def test_an_argument_that_cannot_be_meant_is_refused(session, platform, call, options):
    """The message begins with its name; nothing is sent."""
    [name] = options
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await getattr(environment, call)(session, **{"env": "e-1", **CALLS[call], **options})
    assert (platform.sent, platform.bought) == ([], [])


async def test_nothing_may_be_allowed(session, platform):
    """A closed switch and an empty list are sent as they are."""
    platform.replies = [DONE]
    closed = {"is_open": False, "api_whitelist": [], "version": 0}
    await environment.use_cloud_access_token_set(session, "e-1", **closed)
    assert platform.bodies == [{"action": "set", "env": "e-1", "open": False, "api_whitelist": [], "version": 0}]


async def test_a_setting_may_tell_nothing(session, platform):
    """Every field may be missing."""
    platform.replies = [DONE]
    assert await environment.use_cloud_access_token_get(session, "e-1") == CloudAccess()


@pytest.mark.virtual_time
@pytest.mark.parametrize("step", [-1, -1000, SendFailure("lost", sent=True)])
async def test_a_setting_is_never_sent_twice(new_session, wechat, step):
    """A late repeat would overrule who came between: its outcome is unknown."""
    path = environment.USE_CLOUD_ACCESS_TOKEN_SET.path
    wechat.play(path, step)
    async with new_session() as session:
        with pytest.raises(wxtcb.OutcomeUnknown):
            await environment.use_cloud_access_token_set(session, "e-1", **SETTING)
    assert len(wechat.sent_to(path)) == 1


async def test_an_end_of_shares_that_failed_in_part_raises(session, platform):
    """The failed pairs are named."""
    platform.replies = [{**DONE, "err_list": [FAILURE]}]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await environment.batch_unshare_env(session, [Share(env="e-1", appids=["wx1", "wx2"])])
    assert partial.value.failed == (ShareFailure(**FAILURE),)
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx1", "wx2"]}]}]


@pytest.mark.parametrize(
    "data",
    [[], None, [None], [{"env": "e-1", "appids": ["wx1"]}], [5], "e-1"],
    ids=repr,
)
async def test_what_are_no_shares_is_refused(session, platform, data):
    """As where they begin."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^data\b"):
        await environment.batch_unshare_env(session, data)
    assert platform.sent == []


@pytest.mark.parametrize("source_type", ["1", True, 1.0], ids=repr)
async def test_what_is_no_source_type_is_refused(session, platform, source_type):
    """It is a whole number."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^source_type\b"):
        await environment.batch_unshare_env(session, [Share(env="e-1", appids=["wx1"])], source_type=source_type)
    assert platform.sent == []
