"""Cloud hosting: environments, services, versions (official group: cloudrun-batch)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import JSON_IN_STRING, NUMBER_IN_STRING, interned, wire_fields, wire_format, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._times import parse_time
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import (
    check_list_of,
    check_number,
    check_string,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    one_of,
    require_strings,
    to_secret,
    to_str_tuple_or_none,
    to_variables,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "CREATE_CLOUDBASERUN_ENV",
    "CREATE_CLOUDBASERUN_RES_AUTH",
    "CREATE_CLOUDBASERUN_SERVER_VERSION",
    "DELETE_CLOUDBASERUN_SERVER_VERSION",
    "DESCRIBE_CLOUDBASERUN_ENVS",
    "ENDPOINTS",
    "ESTABLISH_CLOUDBASERUN_SERVER",
    "PLACEHOLDER_ENV_ID",
    "RELEASE_CLOUDBASERUN_VERSION",
    "ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION",
    "Capabilities",
    "CloudRunEnvInfo",
    "CloudRunEnvList",
    "CodeDetail",
    "CustomLogService",
    "Database",
    "DeploymentResult",
    "EmptyDir",
    "EsInfo",
    "FunctionSpace",
    "ImageInfo",
    "ImageSecretInfo",
    "LogService",
    "NewCloudRunEnv",
    "NfsVolume",
    "PolicyDetail",
    "ReleaseResult",
    "RepositoryName",
    "Security",
    "Server",
    "ServiceVolume",
    "ServiceVolumeMount",
    "SidecarSpec",
    "StaticStorage",
    "Storage",
    "Tag",
    "Version",
    "VersionResult",
    "VersionSettings",
    "VersionUpdate",
    "VolumeMount",
    "VpcInfo",
    "create_cloudbaserun_env",
    "create_cloudbaserun_res_auth",
    "create_cloudbaserun_server_version",
    "delete_cloudbaserun_server_version",
    "describe_cloudbaserun_envs",
    "establish_cloudbaserun_server",
    "release_cloudbaserun_version",
    "roll_update_cloudbaserun_server_version",
    "wait_until_databases_running",
    "wait_until_env_normal",
]

PolicyType: TypeAlias = Literal["cpu", "mem"]
_VARIABLES: Final = wire_format(JSON_IN_STRING)
_CHECK_VARIABLES: Final = validator(check_variables, optional=True)
# Unlike the alias of createTcbEnv, this one allows no capital letters.
_ALIAS_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]*")


@attrs.frozen(kw_only=True)
class Database:
    """A database of an environment.

    `status` is INITIALIZING, RUNNING, UNUSABLE (disabled) or OVERDUE (expired); at run time it may be another text.
    """

    instance_id: str | None = None
    status: Literal["INITIALIZING", "RUNNING", "UNUSABLE", "OVERDUE"] | None = attrs.field(
        default=None, metadata=interned()
    )
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
    """Static website of an environment; `status` is empty if there is none, and may be another text at run time."""

    static_domain: str | None = None
    default_dir_name: str | None = None
    status: Literal["init", "process", "online", "offline", ""] | None = attrs.field(default=None, metadata=interned())
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

    @property
    def created_at(self) -> datetime | None:
        """`create_time` with its time zone, or None if it is not a time."""
        return parse_time(self.create_time)


@attrs.frozen(kw_only=True)
class CloudRunEnvInfo:
    """One cloud-hosting environment of the list; fields that the platform omits are None or empty.

    `status` is NORMAL (usable), UNAVAILABLE (not yet usable) or HALTED (stopped); at run time `status`, `source` and
    `pay_mode` may be other texts. The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone; `created_at` and
    `updated_at` take them for China Standard Time.
    """

    env_id: str
    source: Literal["miniapp", "qcloud"] | None = attrs.field(default=None, metadata=interned())
    alias: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    status: Literal["NORMAL", "UNAVAILABLE", "HALTED"] | None = attrs.field(default=None, metadata=interned())
    databases: tuple[Database, ...] = ()
    storages: tuple[Storage, ...] = ()
    functions: tuple[FunctionSpace, ...] = ()
    package_id: str | None = attrs.field(default=None, metadata=interned())
    package_name: str | None = attrs.field(default=None, metadata=interned())
    log_services: tuple[LogService, ...] = ()
    static_storages: tuple[StaticStorage, ...] = ()
    is_auto_degrade: bool | None = None
    env_channel: str | None = attrs.field(default=None, metadata=interned())
    pay_mode: Literal["prepayment", "postpaid"] | None = attrs.field(default=None, metadata=interned())
    is_default: bool | None = None
    region: str | None = attrs.field(default=None, metadata=interned())
    tags: tuple[Tag, ...] = ()
    custom_log_services: tuple[CustomLogService, ...] = ()

    @property
    def created_at(self) -> datetime | None:
        """`create_time` with its time zone, or None if it is not a time."""
        return parse_time(self.create_time)

    @property
    def updated_at(self) -> datetime | None:
        """`update_time` with its time zone, or None if it is not a time."""
        return parse_time(self.update_time)


@attrs.frozen
class CloudRunEnvList(Reply):
    """All cloud-hosting environments of the third-party platform."""

    env_list: tuple[CloudRunEnvInfo, ...] = ()

    @cached_property
    def by_env_id(self) -> Mapping[str, CloudRunEnvInfo]:
        """The same environments by their ids."""
        return {info.env_id: info for info in self.env_list}


@attrs.frozen(kw_only=True)
class NewCloudRunEnv(Reply):
    """A new cloud-hosting environment; `tranid` is its pay-as-you-go order, if the platform returns it."""

    # A success without an id is a bad reply: the outcome of the create is unknown.
    env_id: str = attrs.field(validator=validator(check_string))
    # In the table of the page, but not in its sample.
    tranid: str | None = attrs.field(default=None, metadata=wire_name("tran_id"))


DESCRIBE_CLOUDBASERUN_ENVS: Final = Endpoint(
    "/componenttcb/describecloudbaserunenvs",
    CloudRunEnvList,
    Repeat.READ,
    name="describe_cloudbaserun_envs",
    official="getWxCloudBaseRunEnvs",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
CREATE_CLOUDBASERUN_ENV: Final = Endpoint(
    "/componenttcb/createcloudbaserunenv",
    NewCloudRunEnv,
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


async def describe_cloudbaserun_envs(session: Session) -> CloudRunEnvList:
    """Return all cloud-hosting environments of the third-party platform; the list is not paged.

    `environment.describe_envs` returns those of cloud development.
    Official interface: getWxCloudBaseRunEnvs, page cloudrun-batch/cloudenv-mgnt/getWxCloudBaseRunEnvs.
    """
    return await session.call(DESCRIBE_CLOUDBASERUN_ENVS, {})


async def create_cloudbaserun_env(
    session: Session, *, alias: str | None = None, vpc_id: str | None = None, subnet_ids: Iterable[str] | None = None
) -> NewCloudRunEnv:
    """Create a pay-as-you-go cloud-hosting environment; every success creates, and bills, another one.

    The environment is set up in the background: call `wait_until_env_normal` before you use it. *alias* must start with
    a-z and contain only a-z, 0-9 and '-', no capital letters. *vpc_id* and *subnet_ids* select an existing private
    network; give both or neither. Raises `InvalidArgument` before a request is sent, and `OutcomeUnknown` if the reply
    was lost: check with `describe_cloudbaserun_envs` whether the alias exists before you retry.
    Official interface: createCloudbaseEnv, page cloudrun-batch/cloudenv-mgnt/createCloudbaseEnv.
    """
    subnets = None if subnet_ids is None else require_strings("subnet_ids", subnet_ids)
    if alias is not None and not _ALIAS_PATTERN.fullmatch(alias):
        rule = "it must start with a-z and contain only a-z, 0-9 and '-'"
        raise InvalidArgument(f"alias {alias!r} is invalid: {rule}")
    if (vpc_id is None) is not (subnets is None):
        raise InvalidArgument("vpc_id and subnet_ids belong together: give both or neither")
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
) -> CloudRunEnvInfo:
    """Wait until cloud-hosting environment *env_id* is NORMAL, and return it; its databases may not be running yet.

    All waiters of a session share their polls, as in `environment.wait_until_normal`. UNAVAILABLE and unknown statuses
    keep waiting, and so does a poll with a transient error. Raises `OperationTimeout` after *timeout* seconds,
    `OperationFailed` for HALTED, `OperationNotFound` if the environment is missing from at least 3 polls in a row over
    30 seconds, and a permanent error of a poll.
    """
    condition = WaitCondition[CloudRunEnvList, CloudRunEnvInfo](
        resource=f"cloud-hosting environment {env_id}",
        find=lambda listing: listing.by_env_id.get(env_id),
        status_of=lambda info: info.status,
        ready_statuses=frozenset({"NORMAL"}),
        failure_statuses=_ENV_FAILURE_STATUSES,
    )
    poller = session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS)
    return await wait_until(poller, condition, timeout=timeout, interval=interval)


async def wait_until_databases_running(
    session: Session, env_id: str, *, timeout: float = 600.0, interval: float = 5.0
) -> CloudRunEnvInfo:
    """Wait until environment *env_id* is NORMAL and all its `databases` are RUNNING, and return it.

    A NORMAL environment without databases is returned at once. While the environment is UNAVAILABLE, databases may
    still be added. Raises the errors of `wait_until_env_normal`, and `OperationFailed` also if a database is UNUSABLE
    or OVERDUE.
    """
    condition = WaitCondition[CloudRunEnvList, CloudRunEnvInfo](
        resource=f"databases of cloud-hosting environment {env_id}",
        find=lambda listing: listing.by_env_id.get(env_id),
        status_of=_overall_database_status,
        ready_statuses=frozenset({"RUNNING"}),
        failure_statuses=_DATABASE_FAILURE_STATUSES,
    )
    poller = session.shared_poller(DESCRIBE_CLOUDBASERUN_ENVS)
    return await wait_until(poller, condition, timeout=timeout, interval=interval)


def _overall_database_status(info: CloudRunEnvInfo) -> str | None:
    """Return RUNNING if everything is ready, else a status that prevents it: failures come before pending ones."""
    # An environment that is not NORMAL yet may still get databases, so an empty list proves nothing.
    pending: list[str | None] = [] if info.status == "NORMAL" else [info.status]
    pending += [each.status for each in info.databases if each.status != "RUNNING"]
    failed = [status for status in pending if status in _DATABASE_FAILURE_STATUSES]
    return next(iter([*failed, *pending]), "RUNNING")


_ENV_FAILURE_STATUSES: Final = {
    "HALTED": "the platform stopped it (over quota or blocked); see its page in the console"
}
_DATABASE_FAILURE_STATUSES: Final = {
    **_ENV_FAILURE_STATUSES,
    "UNUSABLE": "a database is disabled; see its page in the console",
    "OVERDUE": "a database has expired; see its page in the console",
}


# Parts of a version
@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in a registry; `server_addr` is the registry's host, `image_url` the full address for a pull."""

    repository_name: str | None = None
    is_public: bool | None = None
    tag_name: str | None = None
    server_addr: str | None = None
    image_url: str | None = None


# If the constructor raises, the frames of the traceback would show the password that was passed to it.
@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """Account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = None
    user_name: str | None = None
    password: Secret | None = attrs.field(default=None, converter=to_secret, validator=type_validator(Secret))
    email: str | None = None


@attrs.frozen(kw_only=True)
class RepositoryName:
    """Name of a code repository: `name` alone, and `full_name` as owner/name."""

    name: str | None = None
    full_name: str | None = None


@attrs.frozen(kw_only=True)
class CodeDetail:
    """A code repository: its name and its URL."""

    name: RepositoryName | None = None
    url: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class EsInfo:
    """The Elasticsearch server that stores the logs of a service; `password` is shown in no repr."""

    id: int | None = None
    secret_name: str | None = None
    ip: str | None = None
    port: int | None = None
    index: str | None = None
    account: str | None = None
    password: Secret | None = attrs.field(default=None, converter=to_secret, validator=type_validator(Secret))


@attrs.frozen(kw_only=True)
class NfsVolume:
    """A network file system: its `server` and `path`; `secret_name` names its credentials."""

    server: str | None = None
    path: str | None = None
    read_only: bool | None = None
    secret_name: str | None = None
    enable_empty_dir_volume: bool | None = None


# Type checkers do not infer the types of a generic converter, so each entry type has one of its own.
def _as_nfs_volumes(value: Iterable[NfsVolume] | None) -> tuple[NfsVolume, ...] | None:
    return None if value is None else tuple(value)


@attrs.frozen(kw_only=True)
class VolumeMount:
    """Network file systems and their mount path in a container."""

    name: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    nfs_volumes: tuple[NfsVolume, ...] | None = attrs.field(default=None, converter=_as_nfs_volumes)


def _as_volume_mounts(value: Iterable[VolumeMount] | None) -> tuple[VolumeMount, ...] | None:
    return None if value is None else tuple(value)


@attrs.frozen(kw_only=True)
class EmptyDir:
    """A temporary directory; `medium` is "" (disk), "Memory" or "HugePages", `size_limit` a text."""

    enable_empty_dir_volume: bool | None = None
    medium: str | None = None
    size_limit: str | None = None


@attrs.frozen(kw_only=True)
class ServiceVolume:
    """A volume of a service, mounted by its `name`; `empty_dir` takes precedence over `enable_empty_dir_volume`."""

    name: str | None = None
    nfs: NfsVolume | None = None
    secret_name: str | None = None
    enable_empty_dir_volume: bool | None = None
    empty_dir: EmptyDir | None = None


@attrs.frozen(kw_only=True)
class ServiceVolumeMount:
    """Mount of one of the service's volumes in its containers."""

    name: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    sub_path: str | None = None
    mount_propagation: str | None = None


@attrs.frozen(kw_only=True)
class Capabilities:
    """Linux capabilities to `add` to a container and to `drop` from it."""

    add: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )
    drop: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )


@attrs.frozen(kw_only=True)
class Security:
    """Security settings of a container."""

    capabilities: Capabilities | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class SidecarSpec:
    """A container that runs next to the container of a version.

    `cpu` is in cores, `mem` in megabytes (the memory of the version itself is in gigabytes). `env_var` are environment
    variables, shown in no repr.
    """

    container_image: str | None = None
    container_port: int | None = None
    container_name: str | None = None
    env_var: Mapping[str, Secret] | None = attrs.field(
        default=None, repr=False, hash=False, metadata=_VARIABLES, converter=to_variables, validator=_CHECK_VARIABLES
    )
    initial_delay_seconds: int | None = None
    # JSON has no NaN and no infinity; they would be sent as null.
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    security: Security | None = None
    volume_mount_infos: tuple[VolumeMount, ...] | None = attrs.field(default=None, converter=_as_volume_mounts)


@attrs.frozen(kw_only=True)
class PolicyDetail:
    """A scaling policy: add replicas above `policy_threshold` percent of `policy_type` (cpu, mem and the like)."""

    policy_type: PolicyType | None = None
    policy_threshold: int | None = None


# Services
ESTABLISH_CLOUDBASERUN_SERVER: Final = Endpoint(
    "/componenttcb/establishcloudbaserunserver",
    Done,
    Repeat.ONCE,
    name="establish_cloudbaserun_server",
    official="createCloudbaseService",
)


@attrs.frozen(kw_only=True)
class VpcInfo:
    """Private network of a service; `create_type` is 0 (inherit), 1 (create) or 2 (use the given network)."""

    vpc_id: str | None = None
    subnet_ids: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )
    create_type: int | None = None


# `env_id` of a service whose environment does not exist yet
PLACEHOLDER_ENV_ID: Final = "(not open yet)"


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class Server:
    """A new cloud-hosting service. `env_id` may be left out only in a `wxtcb.provision.Tenant`.

    `is_public` opens it to the internet. `log_type` is "es" or "cls". `public_access` is 0, 1 or 2: the page names 0
    and 1 without a meaning; Tencent Cloud's API takes both as open, and 2 as closed.
    """

    env_id: str = attrs.field(default=PLACEHOLDER_ENV_ID, validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string))
    is_public: bool
    image_repo: str | None = None
    remark: str | None = None
    # A dict instead of `EsInfo` would show its password in the repr.
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    log_type: Literal["es", "cls"] | None = attrs.field(default=None, validator=one_of("es", "cls"))
    vpc_info: VpcInfo | None = None
    public_access: Literal[0, 1, 2] | None = attrs.field(default=None, validator=int_range(0, 2))


async def establish_cloudbaserun_server(session: Session, server: Server) -> Done:
    """Create an empty cloud-hosting service in a NORMAL environment; it has no version yet.

    An existing name is rejected with 40097 (`InvalidRequest`). Raises `OutcomeUnknown` if the reply was lost: a retry
    with the same name is safe, because it cannot create a second service.
    Official interface: createCloudbaseService, page cloudrun-batch/service-mgnt/createCloudbaseService.
    """
    if server.env_id == PLACEHOLDER_ENV_ID:
        raise InvalidArgument("server: env_id is missing; no request was sent")
    return await session.call(ESTABLISH_CLOUDBASERUN_SERVER, wire_fields(server))


# Settings of versions
# Documented: an upload of one of these types needs a file name.
_FILE_UPLOAD_TYPES: Final = frozenset({"jar", "war"})


def _as_policies(value: Iterable[PolicyDetail] | None) -> tuple[PolicyDetail, ...] | None:
    return None if value is None else tuple(value)


def _as_sidecars(value: Iterable[SidecarSpec] | None) -> tuple[SidecarSpec, ...] | None:
    return None if value is None else tuple(value)


def _as_volumes(value: Iterable[ServiceVolume] | None) -> tuple[ServiceVolume, ...] | None:
    return None if value is None else tuple(value)


def _as_service_mounts(value: Iterable[ServiceVolumeMount] | None) -> tuple[ServiceVolumeMount, ...] | None:
    return None if value is None else tuple(value)


def _check_replica_range(version: Version | VersionUpdate, _: attrs.Attribute[Any], max_num: int | None) -> None:
    min_num = version.min_num
    if min_num is not None and max_num is not None and min_num > max_num:
        raise InvalidArgument(f"{type(version).__name__}: min_num ({min_num}) must not be above max_num ({max_num})")


def _check_upload_filename(version: Version, _: attrs.Attribute[str | None], filename: str | None) -> None:
    if version.upload_type in _FILE_UPLOAD_TYPES and not filename:
        raise InvalidArgument(f"Version: upload_filename is required because upload_type is {version.upload_type}")


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True, slots=False)
class VersionSettings:
    """Settings that a new version and an update have in common; all may be left out."""

    repository_type: Literal["coding", "gitlab", "github"] | None = None
    dockerfile_path: str | None = None
    build_dir: str | None = None
    env_params: Mapping[str, Secret] | None = attrs.field(
        default=None, repr=False, hash=False, metadata=_VARIABLES, converter=to_variables, validator=_CHECK_VARIABLES
    )
    repository: str | None = None
    branch: str | None = None
    version_remark: str | None = None
    package_name: str | None = None
    package_version: str | None = None
    image_info: ImageInfo | None = None
    code_detail: CodeDetail | None = None
    custom_logs: str | None = None
    initial_delay_seconds: int | None = None
    mount_volume_info: tuple[VolumeMount, ...] | None = attrs.field(default=None, converter=_as_volume_mounts)
    enable_union: bool | None = None
    server_path: str | None = None
    policy_detail: tuple[PolicyDetail, ...] | None = attrs.field(default=None, converter=_as_policies)


# A base class before `VersionSettings`, so that editors show the required fields first. Two bases with fields need
# classes without slots.
@attrs.frozen(kw_only=True, slots=False)
class _RequiredSettings:
    env_id: str
    service_name: str = attrs.field(metadata=wire_name("server_name"))
    upload_type: Literal["package", "repository", "image", "jar", "war"]
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))
    # JSON has no NaN and no infinity; they would be sent as null.
    cpu: float = attrs.field(validator=validator(check_number))
    mem: float = attrs.field(validator=validator(check_number))
    min_num: int = attrs.field(validator=int_range(0, 50, optional=False))
    max_num: int = attrs.field(validator=[int_range(0, 50, optional=False), _check_replica_range])
    policy_type: PolicyType
    policy_threshold: int
    container_port: int


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True, slots=False)
class Version(VersionSettings, _RequiredSettings):
    """A version to build and deploy. Texts that are not in a `Literal` are sent unchanged.

    Required:

    - `env_id`, `service_name`: the environment and its service.
    - `upload_type`: where the code comes from: package, repository, image, jar or war.
    - `flow_ratio`: percentage of the traffic, 0 to 100.
    - `cpu`, `mem`: cores and gigabytes of a replica, such as 0.25 and 0.5.
    - `min_num`, `max_num`: number of replicas, 0 to 50.
    - `policy_type`, `policy_threshold`: replicas are added above this percentage of cpu or mem.
    - `container_port`: port on which the service listens.

    Code:

    - `package_name`, `package_version`: an uploaded package. `upload_filename`: file name of a jar or war, required for
      these.
    - `repository_type`, `repository` (owner/name or URL), `branch`, `code_detail`: a repository.
    - `image_info`: an image. `image_secret_info`: credentials of its registry. `image_pull_secret`: name of credentials
      that the platform stores.
    - `build_dir`, `dockerfile_path`: where to build. `has_dockerfile`: 0 or 1 yes, 2 no; then `base_image`,
      `repo_language` and `entry_point` (start command) replace it.

    Running:

    - `env_params`: environment variables, shown in no repr; a `Secret` among them is also redacted in errors.
    - `initial_delay_seconds`: seconds before health checks start. `version_remark`: a note for people.
    - `policy_detail`: further scaling policies. `sidecar_specs`: further containers. `security`: their privileges.
    - `mount_volume_info`: mounted file systems. `service_volumes`, `service_volume_mounts`: further volumes.
    - `custom_logs`: where logs are collected, such as stdout. `es_info`: the Elasticsearch that receives them.
    - `server_path`, `enable_union`: path of the service, and whether it uses the unified domain. `access_type`: 4
      allows access over the WeChat link only. `is_create_jns_gw`: 0 or 1 creates a gateway, 2 does not.
    """

    # A dict in place of these classes would show its password, or its variables, in the repr.
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=type_validator(ImageSecretInfo))
    image_pull_secret: str | None = None
    access_type: int | None = None
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    sidecar_specs: tuple[SidecarSpec, ...] | None = attrs.field(
        default=None,
        converter=_as_sidecars,
        validator=validator(partial(check_list_of, expected_type=SidecarSpec), optional=True),
    )
    security: Security | None = None
    service_volumes: tuple[ServiceVolume, ...] | None = attrs.field(default=None, converter=_as_volumes)
    is_create_jns_gw: int | None = None
    service_volume_mounts: tuple[ServiceVolumeMount, ...] | None = attrs.field(
        default=None, converter=_as_service_mounts
    )
    has_dockerfile: int | None = None
    base_image: str | None = None
    entry_point: str | None = None
    repo_language: str | None = None
    upload_filename: str | None = attrs.field(default=None, validator=_check_upload_filename)


@attrs.frozen(kw_only=True, slots=False)
class _UpdatedVersion:
    env_id: str
    version_name: str


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True, slots=False)
class VersionUpdate(VersionSettings, _UpdatedVersion):
    """Changes to an existing version; None keeps a setting.

    `version_name` may be "latest". The other settings are as in `Version`. `is_rebuild` replays traffic, `rollback`
    goes back to `snapshot_name`, `is_update_cls` updates the log service. `server_path` takes effect only the first
    time.
    """

    service_name: str | None = attrs.field(default=None, metadata=wire_name("server_name"))
    upload_type: Literal["package", "repository", "image"] | None = None
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    # This page sends as strings the five numbers that the page of a new version sends as numbers.
    cpu: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    mem: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    min_num: int | None = attrs.field(default=None, validator=int_range(0), metadata=wire_format(NUMBER_IN_STRING))
    max_num: int | None = attrs.field(
        default=None, validator=_check_replica_range, metadata=wire_format(NUMBER_IN_STRING)
    )
    policy_type: PolicyType | None = None
    policy_threshold: int | None = attrs.field(default=None, metadata=wire_format(NUMBER_IN_STRING))
    container_port: int | None = None
    is_rebuild: bool | None = None
    rollback: bool | None = None
    snapshot_name: str | None = None
    is_update_cls: bool | None = None


# Versions
# The pages spell success in two ways, and some replies have no result.
_SUCCESS_RESULTS: Final = frozenset({"", "succ", "success", "creating"})


@attrs.frozen(kw_only=True)
class VersionResult(Reply):
    """Result next to errcode 0: "succ", "success", or "creating" while the build is running.

    Any other `result` is a failure; a missing or empty one is a success.
    """

    result: str | None = None

    @property
    def failed(self) -> Sequence[str]:
        return () if self.result is None or self.result in _SUCCESS_RESULTS else (self.result,)


@attrs.frozen(kw_only=True)
class DeploymentResult(VersionResult):
    """A deployment; `run_id` is its record, `version_name` is None while `result` is "creating"."""

    version_name: str | None = None
    run_id: str | None = None


@attrs.frozen(kw_only=True)
class ReleaseResult(VersionResult):
    """A release and the id of its order; no call returns the state of the order."""

    release_order_id: int | None = None


CREATE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/createcloudbaserunserverversion",
    DeploymentResult,
    Repeat.ONCE,
    name="create_cloudbaserun_server_version",
    official="createCloudbaseServiceVersion",
)
# Update and release are not SET: a late repeat would undo a newer update or release.
ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/rollupdatecloudbaserunserverversion",
    DeploymentResult,
    Repeat.ONCE,
    name="roll_update_cloudbaserun_server_version",
    official="updateCloudbaseServiceVersion",
)
DELETE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/deletecloudbaserunserverversion",
    VersionResult,
    Repeat.SET,
    name="delete_cloudbaserun_server_version",
    official="deleteCloudbaseServiceVersion",
)
RELEASE_CLOUDBASERUN_VERSION: Final = Endpoint(
    "/componenttcb/releasecloudbaserunversion",
    ReleaseResult,
    Repeat.ONCE,
    name="release_cloudbaserun_version",
    official="releaseCloudbaseServiceVersion",
)


async def create_cloudbaserun_server_version(session: Session, version: Version) -> DeploymentResult:
    """Build and deploy a new version of a service; every success creates another version.

    The build may continue in the background: then `result` is "creating" and `version_name` is None. No call of this
    family returns its progress, or lists versions. Raises `PartialFailure` if the platform reports a failure under
    errcode 0. After `OutcomeUnknown`, check in the console before you retry: the version may exist.
    Official interface: createCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/createCloudbaseServiceVersion.
    """
    return await session.call(CREATE_CLOUDBASERUN_SERVER_VERSION, wire_fields(version))


async def roll_update_cloudbaserun_server_version(session: Session, update: VersionUpdate) -> DeploymentResult:
    """Update an existing version to other code, another image or another configuration; its replicas are replaced.

    After `OutcomeUnknown`, the same update may be sent again: the result is the same unless a newer update came
    between, but it starts another rollout. Raises `PartialFailure` if the platform reports a failure under errcode 0.
    Official interface: updateCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/updateCloudbaseServiceVersion.
    """
    return await session.call(ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION, wire_fields(update))


async def delete_cloudbaserun_server_version(
    session: Session,
    *,
    env_id: str,
    service_name: str,
    version_name: str,
    is_delete_server: bool | None = None,
    is_delete_image: bool | None = None,
) -> VersionResult:
    """Delete a version, and optionally its service and its image.

    If *is_delete_server*, the service is deleted with its last version; if also *is_delete_image*, the image too. No
    other call deletes a service. A retry after a lost reply may be rejected because the version is already deleted.
    Official interface: deleteCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/deleteCloudbaseServiceVersion.
    """
    body = {
        "env_id": env_id,
        "server_name": service_name,
        "version_name": version_name,
        "is_delete_server": is_delete_server,
        "is_delete_image": is_delete_image,
    }
    return await session.call(DELETE_CLOUDBASERUN_SERVER_VERSION, body)


async def release_cloudbaserun_version(
    session: Session, *, env_id: str, service_name: str, version_name: str
) -> ReleaseResult:
    """Give one version all traffic of its service; every call creates a release order, whose state no call returns.

    Raises `PartialFailure` if the platform reports "failed" under errcode 0. After `OutcomeUnknown`, it may be sent
    again unless a newer version was released since, which a retry would undo.
    Official interface: releaseCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/releaseCloudbaseServiceVersion.
    """
    body = {"env_id": env_id, "server_name": service_name, "release_version": version_name}
    return await session.call(RELEASE_CLOUDBASERUN_VERSION, body)


ENDPOINTS: Final = (
    DESCRIBE_CLOUDBASERUN_ENVS,
    CREATE_CLOUDBASERUN_ENV,
    CREATE_CLOUDBASERUN_RES_AUTH,
    ESTABLISH_CLOUDBASERUN_SERVER,
    CREATE_CLOUDBASERUN_SERVER_VERSION,
    ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION,
    RELEASE_CLOUDBASERUN_VERSION,
    DELETE_CLOUDBASERUN_SERVER_VERSION,
)
