"""Cloud environments: created, listed, shared and waited for."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.api import environment
from wxtcb.api.environment import EnsuredEnv, NewEnv, Relation, RelationFailure, Share, ShareFailure, ShareLink

HINT = "try env_type='run'"
NEW = {"errcode": 0, "errmsg": "ok", "tranid": "20201030189770", "env": "e-1"}
LINK = {"appid": "wx0000000000000001", "url": "https://mp.weixin.qq.com/confirm"}
FAILURE = {"env": "e-1", "appid": "wx0000000000000002", "errmsg": "invalid appid"}
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


async def test_ensured_environment_is_created_once(session, platform):
    """The list comes first; the environment that it shows under the alias is returned, in any case of the alias."""
    platform.replies = [listing(other="NORMAL"), NEW]
    new = await environment.ensure_env(session, alias="mytestenv")
    assert new == EnsuredEnv(env="e-1", created=True, tranid="20201030189770")
    assert platform.bodies == [{}, {"alias": "mytestenv"}]
    platform.replies = [listing(other="NORMAL", MyTestEnv="HALTED")]
    assert await environment.ensure_env(session, alias="mytestenv") == EnsuredEnv(env="MyTestEnv", created=False)
    assert len(platform.bodies) == 3


async def test_several_environments_are_not_ensured(session, platform):
    """None is chosen, and none is created."""
    platform.replies = [listing(myenv="NORMAL", MYENV="NORMAL")]
    with pytest.raises(wxtcb.InvalidArgument, match=r"several environments \(myenv, MYENV\).*nothing was created"):
        await environment.ensure_env(session, alias="myEnv")
    assert platform.bodies == [{}]


async def test_ensure_sends_env_type_and_checks_the_alias(session, platform):
    """An invalid alias is rejected before the list."""
    platform.replies = [listing(), NEW]
    await environment.ensure_env(session, alias="a", env_type="run")
    with pytest.raises(wxtcb.InvalidArgument, match=r"^alias\b"):
        await environment.ensure_env(session, alias="1")
    assert platform.bodies == [{}, {"alias": "a", "EnvType": "run"}]


async def test_unknown_outcome_of_ensure_is_raised(live, sandbox):
    """A lost reply to the create is an `OutcomeUnknown`; the next call finds the environment."""
    sandbox.faults.drop_after(path="/componenttcb/createenv")
    with pytest.raises(wxtcb.OutcomeUnknown):
        await environment.ensure_env(live, alias="mine")
    found = await environment.ensure_env(live, alias="mine")
    assert found == EnsuredEnv(env=next(iter(sandbox.world.environments)), created=False)


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


@pytest.mark.parametrize("alias", ["a" * 21, "a-", "a--b", "aB"])
async def test_rejected_create_explains_the_narrower_rule_for_an_alias(session, platform, alias):
    """WeChat's page allows more than Tencent Cloud, so the alias is sent, and explained if it is rejected."""
    platform.replies = [{"errcode": 40097, "errmsg": "invalid args"}] * 2
    with pytest.raises(wxtcb.InvalidRequest, match="at most 20 characters"):
        await environment.create_env(session, alias=alias, env_type="run")
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await environment.create_env(session, alias="a" * 18 + "-9", env_type="run")
    assert "20 characters" not in str(caught.value)


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
    await environment.batch_share_env(session, kind([Share(env="e-1", appids=kind(["wx0000000000000001"]))]))
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx0000000000000001"]}]}]


@pytest.mark.parametrize("source_type", [0, 1])
async def test_source_type_is_sent_if_given(session, platform, source_type):
    """0 is sent too."""
    platform.replies = [{"errcode": 0}]
    await environment.batch_share_env(
        session, [Share(env="e-1", appids=["wx0000000000000001"])], source_type=source_type
    )
    assert platform.bodies == [{"data": [{"env": "e-1", "appids": ["wx0000000000000001"]}], "source_type": source_type}]


async def test_links_are_typed(session, platform):
    """A share without failures returns the confirmation links."""
    platform.replies = [{"errcode": 0, "err_list": [], "msg_info_list": [LINK]}]
    shared = await environment.batch_share_env(session, [Share(env="e-1", appids=["wx0000000000000001"])])
    assert shared.msg_info_list == (ShareLink(**LINK),)


async def test_partial_failure_of_a_share_has_the_links(session, platform):
    """`PartialFailure` has the failed pairs, and the links of the others in `.reply`."""
    platform.replies = [{"errcode": 0, "err_list": [FAILURE], "msg_info_list": [LINK]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx0000000000000002") as partial:
        await environment.batch_share_env(
            session, [Share(env="e-1", appids=["wx0000000000000001", "wx0000000000000002"])]
        )
    assert partial.value.failed == (ShareFailure(**FAILURE),)
    assert partial.value.reply.msg_info_list == (ShareLink(**LINK),)
    assert partial.value.endpoint == "/componenttcb/batchshareenv"
    assert wxtcb.raw(partial.value.reply)["err_list"] == [FAILURE]


async def test_partial_failure_of_a_share_is_returned_by_a_view(session, platform):
    """A view with ``partial="return"`` returns the reply; the session still raises."""
    platform.replies = [{"errcode": 0, "err_list": [FAILURE], "msg_info_list": [LINK]}]
    shares = [Share(env="e-1", appids=["wx0000000000000001", "wx0000000000000002"])]
    shared = await environment.batch_share_env(session.with_options(partial="return"), shares)
    assert (shared.failed, shared.msg_info_list) == ((ShareFailure(**FAILURE),), (ShareLink(**LINK),))
    with pytest.raises(wxtcb.PartialFailure):
        await environment.batch_share_env(session, shares)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"env": ""}, "env"),
        ({"appids": "wx0000000000000001"}, "appids"),
        ({"appids": []}, "appids"),
        ({"appids": [""]}, "appids"),
    ],
    ids=str,
)
def test_invalid_share_is_rejected_by_field(fields, name):
    """A string in place of a list of appids, an empty list and empty ids are rejected."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Share: {name}\b"):
        Share(**{"env": "e-1", "appids": ["wx0000000000000001"], **fields})


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
    await environment.batch_get_env_id(session, kind(["wx0000000000000001"]), source_type=0)
    assert platform.bodies == [{"appids": ["wx0000000000000001"], "source_type": 0}]


async def test_partial_failure_of_a_lookup_has_the_relations(session, platform):
    """The env of the old page's err_list is kept; a mini program without environments may have null."""
    relation = {"appid": "wx0000000000000001", "env_list": None}
    platform.replies = [{"errcode": 0, "relation_data": [relation], "err_list": [FAILURE]}]
    with pytest.raises(wxtcb.PartialFailure, match="wx0000000000000002") as partial:
        await environment.batch_get_env_id(session, ["wx0000000000000001", "wx0000000000000002"])
    assert partial.value.failed == (RelationFailure(**FAILURE),)
    assert partial.value.reply.relation_data == (Relation(appid="wx0000000000000001"),)


@pytest.mark.parametrize("appids", [[], "wx0000000000000001", [""]], ids=str)
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


@pytest.mark.parametrize(
    ("name", "seconds"), [("timeout", 0), ("timeout", float("nan")), ("interval", -1), ("interval", float("inf"))]
)
async def test_invalid_wait_is_rejected_before_the_first_poll(session, platform, name, seconds):
    """Times that are not positive seconds are rejected by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await environment.wait_until_normal(session, "e", **{name: seconds})
    assert platform.sent == []


async def test_ensure_env_does_not_create_while_an_alias_cannot_be_read(session, platform):
    """The environment may exist, and a second one would be billed."""
    odd, good = {"env": "e-1", "alias": 5, "status": "NORMAL"}, {"env": "e-2", "alias": "other", "status": "NORMAL"}
    platform.replies = [{"errcode": 0, "errmsg": "ok", "info_list": [odd, good]}] * 2
    with pytest.raises(wxtcb.BadReply, match="nothing was created"):
        await environment.ensure_env(session, alias="mine")
    assert (await environment.ensure_env(session, alias="other")).env == "e-2"
    assert len(platform.sent) == 2


@pytest.mark.parametrize("odd", [{"env": None}, {"env": 5}, {"env": ""}, {"env_id": "e-1"}], ids=str)
@pytest.mark.parametrize("others", [["other"], ["mine"]], ids=str)
async def test_ensure_env_does_not_create_while_an_id_cannot_be_read(session, platform, odd, others):
    """The row shows that the alias is in use, so a create would bill a second environment."""
    rows = [{"alias": "Mine", **odd}, *({"env": "e-2", "alias": alias, "status": "NORMAL"} for alias in others)]
    platform.replies = [{"errcode": 0, "errmsg": "ok", "info_list": rows}]
    with pytest.raises(wxtcb.BadReply, match="nothing was created"):
        await environment.ensure_env(session, alias="mine")
    assert len(platform.sent) == 1


@pytest.mark.parametrize("odd", [{"alias": None}, {}], ids=str)
async def test_ensure_env_creates_next_to_an_environment_without_an_alias(session, platform, odd):
    """An environment that was made in the console does not prevent creates."""
    rows = [{"env": "e-1", "status": "NORMAL", **odd}, {"env": "e-2", "alias": "other", "status": "NORMAL"}]
    platform.replies = [{"errcode": 0, "info_list": rows}, {"errcode": 0, "env": "e-3"}]
    assert await environment.ensure_env(session, alias="mine") == environment.EnsuredEnv(env="e-3", created=True)
