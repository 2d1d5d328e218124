"""Whether the code in environments may use cloudbase_access_token, and for what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_name
from wxtcb.validation import check_string, check_strings, check_type, to_secret_or_none, to_str_tuple

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session

_PATH: Final = "/tcb/usecloudaccesstoken"
_OFFICIAL: Final = "setCloudAccessToken"


@attrs.frozen(kw_only=True)
class CloudAccess(Reply):
    """What code in an environment may do with cloudbase_access_token.

    `is_open` holds for the whole account; `api_whitelist`, the paths that may be called (``/*``: all), for the
    environment. `version` is what `use_cloud_access_token_set` wants back.
    """

    is_open: bool | None = attrs.field(default=None, metadata=wire_name("open"))
    api_whitelist: tuple[str, ...] | None = None
    version: int | None = None


USE_CLOUD_ACCESS_TOKEN_GET: Final = Endpoint(
    _PATH, CloudAccess, Repeat.READ, name="use_cloud_access_token_get", official=_OFFICIAL, action="get"
)
USE_CLOUD_ACCESS_TOKEN_SET: Final = Endpoint(
    _PATH, Done, Repeat.NEVER, name="use_cloud_access_token_set", official=_OFFICIAL, action="set"
)

ENDPOINTS: Final = (USE_CLOUD_ACCESS_TOKEN_GET, USE_CLOUD_ACCESS_TOKEN_SET)


async def use_cloud_access_token_get(session: Session, env: str, *, token: str | Secret | None = None) -> CloudAccess:
    """Read what the code in environment *env* may do with cloudbase_access_token; it is open unless it was closed.

    It goes out with the token of the session, or with *token*, the access token of an authoriser.

    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = to_secret_or_none(token)
    check_string("env", env)
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
    """Set what the code in environment *env* may do with cloudbase_access_token.

    *is_open* False closes it for the whole account, not for this environment alone; what *api_whitelist* does not hold
    cannot be called. *version* is the one that `use_cloud_access_token_get` has just given, presumably so that who
    changes it at the same time is not overruled. *token* as there.

    It is never sent twice: after `OutcomeUnknown` read the setting and compare.

    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = to_secret_or_none(token)
    check_string("env", env)
    check_type("is_open", is_open, bool)
    paths = to_str_tuple(api_whitelist)
    check_strings("api_whitelist", paths)
    check_type("version", version, int)
    body = {"env": env, "open": is_open, "api_whitelist": paths, "version": version}
    return await session.call(USE_CLOUD_ACCESS_TOKEN_SET, body, token=token)
