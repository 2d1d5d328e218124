"""Container services, the older family of cloud hosting (official group: cloudbase/batch, the old pages)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import attrs
import orjson

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import JSON_IN_STRING, WireFormat, aliases, interned, wire_fields, wire_format, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._pagination import by_offset
from wxtcb.api._times import parse_time
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import (
    check_not_empty,
    check_number,
    check_positive_int,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    require_strings,
    to_secret,
    to_str_tuple,
    to_variables,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "BATCH_CREATE_CS_VERSION",
    "BATCH_DEL_CS_VERSION",
    "BATCH_SET_CS_PROPOTION",
    "CREATE_CONTAINER_SERVICE",
    "CREATE_CS_VERSION",
    "DEL_CONTAINER_SERVICE",
    "DEL_CS_VERSION",
    "ENDPOINTS",
    "GET_CS_LIST",
    "GET_CS_VERSION_DETAIL",
    "GET_CS_VERSION_LIST",
    "OPEN_CONTAINER_SERVICE",
    "SET_CS_PROPOTION",
    "SET_CS_VERSION_CONFIG",
    "BatchEntry",
    "BatchFailure",
    "BatchResult",
    "ContainerService",
    "ContainerServices",
    "CsCodeDetail",
    "CsImageInfo",
    "CsImageSecretInfo",
    "CsRepositoryName",
    "CsVersion",
    "CsVersionConfig",
    "CsVersionDetail",
    "CsVersionInfo",
    "CsVersionList",
    "NewCsVersion",
    "TrafficSplit",
    "VersionFlow",
    "VersionRef",
    "Vpc",
    "batch_create_cs_version",
    "batch_del_cs_version",
    "batch_set_cs_propotion",
    "create_container_service",
    "create_cs_version",
    "del_container_service",
    "del_cs_version",
    "get_cs_list",
    "get_cs_version_detail",
    "get_cs_version_list",
    "iter_services",
    "iter_versions",
    "open_container_service",
    "set_cs_propotion",
    "set_cs_version_config",
    "wait_until_version_normal",
]


@attrs.frozen(kw_only=True)
class BatchEntry:
    """An entry that succeeded, by its environment, service and version; the fields depend on the call."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None


@attrs.frozen(kw_only=True)
class BatchFailure:
    """An entry that failed, by its environment, service and version, and the platform's reason."""

    env: str | None = None
    service_name: str | None = None
    version_name: str | None = None
    errmsg: str | None = attrs.field(default=None, metadata=aliases("errormsg"))


@attrs.frozen(kw_only=True)
class BatchResult(Reply):
    """Result of a batch call, entry by entry."""

    succ_list: tuple[BatchEntry, ...] = ()
    fail_list: tuple[BatchFailure, ...] = ()

    @property
    def failed(self) -> Sequence[BatchFailure]:
        return self.fail_list


# The platform's samples write "" where there are no variables, in requests and in replies.
def _encode_variables(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _decode_variables(value: object) -> object:
    variables = JSON_IN_STRING.decode(value)
    if not isinstance(variables, dict):
        return {} if variables is None else variables
    return {name: to_secret(text) if isinstance(text, str) else text for name, text in variables.items()}


_VARIABLES: Final = wire_format(WireFormat(JSON_IN_STRING.name, _encode_variables, _decode_variables))
_CHECK_VARIABLES: Final = validator(check_variables, optional=True)


# Services
@attrs.frozen(kw_only=True)
class Vpc:
    """Private network of a service; all three fields are required.

    `create_type` is 0 (inherit), 1 (create) or 2 (use the given network).
    """

    vpc_id: str = attrs.field(metadata=wire_name("vpcid"))
    subnet_ids: tuple[str, ...] = attrs.field(
        metadata=wire_name("subnetids"),
        converter=to_str_tuple,
        validator=[validator(check_strings), validator(check_not_empty)],
    )
    # Not validated: the platform's sample sends 3, which the documented values do not include.
    create_type: int


@attrs.frozen(kw_only=True)
class ContainerService:
    """One service of the list.

    The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone; `created_at` and `updated_at` take them for China
    Standard Time. The only documented `status` is "succ".
    """

    service_name: str | None = attrs.field(default=None, metadata=wire_name("server_name"))
    created_time: str | None = None
    updated_time: str | None = None
    status: str | None = None
    vpc_id: str | None = attrs.field(default=None, metadata=wire_name("vpcid"))
    image_repo: str | None = None

    @property
    def created_at(self) -> datetime | None:
        """`created_time` with its time zone, or None if it is not a time."""
        return parse_time(self.created_time)

    @property
    def updated_at(self) -> datetime | None:
        """`updated_time` with its time zone, or None if it is not a time."""
        return parse_time(self.updated_time)


@attrs.frozen(kw_only=True)
class ContainerServices(Reply):
    """A page of the services of an environment; `total` is the number of services on all pages."""

    cslist: tuple[ContainerService, ...] = ()
    total: int | None = None


# ONCE, because the documentation does not say whether a second call is harmless.
OPEN_CONTAINER_SERVICE: Final = Endpoint(
    "/componenttcb/opencontainerservice",
    Done,
    Repeat.ONCE,
    name="open_container_service",
    official="opencontainerservice",
)
CREATE_CONTAINER_SERVICE: Final = Endpoint(
    "/componenttcb/createcontainerservice",
    Done,
    Repeat.ONCE,
    name="create_container_service",
    official="createcontainerservice",
)
GET_CS_LIST: Final = Endpoint(
    "/componenttcb/getcslist",
    ContainerServices,
    Repeat.READ,
    name="get_cs_list",
    official="getcslist",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
DEL_CONTAINER_SERVICE: Final = Endpoint(
    "/componenttcb/delcontainerservice", Done, Repeat.SET, name="del_container_service", official="delcontainerservice"
)


async def open_container_service(session: Session, env: str) -> Done:
    """Turn on cloud hosting for environment *env*; this creates the cluster of its container services.

    The documentation does not say whether it may be turned on twice, and no call returns the state. Raises
    `OutcomeUnknown` if the reply was lost: try `create_container_service` before you retry.
    Official interface: opencontainerservice, page Third-party_Platforms/2.0/api/cloudbase/batch/opencontainerservice.
    """
    return await session.call(OPEN_CONTAINER_SERVICE, {"env": env})


async def create_container_service(
    session: Session, env: str, service_name: str, *, remark: str | None = None, vpc: Vpc | None = None
) -> Done:
    """Create a service in an environment with hosting (`open_container_service`); it has no version yet.

    Raises `OutcomeUnknown` if the reply was lost: check with `get_cs_list` whether the name exists before you retry.
    Official interface: createcontainerservice, page
    Third-party_Platforms/2.0/api/cloudbase/batch/createcontainerservice.
    """
    body = {"env": env, "service_name": service_name, "remark": remark, "vpc": vpc}
    return await session.call(CREATE_CONTAINER_SERVICE, body)


async def get_cs_list(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> ContainerServices:
    """Return a page of the services of environment *env*: *limit* of them (default 20), from *offset* (default 0) on.

    The documentation names no maximum page size: continue at the number of entries received, as `iter_services` does.
    It does not say either whether the list contains services of `cloudrun.establish_cloudbaserun_server`, so a missing
    name proves nothing.
    Official interface: getcslist, page Third-party_Platforms/2.0/api/cloudbase/batch/getcslist.
    """
    return await session.call(GET_CS_LIST, {"env": env, "limit": limit, "offset": offset})


def iter_services(session: Session, env: str, *, page_size: int | None = None) -> AsyncIterator[ContainerService]:
    """Iterate over all services of environment *env*, *page_size* (default 20) per call."""
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[tuple[ContainerService, ...], int | None]:
        page = await get_cs_list(session, env, limit=page_size, offset=offset)
        return page.cslist, page.total

    return by_offset(GET_CS_LIST, fetch)


async def del_container_service(session: Session, env: str, service_name: str) -> Done:
    """Delete a service of environment *env*; the documentation does not say whether it may still have versions.

    A retry after a lost reply may be rejected because the service is already deleted.
    Official interface: delcontainerservice, page Third-party_Platforms/2.0/api/cloudbase/batch/delcontainerservice.
    """
    return await session.call(DEL_CONTAINER_SERVICE, {"env": env, "service_name": service_name})


# New versions
# `cloudrun` has classes with the fields of the next four, but this family spells some names without underscores on the
# wire (ispublic, tagname, fullname, registryserver, username), so the classes cannot be shared.
@attrs.frozen(kw_only=True)
class CsImageInfo:
    """Image of a version: its repository and tag in the registry `server_addr`, and the address for a pull."""

    repository_name: str
    is_public: bool = attrs.field(metadata=wire_name("ispublic"))
    tag_name: str = attrs.field(metadata=wire_name("tagname"))
    server_addr: str
    image_url: str


@attrs.frozen(kw_only=True)
class CsRepositoryName:
    """Name of a code repository; `full_name` is owner/name."""

    name: str | None = None
    full_name: str | None = attrs.field(default=None, metadata=wire_name("fullname"))


@attrs.frozen(kw_only=True)
class CsCodeDetail:
    """Code repository of a version: its name and its URL."""

    name: CsRepositoryName | None = None
    url: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class CsImageSecretInfo:
    """Account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = attrs.field(default=None, metadata=wire_name("registryserver"))
    user_name: str | None = attrs.field(default=None, metadata=wire_name("username"))
    password: Secret | None = attrs.field(default=None, converter=to_secret, validator=type_validator(Secret))
    email: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class CsVersion:
    """A new version of a container service.

    Texts that are not in a `Literal` are sent unchanged. `flow_ratio` is the percentage of the traffic, `cpu` is in
    cores, `mem` in gigabytes, `min_num` (at least 0) and `max_num` (at most 50) are numbers of replicas. `env_params`
    are environment variables, shown in no repr. `mount_wx_token` pushes WeChat's token into the container.
    """

    service_name: str
    upload_type: Literal["package", "repository", "image"]
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"), validator=int_range(0))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"), validator=int_range(0, 50))
    policy_type: Literal["cpu", "mem"] | None = None
    policy_threshold: int | None = None
    container_port: int | None = None
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
    image_info: CsImageInfo | None = None
    code_detail: CsCodeDetail | None = None
    # A dict instead of `CsImageSecretInfo` would show its password in the repr.
    image_secret_info: CsImageSecretInfo | None = attrs.field(default=None, validator=type_validator(CsImageSecretInfo))
    # "pulls" is the platform's spelling.
    image_pull_secret: str | None = attrs.field(default=None, metadata=wire_name("image_pulls_secret"))
    custom_logs: str | None = None
    mount_wx_token: bool | None = None


@attrs.frozen(kw_only=True)
class NewCsVersion(Reply):
    """A new version; the platform chooses its name."""

    version_name: str | None = None


CREATE_CS_VERSION: Final = Endpoint(
    "/componenttcb/createcsversion", NewCsVersion, Repeat.ONCE, name="create_cs_version", official="createcsversion"
)
BATCH_CREATE_CS_VERSION: Final = Endpoint(
    "/componenttcb/batchcreatecsversion",
    BatchResult,
    Repeat.ONCE,
    name="batch_create_cs_version",
    official="batchcreatecsversion",
)


async def create_cs_version(session: Session, version: CsVersion, *, env: str) -> NewCsVersion:
    """Start building a version of a service in environment *env*; every success starts another one.

    It is built in the background: call `wait_until_version_normal` before you give it traffic. Raises `OutcomeUnknown`
    if the reply was lost: check with `get_cs_version_list` for a newer version before you retry.
    Official interface: createcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/createcsversion.
    """
    return await session.call(CREATE_CS_VERSION, {"env": env, **wire_fields(version)})


async def batch_create_cs_version(session: Session, version: CsVersion, *, envs: Iterable[str]) -> BatchResult:
    """Start building the same version in many environments, each of which must have the service.

    Raises `PartialFailure` if some environments failed; the others and their version names are in ``.reply.succ_list``.
    Raises `OutcomeUnknown` if the reply was lost: check each environment with `get_cs_version_list` before you retry.
    The documentation does not say whether `mount_wx_token` applies here.
    Official interface: batchcreatecsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchcreatecsversion.
    """
    names = require_strings("envs", envs)
    return await session.call(BATCH_CREATE_CS_VERSION, {"envs": names, **wire_fields(version)})


# Existing versions
@attrs.frozen(kw_only=True)
class VersionRef:
    """Reference to one version of one service in one environment."""

    env: str
    service_name: str
    version_name: str


@attrs.frozen(kw_only=True)
class CsVersionInfo:
    """One version of the list.

    `status` is "normal", "build_fail", or another text; `flow_ratio` is its percentage of the traffic. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a time zone; `created_at` and `updated_at` take them for China Standard Time.
    """

    version_name: str | None = None
    status: str | None = attrs.field(default=None, metadata=interned())
    created_time: str | None = None
    updated_time: str | None = None
    flow_ratio: int | None = None
    build_id: int | None = attrs.field(default=None, metadata=wire_name("buildid"))
    upload_type: str | None = attrs.field(default=None, metadata=interned())
    # The list spells the numbers of replicas in another way than the other calls.
    min_num: int | None = attrs.field(default=None, metadata=wire_name("min_replicas"))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("max_replicas"))

    @property
    def created_at(self) -> datetime | None:
        """`created_time` with its time zone, or None if it is not a time."""
        return parse_time(self.created_time)

    @property
    def updated_at(self) -> datetime | None:
        """`updated_time` with its time zone, or None if it is not a time."""
        return parse_time(self.updated_time)


@attrs.frozen(kw_only=True)
class CsVersionList(Reply):
    """A page of the versions of a service; `total` is the number of versions on all pages."""

    total: int | None = None
    items: tuple[CsVersionInfo, ...] = ()


@attrs.frozen(kw_only=True)
class CsVersionDetail(Reply):
    """Details of one version.

    `cpu` is in cores, `mem` in gigabytes, `min_num` and `max_num` are numbers of replicas; `version_ip` is an address
    inside the cloud. `env_params` are environment variables; strings among them are `Secret`. The times are as in
    `CsVersionInfo`.
    """

    keeps_raw: ClassVar[bool] = False

    version_name: str | None = None
    status: str | None = None
    remark: str | None = None
    dockerfile_path: str | None = None
    build_dir: str | None = None
    cpu: float | None = None
    mem: float | None = None
    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"))
    policy_type: str | None = None
    policy_threshold: int | None = None
    # `Any`, because replies may contain values that are not strings, such as numbers.
    env_params: Mapping[str, Any] | None = attrs.field(default=None, repr=False, hash=False, metadata=_VARIABLES)
    created_time: str | None = None
    updated_time: str | None = None
    version_ip: str | None = None
    version_port: int | None = None
    package_name: str | None = None
    package_version: str | None = None
    upload_type: str | None = None
    repository_type: str | None = attrs.field(default=None, metadata=wire_name("repo_type"))
    repository: str | None = attrs.field(default=None, metadata=wire_name("repo"))
    branch: str | None = None
    custom_logs: str | None = None
    image_url: str | None = None
    container_port: int | None = None

    @property
    def created_at(self) -> datetime | None:
        """`created_time` with its time zone, or None if it is not a time."""
        return parse_time(self.created_time)

    @property
    def updated_at(self) -> datetime | None:
        """`updated_time` with its time zone, or None if it is not a time."""
        return parse_time(self.updated_time)


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class CsVersionConfig:
    """Changes to the configuration of an existing version.

    A field that is None is not sent; the documentation does not say whether the platform then keeps or resets it.
    Numbers and `env_params` are as in `CsVersion`; an empty mapping is sent as no variables.
    """

    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"), validator=int_range(0))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"), validator=int_range(0, 50))
    remark: str | None = None
    container_port: int | None = None
    custom_logs: str | None = None
    env_params: Mapping[str, Secret] | None = attrs.field(
        default=None, repr=False, hash=False, metadata=_VARIABLES, converter=to_variables, validator=_CHECK_VARIABLES
    )


GET_CS_VERSION_LIST: Final = Endpoint(
    "/componenttcb/getcsversionlist",
    CsVersionList,
    Repeat.READ,
    name="get_cs_version_list",
    official="getcsversionlist",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
GET_CS_VERSION_DETAIL: Final = Endpoint(
    "/componenttcb/getcsversiondetail",
    CsVersionDetail,
    Repeat.READ,
    name="get_cs_version_detail",
    official="getcsversiondetail",
)
SET_CS_VERSION_CONFIG: Final = Endpoint(
    "/componenttcb/setcsversionconfig", Done, Repeat.SET, name="set_cs_version_config", official="setcsversionconfig"
)
DEL_CS_VERSION: Final = Endpoint(
    "/componenttcb/delcsversion", Done, Repeat.SET, name="del_cs_version", official="delcsversion"
)
BATCH_DEL_CS_VERSION: Final = Endpoint(
    "/componenttcb/batchdelcsversion",
    BatchResult,
    Repeat.SET,
    name="batch_del_cs_version",
    official="batchdelcsversion",
)


async def get_cs_version_list(
    session: Session, env: str, service_name: str, *, limit: int | None = None, offset: int | None = None
) -> CsVersionList:
    """Return a page of the versions of a service: *limit* of them, from *offset* (default 0) on.

    The documentation names neither the default nor the maximum page size: continue at the number of entries received,
    as `iter_versions` does.
    Official interface: getcsversionlist, page Third-party_Platforms/2.0/api/cloudbase/batch/getcsversionlist.
    """
    body = {"env": env, "service_name": service_name, "limit": limit, "offset": offset}
    return await session.call(GET_CS_VERSION_LIST, body)


def iter_versions(
    session: Session, env: str, service_name: str, *, page_size: int | None = None
) -> AsyncIterator[CsVersionInfo]:
    """Iterate over all versions of a service, *page_size* per call (None: the platform's default)."""
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[tuple[CsVersionInfo, ...], int | None]:
        page = await get_cs_version_list(session, env, service_name, limit=page_size, offset=offset)
        return page.items, page.total

    return by_offset(GET_CS_VERSION_LIST, fetch)


async def get_cs_version_detail(session: Session, env: str, service_name: str, version_name: str) -> CsVersionDetail:
    """Return the details of one version of a service, including its environment variables.

    Official interface: getcsversiondetail, page Third-party_Platforms/2.0/api/cloudbase/batch/getcsversiondetail.
    """
    return await session.call(GET_CS_VERSION_DETAIL, _version_body(env, service_name, version_name))


async def wait_until_version_normal(
    session: Session, env: str, service_name: str, version_name: str, *, timeout: float = 1800.0, interval: float = 10.0
) -> CsVersionDetail:
    """Wait until a version is built and its status is "normal", and return it; it polls every *interval* seconds.

    Unknown statuses keep waiting, and so does a poll with a transient error. Raises `OperationTimeout` after *timeout*
    seconds, `OperationFailed` for a status that ends with "_fail", and a permanent error of a poll: `ApiError` if the
    version does not exist.
    """
    condition = WaitCondition[CsVersionDetail, CsVersionDetail](
        resource=f"version {version_name} of container service {service_name} in {env}",
        find=lambda detail: detail,
        status_of=lambda detail: detail.status,
        ready_statuses=frozenset({"normal"}),
        # No page lists the statuses. A sample shows build_fail, so every status that ends with "_fail" is a failure.
        failure_statuses={"*_fail": "waiting will not change that; delete the version and create another"},
    )
    # The detail of one version is small, so waiters do not share a poll as they do for lists of environments.
    poller = session.poller(partial(get_cs_version_detail, session, env, service_name, version_name))
    return await wait_until(poller, condition, timeout=timeout, interval=interval)


async def set_cs_version_config(
    session: Session, env: str, service_name: str, version_name: str, config: CsVersionConfig
) -> Done:
    """Change the configuration of an existing version.

    Official interface: setcsversionconfig, page Third-party_Platforms/2.0/api/cloudbase/batch/setcsversionconfig.
    """
    version = _version_body(env, service_name, version_name)
    return await session.call(SET_CS_VERSION_CONFIG, {**version, **wire_fields(config)})


async def del_cs_version(session: Session, env: str, service_name: str, version_name: str) -> Done:
    """Delete a version; give its traffic to other versions first (`set_cs_propotion`).

    A retry after a lost reply may be rejected because the version is already deleted.
    Official interface: delcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/delcsversion.
    """
    return await session.call(DEL_CS_VERSION, _version_body(env, service_name, version_name))


async def batch_del_cs_version(session: Session, items: Iterable[VersionRef]) -> BatchResult:
    """Delete many versions, of several services and environments.

    Raises `PartialFailure` if some versions failed; the others are in ``.reply.succ_list``. After a lost reply, a retry
    may report versions as missing because they are already deleted.
    Official interface: batchdelcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchDelCSVersion.
    """
    versions = tuple(items)
    check_not_empty("items", versions)
    return await session.call(BATCH_DEL_CS_VERSION, {"items": versions})


def _version_body(env: str, service_name: str, version_name: str) -> dict[str, object]:
    return {"env": env, "service_name": service_name, "version_name": version_name}


# Traffic
@attrs.frozen(kw_only=True)
class VersionFlow:
    """A version and its percentage of the traffic."""

    version_name: str
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))


def _as_flows(value: Iterable[VersionFlow]) -> tuple[VersionFlow, ...]:
    return tuple(value)


def _check_flows(_: TrafficSplit, attribute: attrs.Attribute[Any], flows: tuple[VersionFlow, ...]) -> None:
    name = f"TrafficSplit: {attribute.name}"
    check_not_empty(name, flows)
    total = sum(flow.flow_ratio for flow in flows)
    if total not in (0, 100):
        raise InvalidArgument(f"{name}: the flow ratios must add up to 100 or 0, not {total}")


@attrs.frozen(kw_only=True)
class TrafficSplit:
    """Traffic split of one service; the percentages add up to 100 or 0, and a version that is not listed gets 0."""

    env: str
    service_name: str
    items: tuple[VersionFlow, ...] = attrs.field(converter=_as_flows, validator=_check_flows)


# "propotion" is the platform's own spelling, in the paths and the official names.
SET_CS_PROPOTION: Final = Endpoint(
    "/componenttcb/setcspropotion", Done, Repeat.SET, name="set_cs_propotion", official="setcspropotion"
)
BATCH_SET_CS_PROPOTION: Final = Endpoint(
    "/componenttcb/batchsetcspropotion",
    BatchResult,
    Repeat.SET,
    name="batch_set_cs_propotion",
    official="batchsetcspropotion",
)


async def set_cs_propotion(session: Session, split: TrafficSplit) -> Done:
    """Split the traffic of a service between its versions; versions that are not listed get none.

    Official interface: setcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/setcspropotion.
    """
    return await session.call(SET_CS_PROPOTION, wire_fields(split))


async def batch_set_cs_propotion(session: Session, items: Iterable[TrafficSplit]) -> BatchResult:
    """Split the traffic of many services, each between its own versions.

    Raises `PartialFailure` if some services failed; the others are in ``.reply.succ_list``.
    Official interface: batchsetcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchSetCSPropotion.
    """
    splits = tuple(items)
    check_not_empty("items", splits)
    return await session.call(BATCH_SET_CS_PROPOTION, {"items": splits})


ENDPOINTS: Final = (
    OPEN_CONTAINER_SERVICE,
    CREATE_CONTAINER_SERVICE,
    GET_CS_LIST,
    DEL_CONTAINER_SERVICE,
    CREATE_CS_VERSION,
    BATCH_CREATE_CS_VERSION,
    GET_CS_VERSION_LIST,
    GET_CS_VERSION_DETAIL,
    SET_CS_VERSION_CONFIG,
    DEL_CS_VERSION,
    BATCH_DEL_CS_VERSION,
    SET_CS_PROPOTION,
    BATCH_SET_CS_PROPOTION,
)
