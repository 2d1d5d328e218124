"""Cloud-hosting environments: list, create, wait, enable microservices."""

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

# Unlike the alias of createTcbEnv, this one allows no capital letters.
_ALIAS_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]*")


@attrs.frozen(kw_only=True)
class Database:
    """A database of an environment; `status` is INITIALIZING, RUNNING, UNUSABLE (disabled) or OVERDUE (expired)."""

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
    """Namespace and region of an environment's functions; both may be empty."""

    namespace: str | None = None
    region: str | None = attrs.field(default=None, metadata=interned())


@attrs.frozen(kw_only=True)
class LogService:
    """Destination of an environment's logs."""

    logset_name: str | None = None
    logset_id: str | None = None
    topic_name: str | None = None
    topic_id: str | None = None
    region: str | None = attrs.field(default=None, metadata=interned())


@attrs.frozen(kw_only=True)
class StaticStorage:
    """Static website of an environment; `status` is init, process, online, offline, or empty (no website)."""

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
    """A log topic of the account that the environment writes to; `create_time` may be empty."""

    cls_region: str | None = attrs.field(default=None, metadata=interned())
    cls_logset_id: str | None = None
    cls_topic_id: str | None = None
    create_time: str | None = None


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One cloud-hosting environment of the list; fields that the platform omits are None or empty.

    `status` is NORMAL (usable), UNAVAILABLE (not yet usable), or another text. `source` is miniapp or qcloud,
    `pay_mode` is prepayment or postpaid. The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone, presumably China
    Standard Time.
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
    """All cloud-hosting environments of the third-party platform."""

    env_list: tuple[EnvInfo, ...] = ()

    @cached_property
    def by_env_id(self) -> Mapping[str, EnvInfo]:
        """The same environments by their ids."""
        return {info.env_id: info for info in self.env_list}


@attrs.frozen(kw_only=True)
class NewEnv(Reply):
    """A new cloud-hosting environment; `tranid` is its pay-as-you-go order, if the platform returns it."""

    # A success without an id is a bad reply: the outcome of the create is unknown.
    env_id: str = attrs.field(validator=validator(check_string))
    # In the table of the page, but not in its sample.
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
# ONCE, because the documentation does not say what a second call does.
CREATE_CLOUDBASERUN_RES_AUTH: Final = Endpoint(
    "/componenttcb/createcloudbaserunresauth",
    Done,
    Repeat.ONCE,
    name="create_cloudbaserun_res_auth",
    official="createCloudbaseMicrservice",
)

ENDPOINTS: Final = (DESCRIBE_CLOUDBASERUN_ENVS, CREATE_CLOUDBASERUN_ENV, CREATE_CLOUDBASERUN_RES_AUTH)


async def describe_cloudbaserun_envs(session: Session) -> EnvList:
    """Return all cloud-hosting environments of the third-party platform; the list is not paged.

    `environment.describe_envs` returns those of cloud development.

    Official interface: getWxCloudBaseRunEnvs, page cloudrun-batch/cloudenv-mgnt/getWxCloudBaseRunEnvs.
    """
    return await session.call(DESCRIBE_CLOUDBASERUN_ENVS, {})


async def create_cloudbaserun_env(
    session: Session, *, alias: str | None = None, vpc_id: str | None = None, subnet_ids: Iterable[str] | None = None
) -> NewEnv:
    """Create a pay-as-you-go cloud-hosting environment; every success creates, and bills, another one.

    The environment is set up in the background: call `wait_until_env_normal` before you use it. *alias* must start with
    a-z and contain only a-z, 0-9 and '-', no capital letters. *vpc_id* and *subnet_ids* select an existing private
    network; give both or neither.

    Raises `InvalidArgument` before a request is sent, and `OutcomeUnknown` if the reply was lost: check with
    `describe_cloudbaserun_envs` whether the alias exists before you retry.

    Official interface: createCloudbaseEnv, page cloudrun-batch/cloudenv-mgnt/createCloudbaseEnv.
    """
    subnets = None if subnet_ids is None else to_str_tuple(subnet_ids)
    if alias is not None and not _ALIAS_PATTERN.fullmatch(alias):
        rule = "it must start with a-z and contain only a-z, 0-9 and '-'"
        raise InvalidArgument(f"alias {alias!r} is invalid: {rule}")
    if (vpc_id is None) is not (subnets is None):
        raise InvalidArgument("vpc_id and subnet_ids belong together: give both or neither")
    if subnets is not None:
        check_strings("subnet_ids", subnets)
        check_not_empty("subnet_ids", subnets)
    return await session.call(CREATE_CLOUDBASERUN_ENV, {"alias": alias, "vpc_id": vpc_id, "sub_net_ids": subnets})


async def create_cloudbaserun_res_auth(session: Session, env_id: str) -> Done:
    """Enable the microservices of a cloud-hosting environment.

    The documentation does not say what a second call does, so it is never repeated automatically. After
    `OutcomeUnknown`, check in the console: no call returns the state. The platform may have withdrawn this call.

    Official interface: createCloudbaseMicrservice, page cloudrun-batch/service-mgnt/createCloudbaseMicrservice.
    """
    return await session.call(CREATE_CLOUDBASERUN_RES_AUTH, {"env_id": env_id})


async def wait_until_env_normal(
    session: Session, env_id: str, *, timeout: float = 600.0, interval: float = 5.0
) -> EnvInfo:
    """Wait until cloud-hosting environment *env_id* is NORMAL, and return it; its databases may not be running yet.

    All waiters of a session share their polls, as in `environment.wait_until_normal`. UNAVAILABLE and unknown statuses
    keep waiting, and so does a poll with a transient error.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` for HALTED, `OperationNotFound` if the
    environment is missing from at least 3 polls in a row over 30 seconds, and a permanent error of a poll.
    """
    condition = WaitCondition(
        resource=f"cloud-hosting environment {env_id}",
        find=_find_env(env_id),
        status_of=lambda info: info.status,
        ready_statuses=frozenset({_NORMAL}),
        failure_statuses=_ENV_FAILURE_STATUSES,
    )
    poller = session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS)
    return await wait_until(poller, condition, timeout=timeout, interval=interval)


async def wait_until_databases_running(
    session: Session, env_id: str, *, timeout: float = 600.0, interval: float = 5.0
) -> EnvInfo:
    """Wait until environment *env_id* is NORMAL and all its `databases` are RUNNING, and return it.

    A NORMAL environment without databases is returned at once. While the environment is UNAVAILABLE, databases may
    still be added.

    Raises the errors of `wait_until_env_normal`, and `OperationFailed` also if a database is UNUSABLE or OVERDUE.
    """
    condition = WaitCondition(
        resource=f"databases of cloud-hosting environment {env_id}",
        find=_find_env(env_id),
        status_of=_overall_database_status,
        ready_statuses=frozenset({_RUNNING}),
        failure_statuses=_DATABASE_FAILURE_STATUSES,
    )
    poller = session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS)
    return await wait_until(poller, condition, timeout=timeout, interval=interval)


def _find_env(env_id: str) -> Callable[[EnvList], EnvInfo | None]:
    return lambda listing: listing.by_env_id.get(env_id)


def _overall_database_status(info: EnvInfo) -> str | None:
    """Return RUNNING if everything is ready, else a status that prevents it: failures come before pending ones."""
    # An environment that is not NORMAL yet may still get databases, so an empty list proves nothing.
    pending = [] if info.status == _NORMAL else [info.status]
    pending += [each.status for each in info.databases if each.status != _RUNNING]
    failed = [status for status in pending if status in _DATABASE_FAILURE_STATUSES]
    return next(iter([*failed, *pending]), _RUNNING)


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
