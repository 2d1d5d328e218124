"""Existing versions of a service: list, wait, configure, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import interned, wire_fields, wire_format, wire_name
from wxtcb.api._pagination import by_offset
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.api.containers.shared_models import VARIABLES_FORMAT, BatchResult
from wxtcb.validation import (
    Variables,
    check_not_empty,
    check_positive_int,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    to_variables,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


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
    ``YYYY-MM-DD HH:MM:SS`` without a time zone, presumably China Standard Time.
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


@attrs.frozen(kw_only=True)
class CsVersionList(Reply):
    """A page of the versions of a service; `total` is the number of versions on all pages."""

    total: int | None = None
    items: tuple[CsVersionInfo, ...] = ()


@attrs.frozen(kw_only=True)
class CsVersionDetail(Reply):
    """Details of one version.

    `cpu` is in cores, `mem` in gigabytes, `min_num` and `max_num` are numbers of replicas; `version_ip` is an address
    inside the cloud. `env_params` are environment variables, shown in no repr. The times are as in `CsVersionInfo`.
    """

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
    env_params: Mapping[str, Any] | None = attrs.field(
        default=None, repr=False, hash=False, metadata=wire_format(VARIABLES_FORMAT)
    )
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
    env_params: Variables | None = attrs.field(
        default=None,
        repr=False,
        hash=False,
        metadata=wire_format(VARIABLES_FORMAT),
        converter=to_variables,
        validator=validator(check_variables, optional=True),
    )


GET_CS_VERSION_LIST: Final = Endpoint(
    "/componenttcb/getcsversionlist",
    CsVersionList,
    Repeat.READ,
    name="get_cs_version_list",
    official="getcsversionlist",
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

ENDPOINTS: Final = (
    GET_CS_VERSION_LIST,
    GET_CS_VERSION_DETAIL,
    SET_CS_VERSION_CONFIG,
    DEL_CS_VERSION,
    BATCH_DEL_CS_VERSION,
)

_READY_STATUSES: Final = frozenset({"normal"})
# No page lists the statuses. A sample shows build_fail, so every status that ends with "_fail" counts as a failure.
_FAILURE_STATUSES: Final = {"*_fail": "waiting will not change that; delete the version and create another"}


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
    session: Session,
    env: str,
    service_name: str,
    version_name: str,
    *,
    timeout: float = 1800.0,
    interval: float = 10.0,
) -> CsVersionDetail:
    """Wait until a version is built and its status is "normal", and return it; it polls every *interval* seconds.

    Unknown statuses keep waiting, and so does a poll with a transient error.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` for a status that ends with "_fail", and a
    permanent error of a poll: `ApiError` if the version does not exist.
    """
    condition = WaitCondition[CsVersionDetail, CsVersionDetail](
        resource=f"version {version_name} of container service {service_name} in {env}",
        find=lambda detail: detail,
        status_of=lambda detail: detail.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
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
