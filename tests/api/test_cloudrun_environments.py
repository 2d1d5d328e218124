"""Cloud-hosting environments: rejected arguments, and the waiters for environments and databases."""

from __future__ import annotations

import asyncio

import pytest

import wxtcb
from wxtcb._http.transport import SendFailure
from wxtcb.api import cloudrun
from wxtcb.errors import InvalidArgument, OperationFailed, OperationNotFound, OperationTimeout, OutcomeUnknown

pytestmark = pytest.mark.virtual_time

PATH = cloudrun.DESCRIBE_CLOUDBASERUN_ENVS.path
CREATE = cloudrun.CREATE_CLOUDBASERUN_ENV.path
WAITS = [cloudrun.wait_until_env_normal, cloudrun.wait_until_databases_running]


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def listing(status, *databases, **others):
    """Return a reply with environment e1, its databases, and *others* by id and status."""
    rows = [{"instance_id": f"tnt-{number}", "status": each} for number, each in enumerate(databases)]
    envs = [{"env_id": env, "status": each} for env, each in others.items()]
    return {"errcode": 0, "errmsg": "ok", "env_list": [*envs, {"env_id": "e1", "status": status, "databases": rows}]}


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alias": ""}, "alias"),
        ({"alias": "Shop"}, "alias 'Shop' is invalid"),
        ({"alias": "sHop"}, "alias"),
        ({"alias": "1shop"}, "alias"),
        ({"alias": "shop_1"}, "alias"),
        ({"vpc_id": "vpc-1"}, "vpc_id and subnet_ids belong together"),
        ({"subnet_ids": ["s-1"]}, "vpc_id and subnet_ids belong together"),
        ({"vpc_id": "vpc-1", "subnet_ids": []}, "subnet_ids"),
        ({"vpc_id": "vpc-1", "subnet_ids": [""]}, "subnet_ids"),
        ({"vpc_id": "vpc-1", "subnet_ids": "s-1"}, "subnet_ids"),
    ],
)
async def test_invalid_environment_is_rejected_before_a_request(session, wechat, arguments, words):
    """The message names the argument and the rule."""
    with pytest.raises(InvalidArgument, match=words):
        await cloudrun.create_cloudbaserun_env(session, **arguments)
    assert wechat.requests == []


async def test_create_with_a_lost_reply_is_not_repeated(session, wechat):
    """A second environment would be billed."""
    wechat.usual[CREATE] = SendFailure("reset", sent=True)
    with pytest.raises(OutcomeUnknown):
        await cloudrun.create_cloudbaserun_env(session, alias="shop")
    assert len(wechat.sent_to(CREATE)) == 1


@pytest.mark.parametrize("env_id", ["", None, 7])
async def test_create_without_an_id_has_an_unknown_outcome(session, wechat, env_id):
    """Without an id an environment may exist, so the create is not repeated."""
    wechat.usual[CREATE] = {"errcode": 0, "errmsg": "ok", "env_id": env_id}
    with pytest.raises(OutcomeUnknown):
        await cloudrun.create_cloudbaserun_env(session, alias="shop")
    assert len(wechat.sent_to(CREATE)) == 1


async def test_list_may_be_empty_null_or_missing(session, wechat):
    """All three give an empty list."""
    for reply in ({"env_list": []}, {"env_list": None}, {}):
        wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", **reply}
        assert (await cloudrun.describe_cloudbaserun_envs(session)).by_env_id == {}


async def test_environment_without_an_id_is_a_bad_reply(session, wechat):
    """The error names the path of the missing field, the only required one."""
    wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", "env_list": [{"env_id": "e1"}, {"alias": "a"}]}
    with pytest.raises(wxtcb.BadReply, match=r"env_list\[1\]\.env_id"):
        await cloudrun.describe_cloudbaserun_envs(session)


async def test_wait_ends_when_the_environment_is_normal(session, wechat):
    """UNAVAILABLE and unknown statuses keep waiting; databases that are not running do not matter."""
    wechat.play(PATH, listing("UNAVAILABLE"), listing(None), listing("FROBNICATING"))
    wechat.usual[PATH] = listing("NORMAL", "INITIALIZING")
    info = await cloudrun.wait_until_env_normal(session, "e1")
    assert (info.env_id, info.status) == ("e1", "NORMAL")
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1005, 1010, 1015])


async def test_wait_ends_when_all_databases_are_running(session, wechat):
    """Every database must be RUNNING, in an environment that is NORMAL."""
    wechat.play(
        PATH,
        listing("UNAVAILABLE"),
        listing("UNAVAILABLE", "RUNNING"),
        listing("NORMAL", "RUNNING", "INITIALIZING"),
        listing("NORMAL", None, "RUNNING"),
    )
    wechat.usual[PATH] = listing("NORMAL", "RUNNING", "RUNNING", e2="UNAVAILABLE")
    info = await cloudrun.wait_until_databases_running(session, "e1")
    assert [each.status for each in info.databases] == ["RUNNING", "RUNNING"]
    assert clock() == pytest.approx(1020)


async def test_normal_environment_without_databases_is_returned(session, wechat):
    """It is returned after the first poll."""
    wechat.usual[PATH] = listing("NORMAL")
    assert (await cloudrun.wait_until_databases_running(session, "e1")).databases == ()
    assert clock() == 1000


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (listing("NORMAL", "INITIALIZING", "UNUSABLE"), "UNUSABLE"),
        (listing("UNAVAILABLE", "OVERDUE"), "OVERDUE"),
        (listing("HALTED", "INITIALIZING"), "HALTED"),
    ],
)
async def test_failed_database_ends_the_wait(session, wechat, reply, status):
    """A failed database is found behind a pending one; a halted environment fails too."""
    wechat.usual[PATH] = reply
    with pytest.raises(OperationFailed, match=rf"databases of cloud-hosting environment e1: {status}") as caught:
        await cloudrun.wait_until_databases_running(session, "e1")
    assert (caught.value.status, clock()) == (status, 1000)


async def test_halted_environment_ends_the_wait(session, wechat):
    """HALTED raises `OperationFailed` at the first poll."""
    wechat.usual[PATH] = listing("HALTED")
    with pytest.raises(OperationFailed, match="environment e1: HALTED"):
        await cloudrun.wait_until_env_normal(session, "e1")
    assert clock() == 1000


async def test_database_status_is_not_a_failure_of_the_environment(session, wechat):
    """OVERDUE is a failure of a database, but an unknown status of an environment."""
    wechat.usual[PATH] = listing("OVERDUE")
    with pytest.raises(OperationTimeout, match="environment e1: still OVERDUE"):
        await cloudrun.wait_until_env_normal(session, "e1", timeout=9)


@pytest.mark.parametrize("wait", WAITS)
async def test_timeout_names_the_last_status(session, wechat, wait):
    """`OperationTimeout` comes on time with the last status."""
    wechat.usual[PATH] = listing("UNAVAILABLE", "INITIALIZING")
    with pytest.raises(OperationTimeout, match="still UNAVAILABLE after 22 s") as caught:
        await wait(session, "e1", timeout=22)
    assert (caught.value.status, clock()) == ("UNAVAILABLE", pytest.approx(1022))


@pytest.mark.parametrize("wait", WAITS)
async def test_missing_environment_is_not_found(session, wechat, wait):
    """It must be missing from 3 polls over 30 seconds."""
    wechat.usual[PATH] = listing("NORMAL")
    with pytest.raises(OperationNotFound, match="e2"):
        await wait(session, "e2", interval=10)
    assert clock() == pytest.approx(1030)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"timeout": 0}, "timeout"),
        ({"interval": -1}, "inter"),
    ],
)
async def test_invalid_wait_is_rejected_before_the_first_poll(session, wechat, wait, arguments, name):
    """Times that are not positive raise `InvalidArgument`."""
    with pytest.raises(InvalidArgument, match=name):
        await wait(session, **{"env_id": "e1", **arguments})
    assert wechat.requests == []


async def test_all_waiters_share_their_polls(session, wechat):
    """A hundred waiters, for environments and for databases, poll as often as one."""
    wechat.usual[PATH] = lambda request: listing("NORMAL" if clock() > 1029 else "UNAVAILABLE", "RUNNING")
    await asyncio.gather(*(wait(session, "e1") for wait in WAITS for _ in range(50)))
    assert len(wechat.sent_to(PATH)) == 7
