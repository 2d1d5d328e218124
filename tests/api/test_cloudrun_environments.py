"""Cloud-hosting environments: what is refused, and waiting for them and their databases."""

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
    """Make the reply that lists environment e1 with databases of these statuses, and *others* by id and status."""
    rows = [{"instance_id": f"tnt-{number}", "status": each} for number, each in enumerate(databases)]
    envs = [{"env_id": env, "status": each} for env, each in others.items()]
    return {"errcode": 0, "errmsg": "ok", "env_list": [*envs, {"env_id": "e1", "status": status, "databases": rows}]}


@pytest.fixture
async def session(new_session):
    """Open a session before the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alias": ""}, "alias"),
        ({"alias": "Shop"}, "alias must start with a-z"),
        ({"alias": "sHop"}, "alias"),
        ({"alias": "1shop"}, "alias"),
        ({"alias": "shop_1"}, "alias"),
        ({"alias": 1}, "alias"),
        ({"vpc_id": "vpc-1"}, "vpc_id and subnet_ids go together"),
        ({"subnet_ids": ["s-1"]}, "vpc_id and subnet_ids go together"),
        ({"vpc_id": "", "subnet_ids": ["s-1"]}, "vpc_id"),
        ({"vpc_id": "vpc-1", "subnet_ids": []}, "subnet_ids"),
        ({"vpc_id": "vpc-1", "subnet_ids": [""]}, "subnet_ids"),
        ({"vpc_id": "vpc-1", "subnet_ids": "s-1"}, "subnet_ids"),
    ],
)
async def test_an_environment_that_breaks_a_rule_is_refused_before_it_is_sent(session, wechat, arguments, words):
    """The message names the argument and the rule; nothing leaves."""
    with pytest.raises(InvalidArgument, match=words):
        await cloudrun.create_cloudbaserun_env(session, **arguments)
    assert wechat.requests == []


async def test_a_lost_answer_to_a_create_is_not_sent_again(session, wechat):
    """A second environment would be billed."""
    wechat.usual[CREATE] = SendFailure("reset", sent=True)
    with pytest.raises(OutcomeUnknown):
        await cloudrun.create_cloudbaserun_env(session, alias="shop")
    assert len(wechat.sent_to(CREATE)) == 1


@pytest.mark.parametrize("env_id", ["", None, 7])
async def test_a_create_has_to_tell_what_was_created(session, wechat, env_id):
    """Without an id nobody knows whether there is an environment, and it is not sent again."""
    wechat.usual[CREATE] = {"errcode": 0, "errmsg": "ok", "env_id": env_id}
    with pytest.raises(OutcomeUnknown):
        await cloudrun.create_cloudbaserun_env(session, alias="shop")
    assert len(wechat.sent_to(CREATE)) == 1


async def test_a_list_without_environments_is_empty(session, wechat):
    """Whether it is empty, null or missing."""
    for reply in ({"env_list": []}, {"env_list": None}, {}):
        wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", **reply}
        assert (await cloudrun.describe_cloudbaserun_envs(session)).by_env_id == {}


async def test_an_environment_without_an_id_is_told_by_its_place(session, wechat):
    """The one field that every entry needs."""
    wechat.usual[PATH] = {"errcode": 0, "errmsg": "ok", "env_list": [{"env_id": "e1"}, {"alias": "a"}]}
    with pytest.raises(wxtcb.BadReply, match=r"env_list\[1\]\.env_id"):
        await cloudrun.describe_cloudbaserun_envs(session)


async def test_micro_services_need_an_environment(session, wechat):
    """An empty id is refused before anything is sent."""
    with pytest.raises(InvalidArgument, match="env_id"):
        await cloudrun.create_cloudbaserun_res_auth(session, "")
    assert wechat.requests == []


async def test_an_environment_is_waited_for_until_it_is_normal(session, wechat):
    """UNAVAILABLE, and what wxtcb does not know, is waiting; databases that lag do not count."""
    wechat.play(PATH, listing("UNAVAILABLE"), listing(None), listing("FROBNICATING"))
    wechat.usual[PATH] = listing("NORMAL", "INITIALIZING")
    info = await cloudrun.wait_until_env_normal(session, "e1")
    assert (info.env_id, info.status) == ("e1", "NORMAL")
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1005, 1010, 1015])


async def test_databases_are_waited_for_until_all_run(session, wechat):
    """Each of them, in an environment that is NORMAL."""
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


async def test_a_normal_environment_without_databases_has_none_to_wait_for(session, wechat):
    """It comes back at once."""
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
async def test_databases_that_will_not_run_are_told_at_once(session, wechat, reply, status):
    """A broken one is found behind one that only takes time; a halted environment counts too."""
    wechat.usual[PATH] = reply
    with pytest.raises(OperationFailed, match=rf"databases of cloud-hosting environment e1: {status}") as caught:
        await cloudrun.wait_until_databases_running(session, "e1")
    assert (caught.value.status, clock()) == (status, 1000)


async def test_a_halted_environment_is_told_at_once(session, wechat):
    """Waiting does not help it."""
    wechat.usual[PATH] = listing("HALTED")
    with pytest.raises(OperationFailed, match="environment e1: HALTED"):
        await cloudrun.wait_until_env_normal(session, "e1")
    assert clock() == 1000


async def test_what_is_said_of_databases_is_not_taken_for_the_environment(session, wechat):
    """A status that no page knows of an environment is waiting, whatever it means of a database."""
    wechat.usual[PATH] = listing("OVERDUE")
    with pytest.raises(OperationTimeout, match="environment e1: still OVERDUE"):
        await cloudrun.wait_until_env_normal(session, "e1", timeout=9)


@pytest.mark.parametrize("wait", WAITS)
async def test_a_wait_ends_on_time_and_says_what_was_seen(session, wechat, wait):
    """OperationTimeout with the last status."""
    wechat.usual[PATH] = listing("UNAVAILABLE", "INITIALIZING")
    with pytest.raises(OperationTimeout, match="still UNAVAILABLE after 22 s") as caught:
        await wait(session, "e1", timeout=22)
    assert (caught.value.status, clock()) == ("UNAVAILABLE", pytest.approx(1022))


@pytest.mark.parametrize("wait", WAITS)
async def test_an_environment_that_stays_away_is_gone(session, wechat, wait):
    """Missing from three looks and for 30 seconds."""
    wechat.usual[PATH] = listing("NORMAL")
    with pytest.raises(OperationNotFound, match="e2"):
        await wait(session, "e2", interval=10)
    assert clock() == pytest.approx(1030)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"env_id": ""}, "env_id"),
        ({"env_id": None}, "env_id"),
        ({"timeout": 0}, "timeout"),
        ({"interval": -1}, "inter"),
    ],
)
async def test_senseless_waits_are_refused_before_a_look(session, wechat, wait, arguments, name):
    """An empty id and times that are not positive are InvalidArgument."""
    with pytest.raises(InvalidArgument, match=name):
        await wait(session, **{"env_id": "e1", **arguments})
    assert wechat.requests == []


async def test_all_waiters_share_the_looks(session, wechat):
    """A hundred, for environments and for databases, look as often as one."""
    wechat.usual[PATH] = lambda request: listing("NORMAL" if clock() > 1029 else "UNAVAILABLE", "RUNNING")
    await asyncio.gather(*(wait(session, "e1") for wait in WAITS for _ in range(50)))
    assert len(wechat.sent_to(PATH)) == 7
