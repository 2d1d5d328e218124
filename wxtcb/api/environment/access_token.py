"""Access of code in environments to cloudbase_access_token: read and change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_name
from wxtcb.validation import check_strings, to_secret_or_none, to_str_tuple

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session

_PATH: Final = "/tcb/usecloudaccesstoken"
_OFFICIAL: Final = "setCloudAccessToken"


@attrs.frozen(kw_only=True)
class CloudAccess(Reply):
    """What code in an environment may do with cloudbase_access_token.

    `is_open` applies to the whole account. `api_whitelist`, the paths that may be called (``/*``: all), applies to the
    environment. Pass `version` back to `use_cloud_access_token_set`.
    """

    is_open: bool | None = attrs.field(default=None, metadata=wire_name("open"))
    api_whitelist: tuple[str, ...] | None = None
    version: int | None = None


USE_CLOUD_ACCESS_TOKEN_GET: Final = Endpoint(
    _PATH, CloudAccess, Repeat.READ, name="use_cloud_access_token_get", official=_OFFICIAL, action="get"
)
# Repeated late, the setting would overwrite a newer one.
USE_CLOUD_ACCESS_TOKEN_SET: Final = Endpoint(
    _PATH, Done, Repeat.NEVER, name="use_cloud_access_token_set", official=_OFFICIAL, action="set"
)

ENDPOINTS: Final = (USE_CLOUD_ACCESS_TOKEN_GET, USE_CLOUD_ACCESS_TOKEN_SET)


async def use_cloud_access_token_get(session: Session, env: str, *, token: str | Secret | None = None) -> CloudAccess:
    """Return what code in environment *env* may do with cloudbase_access_token; access is open by default.

    The call uses the session's token, or *token*, the access token of an authoriser.

    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = to_secret_or_none(token)
    return await session.call(USE_CLOUD_ACCESS_TOKEN_GET, {"env": env}, token=token)


async def use_cloud_access_token_set(
    session: Session,
    env: str,
    *,
    is_open: bool,
    api_whitelist: Iterable[str],
    version: int,
    token: str | Secret | None = None,
) -> Done:
    """Set what code in environment *env* may do with cloudbase_access_token.

    *is_open* False closes access for the whole account, not for this environment alone. Paths that are not in
    *api_whitelist* cannot be called. *version* is the one that `use_cloud_access_token_get` returned; presumably the
    platform rejects an outdated one. *token* is as in `use_cloud_access_token_get`.

    The request is never sent twice. After `OutcomeUnknown`, read the setting and compare.

    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = to_secret_or_none(token)
    paths = to_str_tuple(api_whitelist)
    check_strings("api_whitelist", paths)
    body = {"env": env, "open": is_open, "api_whitelist": paths, "version": version}
    return await session.call(USE_CLOUD_ACCESS_TOKEN_SET, body, token=token)
