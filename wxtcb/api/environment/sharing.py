"""Binding environments to mini programs, and what is bound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.validation import (
    check_list_of,
    check_not_empty,
    check_string,
    check_strings,
    check_type_or_none,
    to_str_tuple,
    to_tuple,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class Share:
    """One environment and the mini programs, by appid, that are to use it."""

    env: str = attrs.field(validator=validator(check_string))
    appids: tuple[str, ...] = attrs.field(
        converter=to_str_tuple, validator=[validator(check_strings), validator(check_not_empty)]
    )


@attrs.frozen(kw_only=True)
class ShareFailure:
    """A mini program that could not be bound, or not be freed again, and the platform's reason."""

    env: str
    appid: str
    errmsg: str


@attrs.frozen(kw_only=True)
class ShareLink:
    """The page on which a mini program's administrator must agree before the binding takes effect."""

    appid: str
    url: str


@attrs.frozen(kw_only=True)
class ShareResult(Reply):
    """How sharing went: links to be opened, and the pairs that failed."""

    err_list: tuple[ShareFailure, ...] = ()
    msg_info_list: tuple[ShareLink, ...] = ()

    @property
    def failed(self) -> Sequence[ShareFailure]:
        return self.err_list


@attrs.frozen(kw_only=True)
class UnshareResult(Reply):
    """How ending bindings went: the pairs that failed."""

    err_list: tuple[ShareFailure, ...] = ()

    @property
    def failed(self) -> Sequence[ShareFailure]:
        return self.err_list


@attrs.frozen(kw_only=True)
class Relation:
    """A mini program and the environments, by id, that it may use: its administrator has agreed."""

    appid: str
    env_list: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class RelationFailure:
    """A mini program that could not be looked up, and the platform's reason."""

    appid: str
    errmsg: str
    env: str | None = None


@attrs.frozen(kw_only=True)
class Relations(Reply):
    """Which environments each mini program may use, and the mini programs that could not be looked up."""

    relation_data: tuple[Relation, ...]
    err_list: tuple[RelationFailure, ...] = ()

    @property
    def failed(self) -> Sequence[RelationFailure]:
        return self.err_list


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
    """Bind environments to mini programs, which takes effect when each one's administrator opens the link and agrees.

    Every mini program must have granted permission set 18 to the platform. *source_type* is sent only when given: 1 is
    a cloud-hosting environment; 0 for cloud development is used by one SDK, and documented nowhere.

    Raises `PartialFailure` when some pairs failed, with the others done and their links in ``.reply.msg_info_list``.
    Sharing again is harmless, but may give new links.

    Official interface: shareCloudbaseEnv, page cloudbase-batch/env-mgnt/shareCloudbaseEnv.
    """
    return await session.call(BATCH_SHARE_ENV, _share_body(data, source_type))


async def batch_unshare_env(
    session: Session, data: Iterable[Share], *, source_type: int | None = None
) -> UnshareResult:
    """End the binding of environments to mini programs: these can no longer use them.

    *source_type* as for `batch_share_env`; the one documented value is 1. Raises `PartialFailure` when some pairs
    failed, with all others done. One tried again after an answer that was lost may fail because nothing was left to
    end: look with `batch_get_env_id`.

    Official interface: unshareCloudbaseEnv, page cloudrun-batch/cloudenv-mgnt/unshareCloudbaseEnv.
    """
    return await session.call(BATCH_UNSHARE_ENV, _share_body(data, source_type))


async def batch_get_env_id(session: Session, appids: Iterable[str], *, source_type: int | None = None) -> Relations:
    """Look up which environments each mini program may use: those whose binding its administrator has agreed to.

    *source_type* as for `batch_share_env`. Raises `PartialFailure` when some could not be looked up, with the others in
    ``.reply.relation_data``.

    Official interface: getShareCloudbaseEnv, page cloudbase-batch/env-mgnt/getShareCloudbaseEnv.
    """
    names = to_str_tuple(appids)
    check_strings("appids", names)
    check_not_empty("appids", names)
    check_type_or_none("source_type", source_type, int)
    return await session.call(BATCH_GET_ENV_ID, {"appids": names, "source_type": source_type})


def _share_body(data: Iterable[Share], source_type: int | None) -> dict[str, object]:
    """Return the body that both kinds of jobs have."""
    shares = to_tuple(data)
    check_list_of("data", shares, Share)
    check_not_empty("data", shares)
    check_type_or_none("source_type", source_type, int)
    return {"data": shares, "source_type": source_type}
