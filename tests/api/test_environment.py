"""Cloud environments: created, listed, shared and waited for."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb.api import environment
from wxtcb.api.environment import EnvInfo, NewEnv, Relation, RelationFailure, Share, ShareFailure, ShareLink

HINT = "try env_type='run'"
NEW = {"errcode": 0, "errmsg": "ok", "tranid": "20201030189770", "env": "e-1"}
LINK = {"appid": "wx1", "url": "https://mp.weixin.qq.com/confirm"}
FAILURE = {"env": "e-1", "appid": "wx2", "errmsg": "invalid appid"}
NOT_ALIASES = [
    "",
    " ",
    "A",
    "1env",
    "-env",
    "my_env",
    "my env",
    "env!",
    "env\n",
    "环境",
    None,
    5,
    True,
    b"env",
    ["env"],
]


def listing(**statuses):
    """Return a reply with environments by alias and status."""
    times = {"create_time": "2020-04-04 14:10:28", "update_time": "2020-04-04 14:10:36"}
    return {
        "errcode": 0,
        "info_list": [{"env": env, "alias": env, "status": status, **times} for env, status in statuses.items()],
    }


async def test_environment_is_created_by_its_alias(session, platform):
    """Without env_type only the alias is sent, and the reply has id and order number."""
    platform.replies = [NEW]
    assert await environment.create_env(session, alias="mytestenv") == NewEnv(tranid="20201030189770", env="e-1")
    assert platform.bodies == [{"alias": "mytestenv"}]


async def test_env_type_has_the_platforms_spelling(session, platform):
    """The field is EnvType, in camel case."""
    platform.replies = [NEW]
    await environment.create_env(session, alias="mytestenv", env_type="run")
    assert platform.bodies == [{"alias": "mytestenv", "EnvType": "run"}]


@pytest.mark.parametrize("alias", NOT_ALIASES, ids=repr)
async def test_invalid_alias_is_rejected_before_a_request(session, platform, alias):
    """The documented rule is checked, and the message names the argument."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^alias\b"):
        await environment.create_env(session, alias=alias)
    assert (platform.sent, platform.token_requests) == ([], [])


@pytest.mark.parametrize("code", [40097, 40101])
async def test_rejected_create_without_env_type_has_a_hint(session, platform, code):
    """The pages disagree on whether EnvType is required, so the error suggests a value."""
    platform.replies = [{"errcode": code, "errmsg": "invalid args"}]
    with pytest.raises(wxtcb.InvalidRequest, match=HINT):
        await environment.create_env(session, alias="mytestenv")


@pytest.mark.parametrize("code", [40097, 40101])
async def test_rejected_create_with_env_type_has_no_hint(session, platform, code):
    """The hint would not help a caller who gave an EnvType."""
    platform.replies = [{"errcode": code, "errmsg": "invalid args"}]
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await environment.create_env(session, alias="mytestenv", env_type="run")
    assert HINT not in str(caught.value)


async def test_other_rejection_has_no_hint(session, platform):
    """Other error codes have nothing to do with EnvType."""
    platform.replies = [{"errcode": 47001, "errmsg": "data format error"}]
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await environment.create_env(session, alias="mytestenv")
    assert HINT not in str(caught.value)


async def test_create_without_an_id_has_an_unknown_outcome(session, platform):
    """A success without env may have created one, so it is not repeated."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "tranid": "1"}]
    with pytest.raises(wxtcb.OutcomeUnknown, match=r"required field missing @ \$\.env"):
        await environment.create_env(session, alias="mytestenv")
    assert len(platform.sent) == 1


async def test_list_sends_an_empty_object(session, platform):
    """The platform rejects an empty body, so the body is ``{}``."""
    platform.replies = [listing()]
    assert (await environment.describe_envs(session)).info_list == ()
    assert platform.bodies == [{}]


async def test_list_has_an_index_by_id(session, platform):
    """`by_env` has the same environments by their ids."""
    platform.replies = [listing(a="NORMAL", b="HALTED")]
    listed = await environment.describe_envs(session)
    assert {env: info.status for env, info in listed.by_env.items()} == {"a": "NORMAL", "b": "HALTED"}
    assert tuple(listed.by_env.values()) == listed.info_list


@pytest.mark.parametrize("kind", [list, tuple, iter, set], ids=lambda kind: kind.__name__)
async def test_shares_may_be_any_iterable(session, platform, kind):
    """The data is a list on the wire."""
    platform.replies = [{"errcode": 0}]
    await environment.batch_share_env(session, kind([Share(env="e-1", appids=kind(["wx1"]))]))
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx1"]}]}]


@pytest.mark.parametrize("source_type", [0, 1])
async def test_source_type_is_sent_if_given(session, platform, source_type):
    """0 is sent too."""
    platform.replies = [{"errcode": 0}]
    await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1"])], source_type=source_type)
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx1"]}], "source_type": source_type}]


async def test_links_are_typed(session, platform):
    """A share without failures returns the confirmation links."""
    platform.replies = [{"errcode": 0, "err_list": [], "msg_info_list": [LINK]}]
    shared = await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1"])])
    assert shared.msg_info_list == (ShareLink(**LINK),)


async def test_partial_failure_of_a_share_has_the_links(session, platform):
    """`PartialFailure` has the failed pairs, and the links of the others in `.reply`."""
    platform.replies = [{"errcode": 0, "err_list": [FAILURE], "msg_info_list": [LINK]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx2") as partial:
        await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1", "wx2"])])
    assert partial.value.failed == (ShareFailure(**FAILURE),)
    assert partial.value.reply.msg_info_list == (ShareLink(**LINK),)
    assert partial.value.endpoint == "/componenttcb/batchshareenv"
    assert wxtcb.raw(partial.value.reply)["err_list"] == [FAILURE]


async def test_partial_failure_of_a_share_is_returned_by_a_view(session, platform):
    """A view with ``partial="return"`` returns the reply; the session still raises."""
    platform.replies = [{"errcode": 0, "err_list": [FAILURE], "msg_info_list": [LINK]}]
    shares = [Share(env="e-1", appids=["wx1", "wx2"])]
    shared = await environment.batch_share_env(session.with_options(partial="return"), shares)
    assert (shared.failed, shared.msg_info_list) == ((ShareFailure(**FAILURE),), (ShareLink(**LINK),))
    with pytest.raises(wxtcb.PartialFailure):
        await environment.batch_share_env(session, shares)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"env": ""}, "env"),
        ({"appids": "wx1"}, "appids"),
        ({"appids": []}, "appids"),
        ({"appids": [""]}, "appids"),
    ],
    ids=str,
)
def test_invalid_share_is_rejected_by_field(fields, name):
    """A string in place of a list of appids, an empty list and empty ids are rejected."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Share: {name}\b"):
        Share(**{"env": "e-1", "appids": ["wx1"], **fields})


@pytest.mark.parametrize("data", [[], ()], ids=str)
async def test_empty_share_is_rejected_before_a_request(session, platform, data):
    """A list without shares is rejected by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^data\b"):
        await environment.batch_share_env(session, data)
    assert (platform.sent, platform.token_requests) == ([], [])


@pytest.mark.parametrize("kind", [list, tuple, iter, set], ids=lambda kind: kind.__name__)
async def test_appids_may_be_any_iterable(session, platform, kind):
    """They are a list on the wire."""
    platform.replies = [{"errcode": 0, "relation_data": []}]
    await environment.batch_get_env_id(session, kind(["wx1"]), source_type=0)
    assert platform.bodies == [{"appids": ["wx1"], "source_type": 0}]


async def test_partial_failure_of_a_lookup_has_the_relations(session, platform):
    """The env of the old page's err_list is kept; a mini program without environments may have null."""
    relation = {"appid": "wx1", "env_list": None}
    platform.replies = [{"errcode": 0, "relation_data": [relation], "err_list": [FAILURE]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx2") as partial:
        await environment.batch_get_env_id(session, ["wx1", "wx2"])
    assert partial.value.failed == (RelationFailure(**FAILURE),)
    assert partial.value.reply.relation_data == (Relation(appid="wx1"),)


@pytest.mark.parametrize("appids", [[], "wx1", [""]], ids=str)
async def test_invalid_appids_are_rejected_before_a_request(session, platform, appids):
    """A string in place of a list, an empty list and empty appids are rejected by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^appids\b"):
        await environment.batch_get_env_id(session, appids)
    assert (platform.sent, platform.token_requests) == ([], [])


async def test_invalid_token_of_the_caller_is_raised(session, platform):
    """`session.call` with a caller's token sends it and refreshes nothing."""
    platform.replies = [{"errcode": 42001, "errmsg": "access_token expired"}]
    with pytest.raises(wxtcb.InvalidToken):
        await session.call(environment.DESCRIBE_ENVS, {}, token="mine")
    assert [sent.query for sent in platform.sent] == [{"access_token": "mine"}]
    assert platform.token_requests == []


@pytest.fixture
def wait_for(virtual_run, make_session, platform):
    """Return a function that waits for an environment in a new session and returns the result and the seconds."""

    async def wait(env, **options):
        now = asyncio.get_running_loop().time
        async with make_session() as session:
            started = now()
            try:
                result = await environment.wait_until_normal(session, env, **options)
            except wxtcb.WxtcbError as error:
                result = error
            return result, now() - started

    return lambda env, **options: virtual_run(wait(env, **options))


def test_normal_environment_is_returned_after_one_poll(wait_for, platform):
    """An environment that is NORMAL already needs one poll."""
    platform.replies = [listing(e="NORMAL")]
    info, seconds = wait_for("e")
    assert isinstance(info, EnvInfo)
    assert (info.env, info.status, len(platform.sent)) == ("e", "NORMAL", 1)
    assert seconds < 1


def test_wait_polls_every_interval_until_normal(wait_for, platform):
    """A missing environment, UNAVAILABLE and unknown statuses keep waiting."""
    strange = [listing(), listing(e="UNAVAILABLE"), listing(e="ISOLATING"), listing(e="NORMAL", f="HALTED")]
    platform.replies = strange
    info, seconds = wait_for("e", interval=7)
    assert (info.status, len(platform.sent)) == ("NORMAL", 4)
    assert 21 <= seconds < 22


@pytest.mark.parametrize(("reply", "status"), [(listing(e="UNAVAILABLE"), "UNAVAILABLE"), (listing(), None)])
def test_timeout_has_the_last_status(wait_for, platform, reply, status):
    """After *timeout* seconds `EnvironmentTimeout`, also a TimeoutError, has the last status."""
    platform.replies = [reply]
    error, seconds = wait_for("e", timeout=12, interval=5)
    assert type(error) is wxtcb.EnvironmentTimeout
    assert isinstance(error, TimeoutError)
    assert (error.env, error.status) == ("e", status)
    assert f"still {status or 'not listed'} after 12 s" in str(error)
    assert 12 <= seconds < 13
    assert len(platform.sent) == 3


def test_halted_environment_ends_the_wait(wait_for, platform):
    """HALTED cannot become NORMAL by waiting."""
    platform.replies = [listing(e="UNAVAILABLE"), listing(e="HALTED")]
    error, seconds = wait_for("e", interval=5)
    assert type(error) is wxtcb.EnvironmentFailed
    assert (error.env, error.status) == ("e", "HALTED")
    assert seconds < 6


def test_missing_environment_is_not_found_after_30_seconds(wait_for, platform):
    """One or two polls without it may be an incomplete list; 30 seconds of polls are not."""
    platform.replies = [listing(other="NORMAL")]
    error, seconds = wait_for("e", interval=5)
    assert type(error) is wxtcb.EnvironmentNotFound
    assert "7 polls in a row over 30 s" in str(error)
    assert 30 <= seconds < 31


def test_missing_environment_needs_three_polls(wait_for, platform):
    """Two polls without it are not enough at any interval."""
    platform.replies = [listing()]
    error, seconds = wait_for("e", interval=40)
    assert type(error) is wxtcb.EnvironmentNotFound
    assert len(platform.sent) == 3
    assert 80 <= seconds < 81


def test_polls_before_an_environment_is_listed_do_not_count(wait_for, platform):
    """Three polls without it must follow the last one with it."""
    platform.replies = [listing(), listing(e="UNAVAILABLE"), listing()]
    error, _ = wait_for("e", interval=40)
    assert type(error) is wxtcb.EnvironmentNotFound
    assert len(platform.sent) == 5


def test_default_timeout_is_600_and_interval_5_seconds(wait_for, platform):
    """A wait without arguments ends after 600 seconds and polls every 5."""
    platform.replies = [listing(e="UNAVAILABLE")]
    error, seconds = wait_for("e")
    assert type(error) is wxtcb.EnvironmentTimeout
    assert 600 <= seconds < 601
    assert len(platform.sent) == 120


def test_environment_that_reappears_is_not_missing(wait_for, platform):
    """Each poll with it restarts the count, and its last status is remembered."""
    hiccup = [listing(), listing(), listing(e="UNAVAILABLE")]
    platform.replies = [*hiccup, *hiccup, *hiccup, listing()]
    error, _ = wait_for("e", interval=12)
    assert type(error) is wxtcb.EnvironmentNotFound
    assert (len(platform.sent), error.status) == (13, "UNAVAILABLE")


def test_all_waiters_share_their_polls(virtual_run, make_session, platform):
    """A hundred waiters of a session and its views poll as often as one."""
    names = [f"e{number}" for number in range(100)]
    platform.replies = [
        listing(**dict.fromkeys(names, "UNAVAILABLE")),
        listing(**dict.fromkeys(names, "NORMAL")),
    ]

    async def wait_for_all():
        async with make_session() as session:
            views = [session.with_options(partial="return") for _ in names]
            waits = [environment.wait_until_normal(view, name) for view, name in zip(views, names, strict=True)]
            return await asyncio.gather(*waits)

    assert [info.env for info in virtual_run(wait_for_all())] == names
    assert len(platform.sent) == 2


def test_deadline_of_the_caller_is_a_plain_timeout(virtual_run, make_session, platform):
    """A caller's ``asyncio.timeout`` ends the wait with a plain TimeoutError."""
    platform.replies = [listing(e="UNAVAILABLE")]

    async def wait():
        async with make_session() as session:
            with pytest.raises(TimeoutError) as late:
                async with asyncio.timeout(3):
                    await environment.wait_until_normal(session, "e")
            return late.value

    assert type(virtual_run(wait())) is TimeoutError


def test_timeout_error_of_a_poll_is_unchanged(virtual_run, make_session, platform, monkeypatch):
    """Only the deadline of the wait becomes an `EnvironmentTimeout`."""
    other = TimeoutError("from a poll")

    class Broken:
        """A poller that raises a TimeoutError."""

        async def poll(self, newer_than):
            raise other

    async def wait():
        async with make_session() as session:
            monkeypatch.setattr(type(session), "shared_poller", lambda *_: Broken())
            with pytest.raises(TimeoutError) as late:
                await environment.wait_until_normal(session, "e")
            return late.value

    assert virtual_run(wait()) is other


def test_permanent_error_of_a_poll_ends_the_wait(wait_for, platform):
    """Waiting does not change an error such as PermissionDenied."""
    platform.replies = [{"errcode": 85088, "errmsg": "no qbase privilege"}]
    error, _ = wait_for("e")
    assert type(error) is wxtcb.PermissionDenied


@pytest.mark.parametrize(
    ("env", "options", "name"),
    [
        ("e", {"timeout": 0}, "timeout"),
        ("e", {"timeout": None}, "timeout"),
        ("e", {"timeout": "600"}, "timeout"),
        ("e", {"timeout": float("nan")}, "timeout"),
        ("e", {"interval": -1}, "interval"),
        ("e", {"interval": True}, "interval"),
        ("e", {"interval": float("inf")}, "interval"),
    ],
    ids=str,
)
async def test_invalid_wait_is_rejected_before_the_first_poll(session, platform, env, options, name):
    """Times that are not positive seconds are rejected by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await environment.wait_until_normal(session, env, **options)
    assert platform.sent == []
