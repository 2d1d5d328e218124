"""Cloud-hosting environments: list, open, wait, switch micro services on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import interned, wire_name
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_not_empty, check_string, check_strings, to_str_tuple, validator

if TYPE_CHECKING:
    from wxtcb.session import Session

_ALIAS_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]*")


@attrs.frozen(kw_only=True)
class Database:
    """A database of an environment: `status` is INITIALIZING, RUNNING, UNUSABLE (disabled) or OVERDUE (expired)."""

    instance_id: str | None = None
    status: str | None = attrs.field(default=None, metadata=interned())
    region: str | None = attrs.field(default=None, metadata=interned())


@attrs.frozen(kw_only=True)
class Storage:
    """A bucket of an environment; `app_id` is the Tencent Cloud account that owns it."""

    region: str | None = attrs.field(default=None, metadata=interned())
    bucket: str | None = None
    cdn_domain: str | None = None
    app_id: str | None = None


@attrs.frozen(kw_only=True)
class FunctionSpace:
    """Where the functions of an environment stand; both texts may be empty."""

    namespace: str | None = None
    region: str | None = attrs.field(default=None, metadata=interned())


@attrs.frozen(kw_only=True)
class LogService:
    """Where the logs of an environment go."""

    logset_name: str | None = None
    logset_id: str | None = None
    topic_name: str | None = None
    topic_id: str | None = None
    region: str | None = attrs.field(default=None, metadata=interned())


@attrs.frozen(kw_only=True)
class StaticStorage:
    """The static website of an environment: `status` is init, process, online, offline, or empty: there is none."""

    static_domain: str | None = None
    default_dir_name: str | None = None
    status: str | None = attrs.field(default=None, metadata=interned())
    region: str | None = attrs.field(default=None, metadata=interned())
    bucket: str | None = None


@attrs.frozen(kw_only=True)
class Tag:
    """A tag of an environment."""

    key: str | None = None
    value: str | None = None


@attrs.frozen(kw_only=True)
class CustomLogService:
    """A log topic of its owner's that an environment writes to; `create_time` may be empty."""

    cls_region: str | None = attrs.field(default=None, metadata=interned())
    cls_logset_id: str | None = None
    cls_topic_id: str | None = None
    create_time: str | None = None


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One cloud-hosting environment as the platform lists it; whatever it leaves out is None or empty.

    `status` is NORMAL (usable), UNAVAILABLE (not yet), or another text. `source` is miniapp or qcloud, `pay_mode`
    prepayment or postpaid. The times are ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's).
    """

    env_id: str
    source: str | None = attrs.field(default=None, metadata=interned())
    alias: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    status: str | None = attrs.field(default=None, metadata=interned())
    databases: tuple[Database, ...] = ()
    storages: tuple[Storage, ...] = ()
    functions: tuple[FunctionSpace, ...] = ()
    package_id: str | None = attrs.field(default=None, metadata=interned())
    package_name: str | None = attrs.field(default=None, metadata=interned())
    log_services: tuple[LogService, ...] = ()
    static_storages: tuple[StaticStorage, ...] = ()
    is_auto_degrade: bool | None = None
    env_channel: str | None = attrs.field(default=None, metadata=interned())
    pay_mode: str | None = attrs.field(default=None, metadata=interned())
    is_default: bool | None = None
    region: str | None = attrs.field(default=None, metadata=interned())
    tags: tuple[Tag, ...] = ()
    custom_log_services: tuple[CustomLogService, ...] = ()


@attrs.frozen
class EnvList(Reply):
    """All cloud-hosting environments of the platform."""

    env_list: tuple[EnvInfo, ...] = ()

    @cached_property
    def by_env_id(self) -> Mapping[str, EnvInfo]:
        """The same environments, by their ids."""
        return {info.env_id: info for info in self.env_list}


@attrs.frozen(kw_only=True)
class NewEnv(Reply):
    """A new cloud-hosting environment; `tranid` is the number of its post-paid order, where the platform tells it."""

    env_id: str = attrs.field(validator=validator(check_string))
    tranid: str | None = attrs.field(default=None, metadata=wire_name("tran_id"))


DESCRIBE_CLOUDBASERUN_ENVS: Final = Endpoint(
    "/componenttcb/describecloudbaserunenvs",
    EnvList,
    Repeat.READ,
    name="describe_cloudbaserun_envs",
    official="getWxCloudBaseRunEnvs",
)
CREATE_CLOUDBASERUN_ENV: Final = Endpoint(
    "/componenttcb/createcloudbaserunenv",
    NewEnv,
    Repeat.ONCE,
    name="create_cloudbaserun_env",
    official="createCloudbaseEnv",
)
CREATE_CLOUDBASERUN_RES_AUTH: Final = Endpoint(
    "/componenttcb/createcloudbaserunresauth",
    Done,
    Repeat.ONCE,
    name="create_cloudbaserun_res_auth",
    official="createCloudbaseMicrservice",
)

ENDPOINTS: Final = (DESCRIBE_CLOUDBASERUN_ENVS, CREATE_CLOUDBASERUN_ENV, CREATE_CLOUDBASERUN_RES_AUTH)


async def describe_cloudbaserun_envs(session: Session) -> EnvList:
    """List every cloud-hosting environment of the platform; the list is not paged.

    Those of cloud development are listed by `environment.describe_envs`.

    Official interface: getWxCloudBaseRunEnvs, page cloudrun-batch/cloudenv-mgnt/getWxCloudBaseRunEnvs.
    """
    return await session.call(DESCRIBE_CLOUDBASERUN_ENVS, {})


async def create_cloudbaserun_env(
    session: Session, *, alias: str | None = None, vpc_id: str | None = None, subnet_ids: Iterable[str] | None = None
) -> NewEnv:
    """Open a pay-as-you-go cloud-hosting environment; every success opens, and bills, another one.

    Delivery goes on afterwards: `wait_until_env_normal` before you use it. *alias* starts with a-z and holds only a-z,
    0-9 and '-': no capitals here. A private network that exists is given as *vpc_id* and *subnet_ids*, both or neither.

    Raises `InvalidArgument` before anything is sent, `OutcomeUnknown` when the answer was lost: look with
    `describe_cloudbaserun_envs` whether the alias is there before you try again.

    Official interface: createCloudbaseEnv, page cloudrun-batch/cloudenv-mgnt/createCloudbaseEnv.
    """
    subnets = None if subnet_ids is None else to_str_tuple(subnet_ids)
    if alias is not None and not (isinstance(alias, str) and _ALIAS_PATTERN.fullmatch(alias)):
        raise InvalidArgument(f"alias must start with a-z and hold only a-z, 0-9 and '-', not {alias!r}")
    if (vpc_id is None) is not (subnets is None):
        raise InvalidArgument("vpc_id and subnet_ids go together: give both, or neither")
    if subnets is not None:
        check_string("vpc_id", vpc_id)
        check_strings("subnet_ids", subnets)
        check_not_empty("subnet_ids", subnets)
    return await session.call(CREATE_CLOUDBASERUN_ENV, {"alias": alias, "vpc_id": vpc_id, "sub_net_ids": subnets})


async def create_cloudbaserun_res_auth(session: Session, env_id: str) -> Done:
    """Switch the micro services of a cloud-hosting environment on.

    What a second call does is documented nowhere, so it is never repeated by itself. On `OutcomeUnknown` there is no
    call that tells; the console does. The platform may have withdrawn this call.

    Official interface: createCloudbaseMicrservice, page cloudrun-batch/service-mgnt/createCloudbaseMicrservice.
    """
    check_string("env_id", env_id)
    return await session.call(CREATE_CLOUDBASERUN_RES_AUTH, {"env_id": env_id})


async def wait_until_env_normal(
    session: Session, env_id: str, *, timeout: float = 600.0, interval: float = 5.0
) -> EnvInfo:
    """Wait until cloud-hosting environment *env_id* is NORMAL and return it; its databases may still be on their way.

    All who wait in a session share the looks, as in `environment.wait_until_normal`. UNAVAILABLE, and a status that
    wxtcb does not know, is waiting; so is a look that failed for a reason that may pass.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` when the platform stopped it, `OperationNotFound`
    when it was missing from three looks in a row or more, for 30 seconds, and what keeps every look from succeeding.
    """
    check_string("env_id", env_id)
    awaited = WaitCondition(
        resource=f"cloud-hosting environment {env_id}",
        find=_find_env(env_id),
        status_of=lambda info: info.status,
        ready_statuses=frozenset({_NORMAL}),
        failure_statuses=_ENV_FAILURE_STATUSES,
    )
    return await wait_until(
        session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS), awaited, timeout=timeout, interval=interval
    )


async def wait_until_databases_running(
    session: Session, env_id: str, *, timeout: float = 600.0, interval: float = 5.0
) -> EnvInfo:
    """Wait until environment *env_id* is NORMAL and each of its `databases` RUNNING, and return it.

    A NORMAL environment without databases is returned at once: there is nothing to wait for. While it is UNAVAILABLE
    databases may still come.

    Raises as `wait_until_env_normal` does, `OperationFailed` also when a database is UNUSABLE or OVERDUE.
    """
    check_string("env_id", env_id)
    awaited = WaitCondition(
        resource=f"databases of cloud-hosting environment {env_id}",
        find=_find_env(env_id),
        status_of=_overall_database_status,
        ready_statuses=frozenset({_RUNNING}),
        failure_statuses=_DATABASE_FAILURE_STATUSES,
    )
    return await wait_until(
        session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS), awaited, timeout=timeout, interval=interval
    )


def _find_env(env_id: str) -> Callable[[EnvList], EnvInfo | None]:
    return lambda seen: seen.by_env_id.get(env_id)


def _overall_database_status(info: EnvInfo) -> str | None:
    """Return RUNNING when all is done, or what keeps it: one that is broken before one that only takes time."""
    lagging = [] if info.status == _NORMAL else [info.status]
    lagging += [each.status for each in info.databases if each.status != _RUNNING]
    return next(
        (status for status in lagging if status in _DATABASE_FAILURE_STATUSES), lagging[0] if lagging else _RUNNING
    )


_NORMAL: Final = "NORMAL"
_RUNNING: Final = "RUNNING"
_ENV_FAILURE_STATUSES: Final = {
    "HALTED": "the platform stopped it (over quota or blocked); see its page in the console"
}
_DATABASE_FAILURE_STATUSES: Final = {
    **_ENV_FAILURE_STATUSES,
    "UNUSABLE": "a database is disabled; see its page in the console",
    "OVERDUE": "a database has expired; see its page in the console",
}
