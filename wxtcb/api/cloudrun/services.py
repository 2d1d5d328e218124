"""Services of cloud hosting: create a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.cloudrun.models import EsInfo
from wxtcb.validation import (
    check_string,
    check_strings,
    hide_arguments_in_traceback,
    to_str_tuple_or_none,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

ESTABLISH_CLOUDBASERUN_SERVER: Final = Endpoint(
    "/componenttcb/establishcloudbaserunserver",
    Done,
    Repeat.ONCE,
    name="establish_cloudbaserun_server",
    official="createCloudbaseService",
)

ENDPOINTS: Final = (ESTABLISH_CLOUDBASERUN_SERVER,)


@attrs.frozen(kw_only=True)
class VpcInfo:
    """Private network of a service; `create_type` is 0 (inherit), 1 (create) or 2 (use the given network)."""

    vpc_id: str | None = None
    subnet_ids: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )
    create_type: int | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class Server:
    """A new cloud-hosting service.

    `is_public` opens it to the internet. `log_type` is "es" or "cls". `public_access` is sent unchanged: the page names
    0 and 1 without a meaning; Tencent Cloud's API takes both as open, and 2 as closed.
    """

    env_id: str = attrs.field(validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string))
    is_public: bool
    image_repo: str | None = None
    remark: str | None = None
    # A dict instead of `EsInfo` would show its password in the repr.
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    log_type: str | None = None
    vpc_info: VpcInfo | None = None
    public_access: int | None = None


async def establish_cloudbaserun_server(session: Session, server: Server) -> Done:
    """Create an empty cloud-hosting service in a NORMAL environment; it has no version yet.

    An existing name is rejected with 40097 (`InvalidRequest`). Raises `OutcomeUnknown` if the reply was lost: a retry
    with the same name is safe, because it cannot create a second service.

    Official interface: createCloudbaseService, page cloudrun-batch/service-mgnt/createCloudbaseService.
    """
    return await session.call(ESTABLISH_CLOUDBASERUN_SERVER, wire_fields(server))
