"""Types of the public API; checked by type checkers, never run.

Each ``type: ignore`` marks a call that type checkers must reject: mypy reports an unneeded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

import aiohttp
import attrs
import psycopg_pool
import redis.asyncio

import wxtcb
from wxtcb import (
    Done,
    Endpoint,
    OutcomeUnknown,
    PartialFailure,
    Repeat,
    Reply,
    RetryPolicy,
    Secret,
    Session,
    Timeout,
    tokens,
)
from wxtcb.api import cloudrun, environment, token
from wxtcb.api.environment import EnvInfo, EnvList, NewEnv, Relation, Relations, ShareFailure, ShareLink, ShareResult
from wxtcb.events import Event, RetryScheduled
from wxtcb.telemetry import LoggingHook, OpenTelemetryHook, PrometheusHook
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.postgres import PostgresStore
from wxtcb.tokens.providers import ComponentToken
from wxtcb.tokens.redis import RedisStore


async def newest_ticket() -> str | None:
    """Return a ticket, as a ticket source does."""
    return "ticket@@@two"


def hook(event: Event) -> None:
    """Handle events by their types, as a hook does."""
    if isinstance(event, RetryScheduled):
        assert_type(event.delay, float)
        assert_type(event.error, wxtcb.WxtcbError)


async def sessions() -> None:
    """Create and enter sessions."""
    async with Session(component_appid="wx1", component_appsecret="s", ticket="t") as session:
        assert_type(session, Session)
        assert_type(session.component_appsecret, Secret | None)
        assert_type(session.with_options(retry=RetryPolicy(attempts=1)), Session)
        assert_type(session.with_options(partial="return"), Session)
        assert_type(session.retry, RetryPolicy)
        assert_type(session.stats(), wxtcb.Stats)
        assert_type(session.stats().token_age, float | None)
        assert_type(await session.token(), Secret)
        health = await session.health()
        assert_type(health, tokens.Health)
        assert_type(health.token_fetched_by, str | None)
        assert_type(health.problems, tuple[wxtcb.WxtcbError, ...])
        await session.aclose()

    Session(
        component_appid="wx1",
        component_appsecret=Secret("s"),
        ticket=newest_ticket,
        token_store=None,
        retry=RetryPolicy(busy_creates=False),
        timeout=Timeout(connect=5, reply=30),
        connections=100,
        max_fetches_per_hour=None,
        base_url="https://api.weixin.qq.com",
        transfer_hosts=[*wxtcb.TRANSFER_HOSTS, "10.0.0.0/8"],
        proxy=None,
        ssl=None,
        http=None,
        hooks=(hook, LoggingHook(), OpenTelemetryHook(), PrometheusHook()),
        partial="return",
    )


async def central() -> tokens.ComponentToken:
    """Fetch a token from a service."""
    return tokens.ComponentToken(component_access_token=Secret("t"), expires_in=7200)


async def shared_sessions(
    pool: aiohttp.TCPConnector, client: redis.asyncio.Redis, database: psycopg_pool.AsyncConnectionPool
) -> None:
    """Create sessions with a shared store, pool or token."""
    Session(component_appid="wx1", component_appsecret="s", token_store="sqlite:///tokens.db", ticket_timeout=60)
    Session(component_appid="wx1", component_appsecret="s", token_store=tokens.MemoryStore(), http=pool)
    Session(component_appid="wx1", component_appsecret="s", token_store=RedisStore(client, prefix="mine"))
    plain = RedisStore.from_url("redis://host", allow_plain=True, allow_unverified=False)
    assert_type(plain.masked_url, str)
    Session(component_appid="wx1", component_appsecret="s", token_store=plain, store_required=False)
    Session(component_appid="wx1", token_source=central)
    Session(component_appid="wx1", component_appsecret="s", token_store=PostgresStore(database))
    assert_type(PostgresStore.from_url("postgresql://host", allow_plain=True).masked_url, str)
    assert_type(PostgresStore.schema_sql(), str)
    async with tokens.SqliteStore("tokens.db") as file:
        store: tokens.TokenStore = EncryptedStore(file, key=["new", b"old"])
        Session(component_appid="wx1", component_appsecret=None, token_source=tokens.ReadOnly(), token_store=store)
        assert_type(await store.load("wx1"), tokens.StoredDocument)


async def refused_sessions(session: Session) -> None:
    """Create invalid sessions."""
    Session(component_appid="wx1", component_appsecret="s", token_store=5)  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret=None, token_source=newest_ticket)  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret="s", ticket_timeout="60")  # type: ignore[arg-type]
    RedisStore("redis://host")  # type: ignore[arg-type]
    PostgresStore("postgresql://host")  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret="s", store_required=None)  # type: ignore[arg-type]
    Session("wx1", component_appsecret="s")  # type: ignore[call-arg]
    Session(component_appid=1, component_appsecret="s")  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret=b"s")  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret="s", ticket=lambda: "t")  # type: ignore[arg-type, return-value]
    Session(component_appid="wx1", component_appsecret="s", partial="ignore")  # type: ignore[arg-type]
    Session(component_appid="wx1", component_appsecret="s", retries=3)  # type: ignore[call-arg]
    Session(component_appid="wx1", component_appsecret="s", hooks=(print, 3))  # type: ignore[arg-type]
    session.with_options(partial="ignore")  # type: ignore[arg-type]
    session.with_options(timeout=Timeout())  # type: ignore[call-arg]
    session.component_appid = "wx2"  # type: ignore[misc]
    RetryPolicy(3)  # type: ignore[call-arg]
    RetryPolicy(attempts="3")  # type: ignore[arg-type]
    Timeout(total=3)  # type: ignore[call-arg]


async def environments(session: Session) -> None:
    """Create, list, share and wait."""
    assert_type(await environment.create_env(session, alias="a"), NewEnv)
    assert_type(await environment.create_env(session, alias="a", env_type="run"), NewEnv)
    new = await environment.create_env(session, alias="a", env_type=None)
    assert_type(new.env, str)
    assert_type(new.tranid, str | None)
    assert_type(new.maybe_acted, int)

    listed = await environment.describe_envs(session)
    assert_type(listed, EnvList)
    assert_type(listed.info_list, tuple[EnvInfo, ...])
    assert_type(listed.by_env, Mapping[str, EnvInfo])
    assert_type(listed.info_list[0].update_time, str | None)
    assert_type(listed.info_list[0].package_id, str | None)

    share = environment.Share(env="e", appids=["wx1"])
    assert_type(share.appids, tuple[str, ...])
    shared = await environment.batch_share_env(session, [share], source_type=1)
    assert_type(shared, ShareResult)
    assert_type(shared.err_list, tuple[ShareFailure, ...])
    assert_type(shared.failed, Sequence[ShareFailure])
    assert_type(shared.msg_info_list, tuple[ShareLink, ...])
    assert_type(await environment.batch_share_env(session, (each for each in [share])), ShareResult)

    relations = await environment.batch_get_env_id(session, (each for each in ["wx1"]), source_type=1)
    assert_type(relations, Relations)
    assert_type(relations.relation_data, tuple[Relation, ...])
    assert_type(relations.relation_data[0].env_list, tuple[str, ...])
    assert_type(relations.err_list[0].env, str | None)

    assert_type(await environment.wait_until_normal(session, "e"), EnvInfo)
    assert_type(await environment.wait_until_normal(session, "e", timeout=60, interval=1.5), EnvInfo)


async def refused_environments(session: Session) -> None:
    """Misuse the calls of environments."""
    await environment.create_env(session)  # type: ignore[call-arg]
    await environment.create_env(session, "a")  # type: ignore[call-arg]
    await environment.create_env(alias="a")  # type: ignore[call-arg]
    await environment.create_env(session, alias=1)  # type: ignore[arg-type]
    await environment.create_env(session, alias=None)  # type: ignore[arg-type]
    await environment.create_env(session, alias="a", env_type=1)  # type: ignore[arg-type]
    await environment.create_env(session, alias="a", EnvType="run")  # type: ignore[call-arg]
    await environment.create_env("session", alias="a")  # type: ignore[arg-type]
    await environment.describe_envs(session, limit=3)  # type: ignore[call-arg]
    await environment.batch_share_env(session, environment.Share(env="e", appids=["wx1"]))  # type: ignore[arg-type]
    await environment.batch_share_env(session, [{"env": "e", "appids": ["wx1"]}])  # type: ignore[list-item]
    await environment.batch_share_env(session, [], source_type="1")  # type: ignore[arg-type]
    await environment.batch_share_env(session, [], 1)  # type: ignore[call-arg]
    await environment.batch_get_env_id(session)  # type: ignore[call-arg]
    await environment.batch_get_env_id(session, [5])  # type: ignore[list-item]
    await environment.batch_get_env_id(session, ["wx1"], 1)  # type: ignore[call-arg]
    await environment.batch_get_env_id(session, ["wx1"], source_type="1")  # type: ignore[arg-type]
    await environment.wait_until_normal(session, 5)  # type: ignore[arg-type]
    await environment.wait_until_normal(session, "e", 60)  # type: ignore[call-arg]
    await environment.wait_until_normal(session, "e", timeout=None)  # type: ignore[arg-type]
    environment.Share("e", ["wx1"])  # type: ignore[call-arg]
    environment.Share(env="e")  # type: ignore[call-arg]
    environment.Share(env="e", appids=5)  # type: ignore[arg-type]
    (await environment.create_env(session, alias="a")).env = "b"  # type: ignore[misc]
    (await environment.create_env(session, alias="a")).tran_id  # type: ignore[attr-defined]  # noqa: B018


async def services(session: Session) -> None:
    """Create services."""
    es_info = cloudrun.EsInfo(id=1, secret_name="n", ip="10.0.0.1", port=9200, index="i", account="a", password="p")
    assert_type(es_info.password, Secret | None)
    cloudrun.EsInfo(password=Secret("p"))
    vpc_info = cloudrun.VpcInfo(vpc_id="v", subnet_ids=["s-1"], create_type=2)
    assert_type(vpc_info.subnet_ids, tuple[str, ...] | None)
    server = cloudrun.Server(
        env_id="e",
        service_name="s",
        is_public=True,
        image_repo="r",
        remark="text",
        es_info=es_info,
        log_type="es",
        vpc_info=vpc_info,
        public_access=0,
    )
    assert_type(attrs.evolve(server, remark=None), cloudrun.Server)
    assert_type(await cloudrun.establish_cloudbaserun_server(session, server), Done)


async def refused_services(session: Session) -> None:
    """Misuse the calls of services."""
    cloudrun.Server("e", "s", True)  # type: ignore[call-arg]
    cloudrun.Server(env_id="e", service_name="s")  # type: ignore[call-arg]
    cloudrun.Server(env_id="e", service_name="s", is_public="yes")  # type: ignore[arg-type]
    cloudrun.Server(env_id="e", service_name="s", is_public=True, server_name="s")  # type: ignore[call-arg]
    cloudrun.Server(env_id="e", service_name="s", is_public=True, es_info={"id": 1})  # type: ignore[arg-type]
    cloudrun.Server(env_id="e", service_name="s", is_public=True, public_access="1")  # type: ignore[arg-type]
    cloudrun.EsInfo(port="9200")  # type: ignore[arg-type]
    cloudrun.EsInfo(password=b"p")  # type: ignore[arg-type]
    cloudrun.EsInfo(user="u")  # type: ignore[call-arg]
    cloudrun.VpcInfo(subnet_ids=5)  # type: ignore[arg-type]
    cloudrun.VpcInfo(sub_net_ids=["s"])  # type: ignore[call-arg]
    await cloudrun.establish_cloudbaserun_server(session)  # type: ignore[call-arg]
    await cloudrun.establish_cloudbaserun_server(session, {"env_id": "e"})  # type: ignore[arg-type]
    await cloudrun.establish_cloudbaserun_server(session, env_id="e")  # type: ignore[call-arg]


async def below_the_token(session: Session) -> None:
    """Use the token endpoints."""
    minted = await token.api_component_token(session, component_verify_ticket="t")
    assert_type(minted, ComponentToken)
    assert_type(minted.component_access_token, Secret)
    assert_type(minted.component_access_token.reveal(), str)
    assert_type(minted.expires_in, int)
    await token.api_component_token(session, component_verify_ticket=Secret("t"))
    assert_type(await token.api_start_push_ticket(session), Done)


async def refused_tokens(session: Session) -> None:
    """Misuse the token endpoints."""
    await token.api_component_token(session)  # type: ignore[call-arg]
    await token.api_component_token(session, "t")  # type: ignore[call-arg]
    await token.api_component_token(session, component_verify_ticket=None)  # type: ignore[arg-type]
    await token.api_start_push_ticket(session, component_secret="s")  # type: ignore[call-arg]
    text: str = (await token.api_component_token(session, component_verify_ticket="t")).component_access_token  # type: ignore[assignment]
    del text


@attrs.frozen
class Mine(Reply):
    """Reply class of a caller."""

    version: int


MINE = Endpoint("/tcb/mine", Mine, Repeat.READ)


async def calls(session: Session) -> None:
    """Call an endpoint that wxtcb does not define."""
    assert_type(MINE, Endpoint[Mine])
    assert_type(await session.call(MINE, {"env": "e"}), Mine)
    assert_type(await session.call(MINE, b"{}", query={"action": "get"}, token="t"), Mine)
    assert_type(await session.call(environment.CREATE_ENV, {"alias": "a"}, token=Secret("t")), NewEnv)
    assert_type(await session.call(cloudrun.ESTABLISH_CLOUDBASERUN_SERVER, {}), Done)
    assert_type(wxtcb.raw(await session.call(MINE, {})), Mapping[str, object])
    assert_type(wxtcb.endpoints(), tuple[Endpoint[Reply], ...])


async def refused_calls(session: Session) -> None:
    """Misuse `Session.call`."""
    await session.call("/tcb/mine", {})  # type: ignore[arg-type]
    await session.call(MINE)  # type: ignore[call-arg]
    await session.call(MINE, "{}")  # type: ignore[arg-type]
    await session.call(MINE, {1: "e"})  # type: ignore[dict-item]
    await session.call(MINE, {}, {"action": "get"})  # type: ignore[call-arg]
    await session.call(MINE, {}, query={"action": 1})  # type: ignore[dict-item]
    await session.call(MINE, {}, timeout=3)  # type: ignore[call-arg]
    other: NewEnv = await session.call(MINE, {})  # type: ignore[arg-type]
    del other
    Endpoint("/tcb/mine", dict, Repeat.READ)  # type: ignore[type-var]
    Endpoint("/tcb/mine", Mine, "read")  # type: ignore[arg-type]
    wxtcb.raw({"errcode": 0})  # type: ignore[arg-type]


async def failures(session: Session) -> None:
    """Catch errors."""
    try:
        await environment.create_env(session, alias="a")
    except wxtcb.ApiError as error:
        assert_type(error.errcode, int)
        assert_type(error.errmsg, str)
        assert_type(error.rid, str | None)
        assert_type(error.endpoint, str | None)
        assert_type(error.maybe_acted, int)
        assert_type(error.retry_after, float | None)
    except OutcomeUnknown as error:
        assert_type(error.cause, wxtcb.WxtcbError)
    except PartialFailure as error:
        assert_type(error.failed, tuple[Any, ...])
    except wxtcb.BadReply as error:
        assert_type(error.status, int)
    except wxtcb.TransportError as error:
        assert_type(error.sent, bool)
    except wxtcb.OperationNotReady as error:
        assert_type(error.status, str | None)
