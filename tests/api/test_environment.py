"""Cloud environments: opened, listed, shared and waited for."""

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
    """Make a reply that lists environments by alias and status."""
    times = {"create_time": "2020-04-04 14:10:28", "update_time": "2020-04-04 14:10:36"}
    return {
        "errcode": 0,
        "info_list": [{"env": env, "alias": env, "status": status, **times} for env, status in statuses.items()],
    }


async def test_an_environment_is_opened_by_its_alias_alone(session, platform):
    """Without env_type nothing but the alias is sent, and id and order number come back."""
    platform.replies = [NEW]
    assert await environment.create_env(session, alias="mytestenv") == NewEnv(tranid="20201030189770", env="e-1")
    assert platform.bodies == [{"alias": "mytestenv"}]


async def test_an_env_type_goes_out_as_the_platform_spells_it(session, platform):
    """The field is EnvType, in camel case."""
    platform.replies = [NEW]
    await environment.create_env(session, alias="mytestenv", env_type="run")
    assert platform.bodies == [{"alias": "mytestenv", "EnvType": "run"}]


@pytest.mark.parametrize("alias", NOT_ALIASES, ids=repr)
async def test_an_alias_against_the_rule_is_refused_before_anything_is_sent(session, platform, alias):
    """The documented rule is checked here, and the message names the field."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^alias must start with a-z"):
        await environment.create_env(session, alias=alias)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize("env_type", ["", " ", 1, True, b"run", ["run"]], ids=repr)
async def test_an_env_type_that_is_no_text_is_refused(session, platform, env_type):
    """The message names the field; nothing is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^env_type must be"):
        await environment.create_env(session, alias="mytestenv", env_type=env_type)
    assert platform.sent == []


@pytest.mark.parametrize("code", [40097, 40101])
async def test_a_refused_create_without_env_type_hints_at_it(session, platform, code):
    """The pages disagree on whether EnvType is required, so the error says which value to try."""
    platform.replies = [{"errcode": code, "errmsg": "invalid args"}]
    with pytest.raises(wxtcb.InvalidRequest, match=HINT):
        await environment.create_env(session, alias="mytestenv")


@pytest.mark.parametrize("code", [40097, 40101])
async def test_a_refused_create_with_env_type_does_not_hint_at_it(session, platform, code):
    """Who gave an EnvType gets no advice to give one."""
    platform.replies = [{"errcode": code, "errmsg": "invalid args"}]
    with pytest.raises(wxtcb.InvalidRequest) as refused:
        await environment.create_env(session, alias="mytestenv", env_type="run")
    assert HINT not in str(refused.value)


async def test_a_create_refused_for_something_else_does_not_hint_at_env_type(session, platform):
    """Other refusals have nothing to do with EnvType."""
    platform.replies = [{"errcode": 47001, "errmsg": "data format error"}]
    with pytest.raises(wxtcb.InvalidRequest) as refused:
        await environment.create_env(session, alias="mytestenv")
    assert HINT not in str(refused.value)


async def test_a_create_answered_without_its_id_is_of_unknown_outcome(session, platform):
    """A success without env may have opened one; it is not sent again."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "tranid": "1"}]
    with pytest.raises(wxtcb.OutcomeUnknown, match=r"required field missing @ \$\.env"):
        await environment.create_env(session, alias="mytestenv")
    assert len(platform.sent) == 1


async def test_listing_sends_an_empty_object(session, platform):
    """The platform refuses an empty body, so the body is ``{}``."""
    platform.replies = [listing()]
    assert (await environment.describe_envs(session)).info_list == ()
    assert platform.bodies == [{}]


async def test_a_listing_can_be_asked_by_id(session, platform):
    """`by_env` holds the same environments by their ids."""
    platform.replies = [listing(a="NORMAL", b="HALTED")]
    listed = await environment.describe_envs(session)
    assert {env: info.status for env, info in listed.by_env.items()} == {"a": "NORMAL", "b": "HALTED"}
    assert tuple(listed.by_env.values()) == listed.info_list


@pytest.mark.parametrize("kind", [list, tuple, iter, set], ids=lambda kind: kind.__name__)
async def test_shares_may_come_from_anything_that_can_be_gone_through(session, platform, kind):
    """The data is a list on the wire, whatever it was given as."""
    platform.replies = [{"errcode": 0}]
    await environment.batch_share_env(session, kind([Share(env="e-1", appids=kind(["wx1"]))]))
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx1"]}]}]


@pytest.mark.parametrize("source_type", [0, 1])
async def test_a_source_type_is_sent_when_given(session, platform, source_type):
    """0 is sent as well."""
    platform.replies = [{"errcode": 0}]
    await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1"])], source_type=source_type)
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx1"]}], "source_type": source_type}]


async def test_links_come_back_typed(session, platform):
    """A share without failures gives the links that must be opened."""
    platform.replies = [{"errcode": 0, "err_list": [], "msg_info_list": [LINK]}]
    shared = await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1"])])
    assert shared.msg_info_list == (ShareLink(**LINK),)


async def test_a_share_that_failed_in_part_raises_with_the_good_part(session, platform):
    """A success with err_list is `PartialFailure`: the failed pairs named, the links of the others in `.reply`."""
    platform.replies = [{"errcode": 0, "err_list": [FAILURE], "msg_info_list": [LINK]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx2") as partial:
        await environment.batch_share_env(session, [Share(env="e-1", appids=["wx1", "wx2"])])
    assert partial.value.failed == (ShareFailure(**FAILURE),)
    assert partial.value.reply.msg_info_list == (ShareLink(**LINK),)
    assert partial.value.endpoint == "/componenttcb/batchshareenv"
    assert wxtcb.raw(partial.value.reply)["err_list"] == [FAILURE]


async def test_a_share_that_failed_in_part_is_returned_where_that_is_wanted(session, platform):
    """A view with ``partial="return"`` gives the reply with its failures; the session itself goes on raising."""
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
        ({"env": None}, "env"),
        ({"env": 5}, "env"),
        ({"appids": "wx1"}, "appids"),
        ({"appids": b"wx1"}, "appids"),
        ({"appids": None}, "appids"),
        ({"appids": 5}, "appids"),
        ({"appids": []}, "appids"),
        ({"appids": [""]}, "appids"),
        ({"appids": ["wx1", 5]}, "appids"),
        ({"appids": [["wx1"]]}, "appids"),
    ],
    ids=str,
)
def test_a_share_that_cannot_be_meant_is_refused_by_field(fields, name):
    """One text is no list of appids, an empty list shares nothing; the message names class and field."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Share: {name}\b"):
        Share(**{"env": "e-1", "appids": ["wx1"], **fields})


@pytest.mark.parametrize(
    ("data", "options", "name"),
    [
        ([], {}, "data"),
        (None, {}, "data"),
        (5, {}, "data"),
        ("e-1", {}, "data"),
        ({"env": "e-1"}, {}, "data"),
        ([{"env": "e-1", "appids": ["wx1"]}], {}, "data"),
        (Share(env="e-1", appids=["wx1"]), {}, "data"),
        ([Share(env="e-1", appids=["wx1"]), None], {}, "data"),
        ([Share(env="e-1", appids=["wx1"])], {"source_type": "1"}, "source_type"),
        ([Share(env="e-1", appids=["wx1"])], {"source_type": True}, "source_type"),
        ([Share(env="e-1", appids=["wx1"])], {"source_type": 1.0}, "source_type"),
    ],
    ids=str,
)
async def test_arguments_of_a_share_are_checked_before_anything_is_sent(session, platform, data, options, name):
    """What is no list of `Share`, and a source_type that is no int, is refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await environment.batch_share_env(session, data, **options)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize("kind", [list, tuple, iter, set], ids=lambda kind: kind.__name__)
async def test_appids_may_come_from_anything_that_can_be_gone_through(session, platform, kind):
    """They are a list on the wire, whatever they were given as."""
    platform.replies = [{"errcode": 0, "relation_data": []}]
    await environment.batch_get_env_id(session, kind(["wx1"]), source_type=0)
    assert platform.bodies == [{"appids": ["wx1"], "source_type": 0}]


async def test_a_look_up_that_failed_in_part_raises_with_the_good_part(session, platform):
    """The old page's env in err_list is kept; a mini program without environments may come with null."""
    relation = {"appid": "wx1", "env_list": None}
    platform.replies = [{"errcode": 0, "relation_data": [relation], "err_list": [FAILURE]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx2") as partial:
        await environment.batch_get_env_id(session, ["wx1", "wx2"])
    assert partial.value.failed == (RelationFailure(**FAILURE),)
    assert partial.value.reply.relation_data == (Relation(appid="wx1"),)


@pytest.mark.parametrize(
    ("appids", "options", "name"),
    [
        ([], {}, "appids"),
        (None, {}, "appids"),
        ("wx1", {}, "appids"),
        (["wx1", 5], {}, "appids"),
        (["wx1"], {"source_type": "1"}, "source_type"),
        (["wx1"], {"source_type": True}, "source_type"),
    ],
    ids=str,
)
async def test_arguments_of_a_look_up_are_checked_before_anything_is_sent(session, platform, appids, options, name):
    """One text is no list of appids, and a source_type that is no int is refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await environment.batch_get_env_id(session, appids, **options)
    assert (platform.sent, platform.bought) == ([], [])


async def test_a_dead_token_of_the_callers_own_is_raised(session, platform):
    """`session.call` with a token of one's own sends it and renews nothing."""
    platform.replies = [{"errcode": 42001, "errmsg": "access_token expired"}]
    with pytest.raises(wxtcb.InvalidToken):
        await session.call(environment.DESCRIBE_ENVS, {}, token="mine")
    assert [sent.query for sent in platform.sent] == [{"access_token": "mine"}]
    assert platform.bought == []


@pytest.fixture
def wait_for(virtual_run, make_session, platform):
    """Return what waits for an environment in a session of its own, and gives the result and the seconds it took."""

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


def test_waiting_ends_with_the_first_look_when_the_environment_is_normal(wait_for, platform):
    """An environment that is NORMAL already is returned after one look."""
    platform.replies = [listing(e="NORMAL")]
    info, seconds = wait_for("e")
    assert isinstance(info, EnvInfo)
    assert (info.env, info.status, len(platform.sent)) == ("e", "NORMAL", 1)
    assert seconds < 1


def test_waiting_looks_every_interval_until_normal(wait_for, platform):
    """Unknown to the list, UNAVAILABLE and strange statuses are waiting; a look is made every *interval* seconds."""
    strange = [listing(), listing(e="UNAVAILABLE"), listing(e="ISOLATING"), listing(e="NORMAL", f="HALTED")]
    platform.replies = strange
    info, seconds = wait_for("e", interval=7)
    assert (info.status, len(platform.sent)) == ("NORMAL", 4)
    assert 21 <= seconds < 22


@pytest.mark.parametrize(("reply", "status"), [(listing(e="UNAVAILABLE"), "UNAVAILABLE"), (listing(), None)])
def test_waiting_ends_in_time(wait_for, platform, reply, status):
    """After *timeout* seconds it is `OperationTimeout`, a TimeoutError too, with the last status seen."""
    platform.replies = [reply]
    error, seconds = wait_for("e", timeout=12, interval=5)
    assert type(error) is wxtcb.OperationTimeout
    assert isinstance(error, TimeoutError)
    assert (error.env, error.status) == ("e", status)
    assert f"still {status or 'not listed'} after 12 s" in str(error)
    assert 12 <= seconds < 13
    assert len(platform.sent) == 3


def test_a_halted_environment_ends_the_wait_at_once(wait_for, platform):
    """HALTED will not become NORMAL by waiting."""
    platform.replies = [listing(e="UNAVAILABLE"), listing(e="HALTED")]
    error, seconds = wait_for("e", interval=5)
    assert type(error) is wxtcb.OperationFailed
    assert (error.env, error.status) == ("e", "HALTED")
    assert seconds < 6


def test_an_environment_missing_from_the_list_is_gone_after_half_a_minute(wait_for, platform):
    """One or two looks without it may be a hiccup of the list; 30 seconds of looks are not."""
    platform.replies = [listing(other="NORMAL")]
    error, seconds = wait_for("e", interval=5)
    assert type(error) is wxtcb.OperationNotFound
    assert "7 looks in a row over 30 s" in str(error)
    assert 30 <= seconds < 31


def test_a_long_interval_needs_three_looks_to_call_an_environment_gone(wait_for, platform):
    """Two looks without it are not enough, however far apart they are."""
    platform.replies = [listing()]
    error, seconds = wait_for("e", interval=40)
    assert type(error) is wxtcb.OperationNotFound
    assert len(platform.sent) == 3
    assert 80 <= seconds < 81


def test_the_looks_before_an_environment_was_seen_do_not_count(wait_for, platform):
    """Three looks without it must follow the last one with it."""
    platform.replies = [listing(), listing(e="UNAVAILABLE"), listing()]
    error, _ = wait_for("e", interval=40)
    assert type(error) is wxtcb.OperationNotFound
    assert len(platform.sent) == 5


def test_waiting_takes_ten_minutes_and_looks_every_five_seconds_unless_told_otherwise(wait_for, platform):
    """The defaults are 600 and 5 seconds."""
    platform.replies = [listing(e="UNAVAILABLE")]
    error, seconds = wait_for("e")
    assert type(error) is wxtcb.OperationTimeout
    assert 600 <= seconds < 601
    assert len(platform.sent) == 120


def test_an_environment_that_comes_back_is_not_gone(wait_for, platform):
    """Each sight of it starts the count of missing looks anew, and its last status is remembered."""
    hiccup = [listing(), listing(), listing(e="UNAVAILABLE")]
    platform.replies = [*hiccup, *hiccup, *hiccup, listing()]
    error, _ = wait_for("e", interval=12)
    assert type(error) is wxtcb.OperationNotFound
    assert (len(platform.sent), error.status) == (13, "UNAVAILABLE")


def test_all_who_wait_share_the_looks(virtual_run, make_session, platform):
    """A hundred waiters of one session make no more looks than one, views included."""
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


def test_a_deadline_of_the_callers_is_not_taken_for_the_environments(virtual_run, make_session, platform):
    """A caller's own ``asyncio.timeout`` ends the wait with a plain TimeoutError."""
    platform.replies = [listing(e="UNAVAILABLE")]

    async def wait():
        async with make_session() as session:
            with pytest.raises(TimeoutError) as late:
                async with asyncio.timeout(3):
                    await environment.wait_until_normal(session, "e")
            return late.value

    assert type(virtual_run(wait())) is TimeoutError


def test_a_timeout_out_of_a_look_is_not_taken_for_the_environments(virtual_run, make_session, platform, monkeypatch):
    """Only our own deadline makes an `OperationTimeout`; another TimeoutError passes as it is."""
    other = TimeoutError("of somebody else")

    class Broken:
        """A sweep that fails in a way of its own."""

        async def poll(self, newer_than):
            raise other

    async def wait():
        async with make_session() as session:
            monkeypatch.setattr(type(session), "shared_poller", lambda *_: Broken())
            with pytest.raises(TimeoutError) as late:
                await environment.wait_until_normal(session, "e")
            return late.value

    assert virtual_run(wait()) is other


def test_a_look_that_fails_ends_the_wait_with_its_error(wait_for, platform):
    """What the platform refuses, waiting does not mend."""
    platform.replies = [{"errcode": 85088, "errmsg": "no qbase privilege"}]
    error, _ = wait_for("e")
    assert type(error) is wxtcb.PermissionDenied


@pytest.mark.parametrize(
    ("env", "options", "name"),
    [
        ("", {}, "env"),
        (None, {}, "env"),
        (5, {}, "env"),
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
async def test_arguments_of_a_wait_are_checked_before_the_first_look(session, platform, env, options, name):
    """An id that is no text and times that are no seconds are refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^{name} must be"):
        await environment.wait_until_normal(session, env, **options)
    assert platform.sent == []
