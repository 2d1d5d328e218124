"""Sharing: bind environments to mini programs, end bindings, look them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.validation import check_not_empty, check_string, check_strings, to_str_tuple, validator

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class Share:
    """One environment and the appids of the mini programs that may use it, at least one."""

    env: str = attrs.field(validator=validator(check_string))
    # A string is an iterable of strings for type checkers, so `appids="wx1"` needs a check at run time.
    appids: tuple[str, ...] = attrs.field(
        converter=to_str_tuple, validator=[validator(check_strings), validator(check_not_empty)]
    )


@attrs.frozen(kw_only=True)
class ShareFailure:
    """A mini program whose binding could not be created or ended, and the platform's reason."""

    env: str
    appid: str
    errmsg: str


@attrs.frozen(kw_only=True)
class ShareLink:
    """A page on which a mini program's administrator must confirm, before the binding takes effect."""

    appid: str
    url: str


@attrs.frozen(kw_only=True)
class ShareResult(Reply):
    """Result of sharing: confirmation links, and the pairs that failed."""

    err_list: tuple[ShareFailure, ...] = ()
    msg_info_list: tuple[ShareLink, ...] = ()

    @property
    def failed(self) -> Sequence[ShareFailure]:
        return self.err_list


@attrs.frozen(kw_only=True)
class UnshareResult(Reply):
    """Result of ending bindings: the pairs that failed."""

    err_list: tuple[ShareFailure, ...] = ()

    @property
    def failed(self) -> Sequence[ShareFailure]:
        return self.err_list


@attrs.frozen(kw_only=True)
class Relation:
    """A mini program and the ids of the environments it may use, confirmed by its administrator."""

    appid: str
    env_list: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class RelationFailure:
    """A mini program that could not be looked up, and the platform's reason."""

    appid: str
    errmsg: str
    # Only the older documentation page has this field.
    env: str | None = None


@attrs.frozen(kw_only=True)
class Relations(Reply):
    """Environments that each mini program may use, and the mini programs that could not be looked up."""

    relation_data: tuple[Relation, ...]
    err_list: tuple[RelationFailure, ...] = ()

    @property
    def failed(self) -> Sequence[RelationFailure]:
        return self.err_list


# SET, because sharing the same pair again only returns the link again.
BATCH_SHARE_ENV: Final = Endpoint(
    "/componenttcb/batchshareenv", ShareResult, Repeat.SET, name="batch_share_env", official="shareCloudbaseEnv"
)
BATCH_UNSHARE_ENV: Final = Endpoint(
    "/componenttcb/batchunshareenv", UnshareResult, Repeat.SET, name="batch_unshare_env", official="unshareCloudbaseEnv"
)
BATCH_GET_ENV_ID: Final = Endpoint(
    "/componenttcb/batchgetenvid", Relations, Repeat.READ, name="batch_get_env_id", official="getShareCloudbaseEnv"
)

ENDPOINTS: Final = (BATCH_SHARE_ENV, BATCH_UNSHARE_ENV, BATCH_GET_ENV_ID)


async def batch_share_env(session: Session, data: Iterable[Share], *, source_type: int | None = None) -> ShareResult:
    """Bind environments to mini programs; a binding takes effect when the mini program's administrator confirms.

    The administrator confirms on the page of the link. Every mini program must have granted permission set 18 to the
    third-party platform. *source_type* is sent only if it is given: 1 is a cloud-hosting environment; 0 (cloud
    development) is used by one SDK and not documented.

    Raises `PartialFailure` if some pairs failed; the others are done, and their links are in ``.reply.msg_info_list``.
    Sharing again is harmless, but may return new links.

    Official interface: shareCloudbaseEnv, page cloudbase-batch/env-mgnt/shareCloudbaseEnv.
    """
    return await session.call(BATCH_SHARE_ENV, _share_body(data, source_type))


async def batch_unshare_env(
    session: Session, data: Iterable[Share], *, source_type: int | None = None
) -> UnshareResult:
    """End the binding of environments to mini programs, which can no longer use them.

    *source_type* is as in `batch_share_env`; the only documented value is 1. Raises `PartialFailure` if some pairs
    failed; the others are done. A retry after a lost reply may fail because the binding has already ended: check with
    `batch_get_env_id`.

    Official interface: unshareCloudbaseEnv, page cloudrun-batch/cloudenv-mgnt/unshareCloudbaseEnv.
    """
    return await session.call(BATCH_UNSHARE_ENV, _share_body(data, source_type))


async def batch_get_env_id(session: Session, appids: Iterable[str], *, source_type: int | None = None) -> Relations:
    """Return the environments that each mini program may use; unconfirmed bindings are not included.

    *source_type* is as in `batch_share_env`. Raises `PartialFailure` if some mini programs could not be looked up; the
    others are in ``.reply.relation_data``.

    Official interface: getShareCloudbaseEnv, page cloudbase-batch/env-mgnt/getShareCloudbaseEnv.
    """
    names = to_str_tuple(appids)
    check_strings("appids", names)
    check_not_empty("appids", names)
    return await session.call(BATCH_GET_ENV_ID, {"appids": names, "source_type": source_type})


def _share_body(data: Iterable[Share], source_type: int | None) -> dict[str, object]:
    shares = tuple(data)
    check_not_empty("data", shares)
    return {"data": shares, "source_type": source_type}
