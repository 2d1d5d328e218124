"""Container services, the older family of cloud hosting (the old pages of cloudbase/batch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from wxtcb.arguments import check_kind, check_text
from wxtcb.endpoint import Endpoint, Repeat, Reply

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class ContainerService:
    """One service as the platform lists it.

    The times are ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's); the one documented `status` is "succ".
    """

    server_name: str | None = None
    created_time: str | None = None
    updated_time: str | None = None
    status: str | None = None
    vpcid: str | None = None
    image_repo: str | None = None


@attrs.frozen(kw_only=True)
class ContainerServices(Reply):
    """A page of the services of an environment; `total` counts those of all pages."""

    cslist: tuple[ContainerService, ...] = ()
    total: int | None = None


GET_CS_LIST: Final = Endpoint(
    "/componenttcb/getcslist", ContainerServices, Repeat.READ, name="get_cs_list", official="getcslist"
)

ENDPOINTS: Final = (GET_CS_LIST,)


async def get_cs_list(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> ContainerServices:
    """List a page of the services of environment *env*: *limit* of them (20 if None), from number *offset* (0) on.

    No page says how many a page may hold: go on by the number that came. Nor does any say whether the list knows the
    services of `cloudrun.establish_cloudbaserun_server`, so a name that is missing proves nothing.

    Official interface: getcslist, page Third-party_Platforms/2.0/api/cloudbase/batch/getcslist.
    """
    check_text("env", env)
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None:
            check_kind(name, value, int)
    return await session.call(GET_CS_LIST, {"env": env, "limit": limit, "offset": offset})
