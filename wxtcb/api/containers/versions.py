"""The versions of a service that are there: look at them, wait for them, change them, delete them."""

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
    check_list_of,
    check_not_empty,
    check_positive_int,
    check_string,
    check_type,
    check_type_or_none,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    to_tuple,
    to_variables,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class VersionRef:
    """One version of one service in one environment."""

    env: str = attrs.field(validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string))
    version_name: str = attrs.field(validator=validator(check_string))


@attrs.frozen(kw_only=True)
class CsVersionInfo:
    """One version as the platform lists it.

    `status` is "normal", "build_fail", or another text; `flow_ratio` is its share of the traffic in percent. The times
    are ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's).
    """

    version_name: str | None = None
    status: str | None = attrs.field(default=None, metadata=interned())
    created_time: str | None = None
    updated_time: str | None = None
    flow_ratio: int | None = None
    build_id: int | None = attrs.field(default=None, metadata=wire_name("buildid"))
    upload_type: str | None = attrs.field(default=None, metadata=interned())
    min_num: int | None = attrs.field(default=None, metadata=wire_name("min_replicas"))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("max_replicas"))


@attrs.frozen(kw_only=True)
class CsVersionList(Reply):
    """A page of the versions of a service; `total` counts those of all pages."""

    total: int | None = None
    items: tuple[CsVersionInfo, ...] = ()


@attrs.frozen(kw_only=True)
class CsVersionDetail(Reply):
    """One version in detail.

    `cpu` counts cores, `mem` gigabytes, `min_num` and `max_num` replicas; `version_ip` is an address inside the cloud.
    `env_params` are the environment variables, in no repr. The times are as in `CsVersionInfo`.
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
    """What can be changed of a version that is there.

    What is None is not sent; whether the platform then keeps the value, or resets it, is not documented. Numbers and
    `env_params` as in `CsVersion`; an empty mapping is sent as no variables.
    """

    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"), validator=int_range(0))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"), validator=int_range(0, 50))
    remark: str | None = attrs.field(default=None, validator=type_validator(str))
    container_port: int | None = attrs.field(default=None, validator=type_validator(int))
    custom_logs: str | None = attrs.field(default=None, validator=type_validator(str))
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
_FAILURE_STATUSES: Final = {"*_fail": "waiting will not change that; delete the version and create another"}


async def get_cs_version_list(
    session: Session, env: str, service_name: str, *, limit: int | None = None, offset: int | None = None
) -> CsVersionList:
    """List a page of the versions of a service: *limit* of them, from number *offset* (0) on.

    No page says how many a page holds, or may hold: go on by the number that came, as `iter_versions` does.

    Official interface: getcsversionlist, page Third-party_Platforms/2.0/api/cloudbase/batch/getcsversionlist.
    """
    check_string("env", env)
    check_string("service_name", service_name)
    check_type_or_none("limit", limit, int)
    check_type_or_none("offset", offset, int)
    body = {"env": env, "service_name": service_name, "limit": limit, "offset": offset}
    return await session.call(GET_CS_VERSION_LIST, body)


def iter_versions(
    session: Session, env: str, service_name: str, *, page_size: int | None = None
) -> AsyncIterator[CsVersionInfo]:
    """Iterate over all versions of a service, a page of *page_size* (the platform's own if None) when it is needed."""
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[tuple[CsVersionInfo, ...], int | None]:
        page = await get_cs_version_list(session, env, service_name, limit=page_size, offset=offset)
        return page.items, page.total

    return by_offset(GET_CS_VERSION_LIST, fetch)


async def get_cs_version_detail(session: Session, env: str, service_name: str, version_name: str) -> CsVersionDetail:
    """Look at one version of a service, its environment variables included.

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
    """Wait until a version is built and running, and return it: its status is "normal", looked at every *interval* s.

    A status that wxtcb does not know is waiting, and so is a look that failed for a reason that may pass.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` at once for a status that ends with "_fail",
    and what keeps every look from succeeding, which is `ApiError` for a version that is not there.
    """
    named = _version_body(env, service_name, version_name)
    awaited = WaitCondition[CsVersionDetail, CsVersionDetail](
        resource=f"version {version_name} of container service {service_name} in {env}",
        find=lambda detail: detail,
        status_of=lambda detail: detail.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
    )
    looks = session.poller(partial(session.call, GET_CS_VERSION_DETAIL, named))
    return await wait_until(looks, awaited, timeout=timeout, interval=interval)


async def set_cs_version_config(
    session: Session, env: str, service_name: str, version_name: str, config: CsVersionConfig
) -> Done:
    """Change the configuration of a version that is there.

    Official interface: setcsversionconfig, page Third-party_Platforms/2.0/api/cloudbase/batch/setcsversionconfig.
    """
    check_type("config", config, CsVersionConfig)
    named = _version_body(env, service_name, version_name)
    return await session.call(SET_CS_VERSION_CONFIG, {**named, **wire_fields(config)})


async def del_cs_version(session: Session, env: str, service_name: str, version_name: str) -> Done:
    """Delete a version; give its traffic to others first (`set_cs_propotion`).

    Sent again after an answer that was lost, it may be refused because there is no such version: then it is done.

    Official interface: delcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/delcsversion.
    """
    return await session.call(DEL_CS_VERSION, _version_body(env, service_name, version_name))


async def batch_del_cs_version(session: Session, items: Iterable[VersionRef]) -> BatchResult:
    """Delete many versions, of several services and environments.

    Raises `PartialFailure` when some failed, with the others in ``.reply.succ_list``. Sent again after an answer that
    was lost, those that are gone may be among them because there is no such version: then they are done.

    Official interface: batchdelcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchDelCSVersion.
    """
    versions = to_tuple(items)
    check_list_of("items", versions, VersionRef)
    check_not_empty("items", versions)
    return await session.call(BATCH_DEL_CS_VERSION, {"items": versions})


def _version_body(env: str, service_name: str, version_name: str) -> dict[str, object]:
    named = {"env": env, "service_name": service_name, "version_name": version_name}
    for name, value in named.items():
        check_string(name, value)
    return dict(named)
