"""Environments: their delayed status, their list, the access of their code to the platform, and sharing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import orjson
from attrs import Factory, asdict, define, evolve, field, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import NORMAL, UNAVAILABLE, ReadyPolicy, ServiceContext

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler, World

_ALIAS: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")


@frozen
class Environment:
    """One environment; the times are strings as in the reply of `describeenvs`."""

    env: str
    alias: str
    status: str
    create_time: str
    update_time: str
    env_type: str | None = None


@frozen(order=True)
class _ScheduledChange:
    """A change of an environment, due once the clock or the poll counter reaches `at`."""

    at: float
    # Among changes due at the same time, the one scheduled first comes first.
    sequence: int
    env: str
    policy: ReadyPolicy = field(order=False)


@define(eq=False)
class EnvironmentRegistry:
    """Owner of the environments.

    A new environment passes three heaps: it waits to become visible, then for its seconds, then for its polls. So the
    cost of a poll depends on what changed since the last one, not on the number of environments.
    """

    poll_count: int = 0
    _environments: dict[str, Environment] = Factory(dict[str, Environment])
    _encoded: dict[str, bytes] = Factory(dict[str, bytes])
    _encoded_list: bytes | None = None
    _awaiting_visibility: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _awaiting_seconds: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _awaiting_polls: list[_ScheduledChange] = Factory(list[_ScheduledChange])
    _sequence: int = 0

    @property
    def environments(self) -> Mapping[str, Environment]:
        return MappingProxyType(self._environments)

    def create(self, environment: Environment, *, visible_at: float, policy: ReadyPolicy) -> None:
        """Add a new environment, which the first poll from `visible_at` on lists and starts."""
        self._sequence += 1
        self._environments[environment.env] = environment
        heappush(self._awaiting_visibility, _ScheduledChange(visible_at, self._sequence, environment.env, policy))

    def put(self, environment: Environment) -> None:
        self._environments[environment.env] = environment
        self._update_encoded(environment)

    def remove(self, env: str) -> None:
        # Its scheduled change stays in the heap and is ignored when it is due.
        del self._environments[env]
        if self._encoded.pop(env, None) is not None:
            self._encoded_list = None

    def set_status(self, env: str, status: str, update_time: str) -> None:
        """Set the status of an environment; one that is not yet visible stays so."""
        updated = self._environments[env] = evolve(self._environments[env], status=status, update_time=update_time)
        if env in self._encoded:
            self._update_encoded(updated)

    def poll(self, now: float, timestamp: str) -> bytes:
        """Count a poll, start the environments that became visible, and return all visible ones as a JSON array."""
        self.poll_count += 1
        while self._awaiting_visibility and self._awaiting_visibility[0].at <= now:
            change = heappop(self._awaiting_visibility)
            environment = self._environments.get(change.env)
            if environment is not None:
                self._update_encoded(environment)
                # From here on `sequence` holds the number of the first poll, from which `polls` is counted.
                started = evolve(change, at=now + change.policy.seconds, sequence=self.poll_count)
                heappush(self._awaiting_seconds, started)
        self.update_statuses(now, timestamp)
        if self._encoded_list is None:
            self._encoded_list = b"[" + b",".join(self._encoded.values()) + b"]"
        return self._encoded_list

    def update_statuses(self, now: float, timestamp: str) -> None:
        """Set every environment to NORMAL whose time has come, without counting a poll."""
        while self._awaiting_seconds and self._awaiting_seconds[0].at <= now:
            change = heappop(self._awaiting_seconds)
            heappush(self._awaiting_polls, evolve(change, at=change.sequence + change.policy.polls))
        while self._awaiting_polls and self._awaiting_polls[0].at <= self.poll_count:
            environment = self._environments.get(heappop(self._awaiting_polls).env)
            # It may be gone or HALTED by now.
            if environment is not None and environment.status == UNAVAILABLE:
                self.set_status(environment.env, NORMAL, timestamp)

    def _update_encoded(self, environment: Environment) -> None:
        row = asdict(environment, filter=lambda attribute, _value: attribute.name != "env_type")
        # The platform assigns package, database and bucket during the initialisation, so an UNAVAILABLE one has none.
        if environment.status != UNAVAILABLE:
            row |= {"package_id": "basic", "package_name": "基础版 1", "dbinstance_id": f"tnt-{environment.env[-9:]}"}
            row["bucket_id"] = f"6d79-{environment.env}-1304480914"
        self._encoded[environment.env] = orjson.dumps(row)
        self._encoded_list = None


@frozen
class AccessTokenPolicy:
    """Paths that an environment may call, and the version of this setting."""

    api_whitelist: tuple[str, ...] = ("/*",)
    version: int = 1


@define(eq=False)
class AccessTokenPolicies:
    """The switch for all environments, and the policy of each environment."""

    _context: ServiceContext = field(repr=False)
    is_open: bool = field(init=False, default=True)
    policies: dict[str, AccessTokenPolicy] = field(init=False, factory=dict[str, AccessTokenPolicy])
    shared_envs: set[str] = field(init=False, factory=set[str])

    def get_or_set(self, body: Body) -> Mapping[str, object] | None:
        env = body.string("env")
        self._context.require_normal(env)
        policy = self.policies.get(env, AccessTokenPolicy())
        if body.string("action") == "get":
            return {"open": self.is_open, "api_whitelist": policy.api_whitelist, "version": policy.version}
        # Only the newest version is accepted, so that concurrent writers do not overwrite each other.
        if body.integer("version", 0) != policy.version:
            raise platform_error(40097, f"version is {policy.version}")
        self.is_open = body.boolean("open")
        self.policies[env] = AccessTokenPolicy(tuple(body.strings("api_whitelist")), policy.version + 1)
        return None

    def enable_for_mini_programs(self, env: str) -> None:
        self._context.require_normal(env)
        self.shared_envs.add(env)


def _create_env(world: World, body: Body) -> Mapping[str, object]:
    """Create an environment; a second one with the same alias is created, and billed, too."""
    alias = body.string("alias")
    if _ALIAS.fullmatch(alias) is None:
        raise platform_error(40097, "alias must start with a-z and contain only a-zA-Z0-9-")
    tranid, env = world.create(alias, body.optional_string("EnvType"))
    return {"tranid": tranid, "env": env}


def _describe_envs(world: World, _body: Body) -> bytes:
    """List every visible environment; the first listing starts the initialisation of a new one."""
    # The registry caches the encoded rows, so the reply is joined and not encoded again.
    return b'{"errcode":0,"errmsg":"ok","info_list":' + world.poll_environments() + b"}"


def _share_envs(world: World, body: Body) -> Mapping[str, object]:
    """Offer environments to mini programs; pairs that fail are listed in `err_list`, with errcode 0."""
    failed: list[dict[str, str]] = []
    links: list[dict[str, str]] = []
    for item in body.objects("data"):
        env = item.string("env")
        for appid in item.strings("appids"):
            if env not in world.environments or not world.is_authorised(appid):
                error = "invalid appid" if env in world.environments else "invalid env"
                failed.append({"env": env, "appid": appid, "errmsg": error})
            else:
                share = world.share(env, appid, body.fields.get("source_type"))
                links.append({"appid": appid, "url": share.url})
    return {"err_list": failed, "msg_info_list": links}


def _unshare_envs(world: World, body: Body) -> Mapping[str, object]:
    """Withdraw environments from mini programs; pairs that were not shared are listed in `err_list`."""
    source_type = body.fields.get("source_type")
    pairs = [(item.string("env"), appid) for item in body.objects("data") for appid in item.strings("appids")]
    failed = [(env, appid) for env, appid in pairs if not world.unshare(env, appid, source_type)]
    return {"err_list": [{"env": env, "appid": appid, "errmsg": "not shared"} for env, appid in failed]}


def _get_shares(world: World, body: Body) -> Mapping[str, object]:
    """List the environments that each mini program may use: those whose share its administrator has confirmed."""
    source_type = body.fields.get("source_type")
    # A repeated appid has one row in the reply.
    known = [appid for appid in dict.fromkeys(body.strings("appids")) if world.is_authorised(appid)]
    failed = [{"appid": appid, "errmsg": "invalid appid"} for appid in body.strings("appids") if appid not in known]
    relations: dict[str, list[str]] = {appid: [] for appid in known}
    for share in world.confirmed_shares():
        if share.appid in relations and source_type in (None, share.source_type):
            relations[share.appid].append(share.env)
    rows = [{"appid": appid, "env_list": envs} for appid, envs in relations.items()]
    return {"relation_data": rows, "err_list": failed}


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/createenv": _create_env,
    "/componenttcb/describeenvs": _describe_envs,
    "/componenttcb/batchshareenv": _share_envs,
    "/componenttcb/batchunshareenv": _unshare_envs,
    "/componenttcb/batchgetenvid": _get_shares,
    "/tcb/modifyenv": lambda world, body: world.access_token_policies.enable_for_mini_programs(body.string("env")),
    "/tcb/usecloudaccesstoken": lambda world, body: world.access_token_policies.get_or_set(body),
}
