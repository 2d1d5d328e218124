"""Access to cloudbase_access_token, conversion of environments, and the end of shares."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import environment
from wxtcb.api.environment import CloudAccess, Share, ShareFailure

DONE = {"errcode": 0, "errmsg": "ok"}
FAILURE = {"env": "e-1", "appid": "wx0000000000000002", "errmsg": "invalid appid"}
SETTING = {"is_open": True, "api_whitelist": ["/*"], "version": 1}
CALLS = {
    "modify_env": {},
    "use_cloud_access_token_get": {},
    "use_cloud_access_token_set": SETTING,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("token", ["their-token", wxtcb.Secret("their-token")], ids=["text", "secret"])
async def test_token_of_an_authoriser_is_used(session, platform, call, token):
    """A token given by the caller replaces the session's token, and none is fetched."""
    platform.replies = [DONE]
    await getattr(environment, call)(session, "e-1", **CALLS[call], token=token)
    assert platform.sent[0].query["access_token"] == "their-token"
    assert platform.token_requests == []


@pytest.mark.parametrize(
    ("call", "options"),
    [
        *[(call, {"token": value}) for call in CALLS for value in ("", 5, b"t")],
        *[("use_cloud_access_token_set", {"api_whitelist": value}) for value in ("/*", [""])],
    ],
    ids=repr,
)
async def test_invalid_argument_is_rejected_by_name(session, platform, call, options):
    """An empty token, and a string in place of a list of paths, are rejected before a request is sent."""
    [name] = options
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await getattr(environment, call)(session, **{"env": "e-1", **CALLS[call], **options})
    assert (platform.sent, platform.token_requests) == ([], [])


async def test_closed_switch_and_empty_whitelist_are_sent(session, platform):
    """False and an empty list are sent unchanged."""
    platform.replies = [DONE]
    closed = {"is_open": False, "api_whitelist": [], "version": 0}
    await environment.use_cloud_access_token_set(session, "e-1", **closed)
    assert platform.bodies == [{"action": "set", "env": "e-1", "open": False, "api_whitelist": [], "version": 0}]


async def test_every_field_of_a_setting_is_optional(session, platform):
    """A reply without fields gives a `CloudAccess` of None."""
    platform.replies = [DONE]
    assert await environment.use_cloud_access_token_get(session, "e-1") == CloudAccess()


@pytest.mark.virtual_time
@pytest.mark.parametrize("step", [-1, -1000, SendFailure("lost", sent=True)])
async def test_setting_is_never_sent_twice(new_session, wechat, step):
    """A late repeat would overwrite a newer setting, so the outcome is unknown."""
    path = environment.USE_CLOUD_ACCESS_TOKEN_SET.path
    wechat.play(path, step)
    async with new_session() as session:
        with pytest.raises(wxtcb.OutcomeUnknown):
            await environment.use_cloud_access_token_set(session, "e-1", **SETTING)
    assert len(wechat.sent_to(path)) == 1


async def test_partial_failure_of_unshare_names_the_pairs(session, platform):
    """The failed pairs are on the `PartialFailure`."""
    platform.replies = [{**DONE, "err_list": [FAILURE]}]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await environment.batch_unshare_env(
            session, [Share(env="e-1", appids=[f"wx{number:016}" for number in (1, 2)])]
        )
    assert partial.value.failed == (ShareFailure(**FAILURE),)
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx0000000000000001", "wx0000000000000002"]}]}]


@pytest.mark.parametrize("data", [[], ()], ids=repr)
async def test_empty_list_of_shares_is_rejected(session, platform, data):
    """Ending no share at all is rejected before a request is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^data\b"):
        await environment.batch_unshare_env(session, data)
    assert platform.sent == []
