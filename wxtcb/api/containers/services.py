"""The services of an environment, and hosting itself, which must be on before there can be any."""

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
    check_string,
    check_strings,
    check_type_or_none,
    to_str_tuple,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class Vpc:
    """The private network of a service; the platform wants all three, or no network at all.

    `create_type` is 0 (inherit), 1 (create) or 2 (use the given one); a sample of the platform's sends 3.
    """

    vpc_id: str = attrs.field(metadata=wire_name("vpcid"), validator=validator(check_string))
    subnet_ids: tuple[str, ...] = attrs.field(
        metadata=wire_name("subnetids"),
        converter=to_str_tuple,
        validator=[validator(check_strings), validator(check_not_empty)],
    )
    create_type: int = attrs.field(validator=type_validator(int, optional=False))


@attrs.frozen(kw_only=True)
class ContainerService:
    """One service as the platform lists it.

    The times are ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's); the one documented `status` is "succ".
    """

    service_name: str | None = attrs.field(default=None, metadata=wire_name("server_name"))
    created_time: str | None = None
    updated_time: str | None = None
    status: str | None = None
    vpc_id: str | None = attrs.field(default=None, metadata=wire_name("vpcid"))
    image_repo: str | None = None


@attrs.frozen(kw_only=True)
class ContainerServices(Reply):
    """A page of the services of an environment; `total` counts those of all pages."""

    cslist: tuple[ContainerService, ...] = ()
    total: int | None = None


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
    """Switch cloud hosting on for environment *env*, which makes the cluster that its container services will run on.

    Whether it may be opened twice is not documented, nor does a call tell whether it is open. When no answer comes,
    `OutcomeUnknown`: try `create_container_service` before you open it again.

    Official interface: opencontainerservice, page Third-party_Platforms/2.0/api/cloudbase/batch/opencontainerservice.
    """
    check_string("env", env)
    return await session.call(OPEN_CONTAINER_SERVICE, {"env": env})


async def create_container_service(
    session: Session, env: str, service_name: str, *, remark: str | None = None, vpc: Vpc | None = None
) -> Done:
    """Create a service in an environment whose hosting is on (`open_container_service`); it holds no version yet.

    When no answer comes, `OutcomeUnknown`: look with `get_cs_list` whether the name is there before you try again.

    Official interface: createcontainerservice,
    page Third-party_Platforms/2.0/api/cloudbase/batch/createcontainerservice.
    """
    check_string("env", env)
    check_string("service_name", service_name)
    check_type_or_none("remark", remark, str)
    check_type_or_none("vpc", vpc, Vpc)
    body = {"env": env, "service_name": service_name, "remark": remark, "vpc": vpc}
    return await session.call(CREATE_CONTAINER_SERVICE, body)


async def get_cs_list(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> ContainerServices:
    """List a page of the services of environment *env*: *limit* of them (20 if None), from number *offset* (0) on.

    No page says how many a page may hold: go on by the number that came, as `iter_services` does. Nor does any say
    whether the list knows the services of `cloudrun.establish_cloudbaserun_server`, so a name that is missing proves
    nothing.

    Official interface: getcslist, page Third-party_Platforms/2.0/api/cloudbase/batch/getcslist.
    """
    check_string("env", env)
    check_type_or_none("limit", limit, int)
    check_type_or_none("offset", offset, int)
    return await session.call(GET_CS_LIST, {"env": env, "limit": limit, "offset": offset})


def iter_services(session: Session, env: str, *, page_size: int | None = None) -> AsyncIterator[ContainerService]:
    """Iterate over all services of environment *env*, a page of *page_size* (20 if None) when it is needed."""
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[tuple[ContainerService, ...], int | None]:
        page = await get_cs_list(session, env, limit=page_size, offset=offset)
        return page.cslist, page.total

    return by_offset(GET_CS_LIST, fetch)


async def del_container_service(session: Session, env: str, service_name: str) -> Done:
    """Delete a service of environment *env*; whether it may still have versions is not documented.

    Sent again after an answer that was lost, it may be refused because there is no such service: then it is done.

    Official interface: delcontainerservice, page Third-party_Platforms/2.0/api/cloudbase/batch/delcontainerservice.
    """
    check_string("env", env)
    check_string("service_name", service_name)
    return await session.call(DEL_CONTAINER_SERVICE, {"env": env, "service_name": service_name})
