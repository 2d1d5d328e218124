"""Tests of Health: what it contains, and which problems it reports."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import attrs
import pytest

from wxtcb import tokens
from wxtcb.api import environment, token as token_api
from wxtcb.errors import (
    InvalidAppSecret,
    InvalidTicket,
    IPNotAllowed,
    TicketExpired,
    TicketMissing,
    TokenStoreError,
    WxtcbError,
)
from wxtcb.secret import Secret
from wxtcb.tokens import ComponentToken, ReadOnly
from wxtcb.tokens.health import Health
from wxtcb.tokens.refresh import TOKEN_PATH, process_id
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import MemoryStore

pytestmark = pytest.mark.virtual_time

APPID = "wx0123456789abcdef"
LIST = "/componenttcb/describeenvs"


@pytest.fixture
async def store():
    """Return a store in memory, on virtual time."""
    return MemoryStore(asyncio.get_running_loop().time)


async def store_ticket(store, created=1):
    """Store a ticket as the receiver does."""
    shared = StateRepository(store, APPID)
    await shared.update(lambda record, now: record.with_ticket(Secret(f"ticket@@@{created}"), created, now))


async def test_health_of_a_working_session(new_session, wechat, store):
    """It has the ages of token and ticket, process, reason and count, and no problem."""
    wechat.usual[LIST] = {"errcode": 0, "info_list": []}
    await store_ticket(store)
    async with new_session(ticket=None, token_store=store, max_fetches_per_hour=7) as session:
        await asyncio.sleep(600)
        value = await session.token()
        await asyncio.sleep(60)
        health = await session.health()
    assert value == Secret("T0KEN-1")
    assert (health.token_age, health.token_expires_in, health.ticket_age) == (60, 7140, 660)
    assert (health.token_fetched_by, health.token_fetch_reason, health.lease_owner) == (process_id(), "first", None)
    assert (health.fetches_last_hour, health.max_fetches_per_hour, health.last_error, health.ok) == (1, 7, None, True)


async def test_health_without_a_call_shows_the_stored_token(new_session, store):
    """It has another process's token, with its age."""
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        await one.token()
        await asyncio.sleep(100)
        health = await two.health()
    assert (health.token_age, health.token_expires_in) == (100, 7100)


async def test_health_names_the_lease_owner(new_session, wechat, store):
    """During a fetch it names the process that fetches."""
    wechat.usual[TOKEN_PATH] = wechat.after(3, wechat.mint)
    async with new_session(token_store=store) as session:
        token = asyncio.create_task(session.token())
        await asyncio.sleep(1)
        assert (await session.health()).lease_owner == process_id()
        await token


@pytest.mark.parametrize(
    ("errcode", "kind", "advice"),
    [
        (61005, InvalidTicket, "api_start_push_ticket"),
        (61006, InvalidTicket, "not belong to this platform"),
        (40125, InvalidAppSecret, "Check component_appsecret"),
        (61004, IPNotAllowed, "list of allowed addresses"),
    ],
)
async def test_rejections_are_problems_with_advice(new_session, wechat, errcode, kind, advice):
    """Each rejection is an error that says what to do."""
    wechat.usual[TOKEN_PATH] = errcode
    async with new_session() as session:
        with pytest.raises(kind):
            await session.token()
        health = await session.health()
    [problem] = health.problems
    assert isinstance(problem, kind)
    assert advice in str(problem)
    assert health.last_error is problem
    assert not health.ok


@pytest.mark.parametrize(
    ("errmsg", "address"),
    [
        ("access clientip is not registered requestIP: 203.0.113.7 rid: 5f-77", "203.0.113.7"),
        ("invalid ip 2001:db8::7, not in whitelist rid: 5f-77", "2001:db8::7"),
        ("access clientip is not registered rid: 63fd2c5a-12ab34cd-5e", None),
    ],
)
async def test_ip_that_the_platform_saw_is_an_attribute(new_session, wechat, errmsg, address):
    """The IP in errmsg is an attribute of the error."""
    wechat.usual[TOKEN_PATH] = {"errcode": 61004, "errmsg": errmsg}
    async with new_session() as session:
        with pytest.raises(IPNotAllowed) as caught:
            await session.token()
    assert caught.value.ip == address


async def test_missing_stored_ticket_is_a_problem(new_session, wechat, store):
    """A missing ticket is a TicketError at once, without a request."""
    async with new_session(ticket=None, token_store=store) as session:
        with pytest.raises(TicketMissing):
            await session.token()
        assert [type(problem) for problem in (await session.health()).problems] == [TicketMissing]
    assert wechat.requests == []


async def test_given_ticket_is_not_expected_in_the_store(new_session, store):
    """A session with a ticket of its own needs none in the store."""
    async with new_session(token_store=store) as session:
        assert (await session.health()).ok


async def test_expired_ticket_is_a_problem_before_a_call_fails(new_session, store):
    """An expired ticket is reported while the token is still valid."""
    await store_ticket(store)
    async with new_session(ticket=None, token_store=store) as session:
        await session.token()
        await asyncio.sleep(12 * 3600 + 60)
        [problem] = (await session.health()).problems
    assert isinstance(problem, TicketExpired)


async def test_store_that_is_down_is_a_problem(new_session, store):
    """A store that is down is a problem; what this process knows is still reported."""

    @attrs.define(eq=False)
    class Down(MemoryStore):
        down: bool = False

        async def load(self, component_appid):
            if self.down:
                raise ConnectionError
            return await super().load(component_appid)

    store = Down(asyncio.get_running_loop().time)
    async with new_session(token_store=store) as session:
        await session.token()
        store.down = True
        health = await session.health()
    assert [type(problem) for problem in health.problems] == [TokenStoreError]
    assert health.token_age == 0


async def test_restart_with_a_stored_ticket_needs_no_push(new_session, wechat, store):
    """The first call of a new process uses the stored ticket, and stores its token."""
    await store_ticket(store)
    for _ in range(3):
        async with new_session(ticket=None, token_store=store) as session:
            assert await session.token() == Secret("T0KEN-1")
    assert wechat.fetches == 1


async def test_push_is_requested_and_the_call_works(new_session, wechat, store):
    """Without a ticket the push is requested, its ticket arrives in the store, and the waiting call goes on."""
    start = "/cgi-bin/component/api_start_push_ticket"

    async def push(_):
        asyncio.get_running_loop().call_later(7.2, lambda: tasks.append(asyncio.create_task(store_ticket(store))))
        return 0

    tasks = []
    wechat.usual[start] = push
    async with new_session(ticket=None, token_store=store, ticket_timeout=60) as session:
        assert await session.token() == Secret("T0KEN-1")
        assert asyncio.get_running_loop().time() < 1009
    assert len(wechat.sent_to(start)) == 1
    await asyncio.gather(*tasks)


async def test_external_source_serves_a_session(new_session, wechat):
    """It needs no secret and no ticket; a rejected token is requested again, and reported if it is returned again."""
    tokens = ["one", "two"]

    async def central():
        return ComponentToken(component_access_token=Secret(tokens[0]), expires_in=7200)

    wechat.usual[LIST] = {"errcode": 0, "info_list": []}
    async with new_session(component_appsecret=None, ticket=None, token_source=central) as session:
        assert await session.token() == Secret("one")
        wechat.play(LIST, lambda _: tokens.pop(0) and 40001)
        await environment.describe_envs(session)
        assert await session.token() == Secret("two")
        with pytest.raises(WxtcbError, match="component_appsecret"):
            await token_api.api_start_push_ticket(session)
    assert wechat.fetches == 0


async def test_read_only_session_uses_tokens_of_the_owner(new_session, wechat, store):
    """It never fetches, with or without a token in the store."""
    async with (
        new_session(token_store=store) as owner,
        new_session(component_appsecret=None, ticket=None, token_store=store, token_source=ReadOnly()) as reader,
    ):
        with pytest.raises(WxtcbError, match="only reads tokens"):
            await reader.token()
        value = await owner.token()
        await asyncio.sleep(10)
        assert await reader.token() == value
    assert wechat.fetches == 1


async def test_rejection_is_reported_by_every_process_until_a_token_is_fetched(new_session, wechat, store):
    """A process that has not tried itself reports the error, and which process received it."""
    wechat.play(TOKEN_PATH, {"errcode": 61004, "errmsg": "access clientip is not registered requestIP: 203.0.113.7"})
    async with new_session(token_store=store) as one, new_session(token_store=store) as two:
        with pytest.raises(IPNotAllowed):
            await one.token()
        assert len((await one.health()).problems) == 1
        [problem] = (await two.health()).problems
        assert isinstance(problem, IPNotAllowed)
        assert problem.ip == "203.0.113.7"
        assert problem.__notes__ == [f"received by {process_id()}"]
        await two.token()
        assert (await two.health()).ok


async def test_health_names_the_fetcher_of_the_current_token(new_session, wechat, store):
    """It does so even if the store has another token by now, or none."""
    async with new_session(token_store=store) as session:
        await session.token()
        store._documents.clear()
        health = await session.health()
    assert (health.token_fetched_by, health.token_fetch_reason) == (process_id(), "first")


async def test_failing_store_is_one_problem(new_session, store):
    """A refresh that failed because of the store is not reported twice, and the number of fetches is unknown."""

    async def fail(_):
        raise ConnectionError

    async with new_session(
        token_store=SimpleNamespace(load=fail, compare_and_set=fail, wait_for_change=fail), store_required=False
    ) as session:
        await session.token()
        await asyncio.sleep(7000)
        await session.token()
        await asyncio.sleep(1)
        health = await session.health()
    assert [type(problem) for problem in health.problems] == [TokenStoreError]
    assert health.fetches_last_hour is None


def test_health_is_imported_on_first_access():
    """`wxtcb.tokens.Health` is loaded when it is used; another name is an AttributeError."""
    assert tokens.__getattr__("Health") is Health
    with pytest.raises(AttributeError, match="Wealth"):
        tokens.__getattr__("Wealth")
