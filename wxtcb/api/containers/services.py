"""Container services of an environment, and the hosting they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_name
from wxtcb.api._pagination import by_offset
from wxtcb.validation import (
    check_not_empty,
    check_positive_int,
    check_strings,
    to_str_tuple,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


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

    The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone, presumably China Standard Time. The only documented
    `status` is "succ".
    """

    service_name: str | None = attrs.field(default=None, metadata=wire_name("server_name"))
    created_time: str | None = None
    updated_time: str | None = None
    status: str | None = None
    vpc_id: str | None = attrs.field(default=None, metadata=wire_name("vpcid"))
    image_repo: str | None = None


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
    "/componenttcb/getcslist", ContainerServices, Repeat.READ, name="get_cs_list", official="getcslist"
)
DEL_CONTAINER_SERVICE: Final = Endpoint(
    "/componenttcb/delcontainerservice",
    Done,
    Repeat.SET,
    name="del_container_service",
    official="delcontainerservice",
)

ENDPOINTS: Final = (OPEN_CONTAINER_SERVICE, CREATE_CONTAINER_SERVICE, GET_CS_LIST, DEL_CONTAINER_SERVICE)


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
