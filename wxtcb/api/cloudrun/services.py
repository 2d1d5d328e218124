"""Services of cloud hosting: open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.cloudrun.models import EsInfo
from wxtcb.validation import (
    check_string,
    check_strings,
    check_type,
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
    """The private network of a service; `create_type` is 0 (inherit), 1 (create) or 2 (use the given one)."""

    vpc_id: str | None = attrs.field(default=None, validator=type_validator(str))
    subnet_ids: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )
    create_type: int | None = attrs.field(default=None, validator=type_validator(int))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class Server:
    """A cloud-hosting service to be created.

    `is_public` opens it to the internet. `log_type` is "es" or "cls". `public_access` is passed on as it is: the page
    names 0 and 1 without a meaning, the cloud behind it takes both for open and 2 for closed.
    """

    env_id: str = attrs.field(validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string))
    is_public: bool = attrs.field(validator=type_validator(bool, optional=False))
    image_repo: str | None = attrs.field(default=None, validator=type_validator(str))
    remark: str | None = attrs.field(default=None, validator=type_validator(str))
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    log_type: str | None = attrs.field(default=None, validator=type_validator(str))
    vpc_info: VpcInfo | None = attrs.field(default=None, validator=type_validator(VpcInfo))
    public_access: int | None = attrs.field(default=None, validator=type_validator(int))


async def establish_cloudbaserun_server(session: Session, server: Server) -> Done:
    """Create an empty cloud-hosting service in an environment that is NORMAL; it holds no version yet.

    A name that exists already is refused with 40097 (`InvalidRequest`). When no answer comes, `OutcomeUnknown`: sending
    it again under the same name makes no second service.

    Official interface: createCloudbaseService, page cloudrun-batch/service-mgnt/createCloudbaseService.
    """
    check_type("server", server, Server)
    return await session.call(ESTABLISH_CLOUDBASERUN_SERVER, wire_fields(server))
