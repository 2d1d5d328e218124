"""Services of cloud hosting: open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb._protocol.fields import fields_of
from wxtcb.api.cloudrun.models import EsInfo
from wxtcb.validation import as_texts_or_none, check_kind, check_text, check_texts, field_is, forgetful, kind_is

if TYPE_CHECKING:
    from wxtcb.session import Session

ESTABLISH_CLOUDBASERUN_SERVER: Final = Endpoint(
    "/componenttcb/establishcloudbaserunserver",
    Done,
    Repeat.ONCE,
    name="establish_cloudbaserun_server",
    official="createCloudbaseService",
)


@attrs.frozen(kw_only=True)
class VpcInfo:
    """The private network of a service; `create_type` is 0 (inherit), 1 (create) or 2 (use the given one)."""

    vpc_id: str | None = attrs.field(default=None, validator=kind_is(str))
    subnet_ids: tuple[str, ...] | None = attrs.field(
        default=None, converter=as_texts_or_none, validator=field_is(check_texts, optional=True)
    )
    create_type: int | None = attrs.field(default=None, validator=kind_is(int))


@forgetful
@attrs.frozen(kw_only=True)
class Server:
    """A cloud-hosting service to be created.

    `is_public` opens it to the internet. `log_type` is "es" or "cls". `public_access` is passed on as it is: the page
    names 0 and 1 without a meaning, the cloud behind it takes both for open and 2 for closed.
    """

    env_id: str = attrs.field(validator=field_is(check_text))
    service_name: str = attrs.field(validator=field_is(check_text))
    is_public: bool = attrs.field(validator=kind_is(bool, optional=False))
    image_repo: str | None = attrs.field(default=None, validator=kind_is(str))
    remark: str | None = attrs.field(default=None, validator=kind_is(str))
    es_info: EsInfo | None = attrs.field(default=None, validator=kind_is(EsInfo))
    log_type: str | None = attrs.field(default=None, validator=kind_is(str))
    vpc_info: VpcInfo | None = attrs.field(default=None, validator=kind_is(VpcInfo))
    public_access: int | None = attrs.field(default=None, validator=kind_is(int))


async def establish_cloudbaserun_server(session: Session, server: Server) -> Done:
    """Create an empty cloud-hosting service in an environment that is NORMAL; it holds no version yet.

    A name that exists already is refused with 40097 (`RequestRefused`). When no answer comes, `OutcomeUnknown`: sending
    it again under the same name makes no second service.

    Official interface: createCloudbaseService, page cloudrun-batch/service-mgnt/createCloudbaseService.
    """
    check_kind("server", server, Server)
    return await session.call(ESTABLISH_CLOUDBASERUN_SERVER, fields_of(server))
