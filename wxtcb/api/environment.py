"""Environments of cloud development: create, list, wait, share (official group: cloudbase-batch/env-mgnt)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import attrs

from wxtcb import validation
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import ID_AS_STRING, aliases, interned, salvage, wire_format, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._times import parse_time
from wxtcb.api._waiters import env_normal, wait_until
from wxtcb.errors import BadReply, InvalidArgument, InvalidRequest

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session

__all__ = [
    "BATCH_GET_ENV_ID",
    "BATCH_SHARE_ENV",
    "BATCH_UNSHARE_ENV",
    "CREATE_ENV",
    "DESCRIBE_ENVS",
    "ENDPOINTS",
    "MODIFY_ENV",
    "USE_CLOUD_ACCESS_TOKEN_GET",
    "USE_CLOUD_ACCESS_TOKEN_SET",
    "CloudAccess",
    "EnsuredEnv",
    "EnvInfo",
    "EnvList",
    "EnvStatus",
    "NewEnv",
    "Relation",
    "RelationFailure",
    "Relations",
    "Share",
    "ShareFailure",
    "ShareLink",
    "ShareResult",
    "UnreadableEnv",
    "UnshareResult",
    "batch_get_env_id",
    "batch_share_env",
    "batch_unshare_env",
    "create_env",
    "describe_envs",
    "ensure_env",
    "modify_env",
    "use_cloud_access_token_get",
    "use_cloud_access_token_set",
    "wait_until_normal",
]


EnvStatus: TypeAlias = Literal["NORMAL", "UNAVAILABLE", "HALTED"]


@attrs.frozen
class NewEnv(Reply):
    """A new environment: `env` is its id, `tranid` the number of its pay-as-you-go order, if there is one."""

    # A success without an id is a bad reply: the outcome of the create is unknown.
    env: str = attrs.field(validator=validation.validator(validation.check_string))
    # Tolerant: the environment exists, and is billed, even if its order number cannot be read.
    tranid: str | None = attrs.field(default=None, metadata=wire_format(ID_AS_STRING))


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One environment of the list.

    `status` is NORMAL (usable), UNAVAILABLE (not yet usable) or HALTED (stopped); at run time it may be another text.
    The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone, or None; `created_at` and `updated_at` take them for
    China Standard Time.
    """

    env: str
    alias: str
    status: EnvStatus = attrs.field(metadata=interned())
    create_time: str | None = attrs.field(default=None, metadata=interned())
    # "update_ime" is a misspelling in the platform's documented replies.
    update_time: str | None = attrs.field(default=None, metadata=aliases("update_ime") | interned())
    package_id: str | None = attrs.field(default=None, metadata=interned())
    package_name: str | None = attrs.field(default=None, metadata=interned())
    dbinstance_id: str | None = None
    bucket_id: str | None = None

    @property
    def created_at(self) -> datetime | None:
        """`create_time` with its time zone, or None if it is not a time."""
        return parse_time(self.create_time)

    @property
    def updated_at(self) -> datetime | None:
        """`update_time` with its time zone, or None if it is not a time."""
        return parse_time(self.update_time)


@attrs.frozen(kw_only=True)
class UnreadableEnv:
    """A row of the list that is not as documented: its id and alias as far as they can be read, and what is wrong.

    An empty `alias` means that the environment has none: it is null, or the row lacks the field (`lacks_alias`).
    """

    reason: str
    env: str | None = None
    alias: str | None = None
    lacks_alias: bool = False


def _recover_row(row: object, reason: str) -> tuple[EnvInfo | None, UnreadableEnv]:
    fields = row if isinstance(row, dict) else {}
    env, alias, status = (text if isinstance(text := fields.get(name), str) else None for name in _ROW_NAMES)
    # An environment that was made in the console may have no alias.
    if env and fields.get("alias") is None:
        alias = ""
    report = UnreadableEnv(reason=reason, env=env or None, alias=alias, lacks_alias="alias" not in fields)
    # At run time the status may be any text.
    known_status = cast("EnvStatus", status or "")
    return (EnvInfo(env=env, alias=alias or "", status=known_status) if env else None), report


_ROW_NAMES: Final = ("env", "alias", "status")


@attrs.frozen
class EnvList(Reply):
    """All environments of the third-party platform.

    `unreadable` has the rows that are not as documented. Such a row is also in `info_list` if its id can be read, with
    an empty alias or status where there is none, or where it cannot be read. A program that creates an environment
    because its alias is not listed must first check that `unknown_rows` returns none.
    """

    info_list: tuple[EnvInfo, ...] = attrs.field(metadata=salvage("wxtcb.unreadable", _recover_row))
    unreadable: tuple[UnreadableEnv, ...] = attrs.field(default=(), metadata=wire_name("wxtcb.unreadable"))

    def unknown_rows(self, known_envs: Container[str | None] = ()) -> tuple[UnreadableEnv, ...]:
        """Return the rows whose id cannot be read, or whose alias cannot be read, except those of *known_envs*.

        An alias that is null or absent is no alias; but if all rows lack the field, none of their aliases can be read.
        If a row is returned, an alias that is not in `info_list` may be in use all the same.
        """
        # Then the platform may have renamed the field, and each alias would count as free.
        all_lack_alias = sum(row.lacks_alias and row.env is not None for row in self.unreadable) == len(self.info_list)
        return tuple(
            row
            for row in self.unreadable
            if row.env is None or ((row.alias is None or all_lack_alias) and row.env not in known_envs)
        )

    # A row without a readable id is not in `info_list`.
    @cached_property
    def aliases_without_env(self) -> frozenset[str]:
        """The aliases, in lower case, of the rows whose id cannot be read."""
        return frozenset(row.alias.lower() for row in self.unreadable if row.env is None and row.alias)

    # Cached, because all waiters of a session look up their environment in the same list.
    @cached_property
    def by_env(self) -> Mapping[str, EnvInfo]:
        """The same environments by their ids."""
        return {info.env: info for info in self.info_list}


CREATE_ENV: Final = Endpoint("/componenttcb/createenv", NewEnv, Repeat.ONCE, name="create_env", official="createTcbEnv")
DESCRIBE_ENVS: Final = Endpoint(
    "/componenttcb/describeenvs",
    EnvList,
    Repeat.READ,
    name="describe_envs",
    official="getTcbEnvList",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
MODIFY_ENV: Final = Endpoint("/tcb/modifyenv", Done, Repeat.SET, name="modify_env", official="changeTcbEnv")


# The rule of CreateEnv of Tencent Cloud, on which the call is built
_NARROW_ALIAS: Final = re.compile(r"(?=.{1,20}\Z)[a-z0-9]+(-[a-z0-9]+)*")


async def create_env(session: Session, *, alias: str, env_type: str | None = None) -> NewEnv:
    """Create a pay-as-you-go environment; every success creates, and bills, another one, even with the same alias.

    The environment is set up in the background: call `wait_until_normal` before you use it. *alias* must start with a-z
    and contain only a-z, A-Z, 0-9 and '-'. *env_type* is sent only if it is given; the only documented value is "run".
    Raises `InvalidArgument` before a request is sent, and `OutcomeUnknown` if the reply was lost: check with
    `describe_envs` whether the alias exists before you retry. If `maybe_acted` of the reply is above 0, earlier
    attempts that the platform answered with -1 may have created environments too.
    Official interface: createTcbEnv, page cloudbase-batch/env-mgnt/createTcbEnv.
    """
    validation.check_alias("alias", alias)
    try:
        return await session.call(CREATE_ENV, {"alias": alias, "EnvType": env_type})
    except InvalidRequest as error:
        if error.errcode == 40097 and not _NARROW_ALIAS.fullmatch(alias):
            error.add_hint(
                "Tencent Cloud's own rule for an alias is narrower than WeChat's: at most 20 characters, only a-z, 0-9 "
                "and '-', no '-' at an end, and no '--'."
            )
        # One official page requires EnvType, another one does not mention it.
        if env_type is None and error.errcode in (40097, 40101):
            error.add_hint("The platform's pages disagree on whether EnvType is required: try env_type='run'.")
        raise


@attrs.frozen(kw_only=True)
class EnsuredEnv:
    """Environment that has an alias.

    `created` is whether this call created it; `tranid` is then the number of its order, if the platform returned it.
    """

    env: str
    created: bool
    tranid: str | None = None


async def ensure_env(session: Session, *, alias: str, env_type: str | None = None) -> EnsuredEnv:
    """Return the environment that has *alias*, without regard to case; create it if the list has none.

    *alias* and *env_type* are as in `create_env`. A program that is run again gets the same environment.

    The platform has no idempotency key. Two concurrent callers can both find no environment, and then both create, and
    are billed for, one; so can a second call within seconds of the first, because a new environment may not be listed
    yet. `wxtcb.provision`, whose journal prevents this, has no such gap.

    Raises `InvalidArgument` before a request is sent if *alias* is invalid, and after the list if several environments
    have the alias: nothing is created then. Raises `OutcomeUnknown` as `create_env` does: an environment may have been
    created. Call this again after the propagation delay, two minutes, to find it. Raises `BadReply` if the id or the
    alias of a listed environment cannot be read: it may be this one.
    """
    validation.check_alias("alias", alias)
    listing = await describe_envs(session)
    matches = [info.env for info in listing.info_list if info.alias.lower() == alias.lower()]
    if len(matches) > 1:
        raise InvalidArgument(
            f"alias {alias!r} is in use by several environments ({', '.join(matches)}): delete all but one in the "
            "console, or use one by its id; nothing was created"
        )
    # With a second row of that alias, the readable one need not be the one that earlier calls returned.
    if matches and alias.lower() not in listing.aliases_without_env:
        return EnsuredEnv(env=matches[0], created=False)
    if rows := listing.unknown_rows():
        reason = (
            f"a row of the list has an id or alias that cannot be read ({rows[0].reason}), so {alias!r} may be in use"
        )
        raise BadReply(f"{reason}; nothing was created", endpoint=DESCRIBE_ENVS.path, status=200, permanent=True)
    new = await create_env(session, alias=alias, env_type=env_type)
    return EnsuredEnv(env=new.env, created=True, tranid=new.tranid)


async def describe_envs(session: Session) -> EnvList:
    """Return all environments of the third-party platform; the list is not paged.

    The first call after `create_env` also starts the initialisation of the new environment.
    Official interface: getTcbEnvList, page cloudbase-batch/env-mgnt/getTcbEnvList.
    """
    return await session.call(DESCRIBE_ENVS, {})


async def modify_env(session: Session, env: str, *, token: str | Secret | None = None) -> Done:
    """Convert environment *env* from the Tencent Cloud console into one that mini programs can use.

    The call uses the session's token, or *token*, the access token of an authoriser. A retry after a lost reply may be
    rejected because the first attempt took effect: check with `describe_envs`.
    Official interface: changeTcbEnv, page cloudbase-batch/env-mgnt/changeTcbEnv.
    """
    token = validation.to_secret(token)
    return await session.call(MODIFY_ENV, {"env": env}, token=token)


async def wait_until_normal(session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0) -> EnvInfo:
    """Wait until environment *env* is NORMAL, and return it; the first poll also starts the initialisation.

    All waiters of a session share their polls: one at a time, at most one a second. Each waiter needs one every
    *interval* seconds. UNAVAILABLE and unknown statuses keep waiting, and so does a poll with a transient error. Raises
    `OperationTimeout` after *timeout* seconds, `OperationFailed` for HALTED, `OperationNotFound` if the environment is
    missing from at least 3 polls in a row over 30 seconds, and a permanent error of a poll, such as `TicketError` or
    `PermissionDenied`.
    """
    return await wait_until(session.shared_poller(DESCRIBE_ENVS), env_normal(env), timeout=timeout, interval=interval)


# Access of code in environments to cloudbase_access_token
_PATH: Final = "/tcb/usecloudaccesstoken"
_OFFICIAL: Final = "setCloudAccessToken"


@attrs.frozen(kw_only=True)
class CloudAccess(Reply):
    """Permissions of code in an environment that uses cloudbase_access_token.

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


async def use_cloud_access_token_get(session: Session, env: str, *, token: str | Secret | None = None) -> CloudAccess:
    """Return what code in environment *env* may do with cloudbase_access_token; access is open by default.

    The call uses the session's token, or *token*, the access token of an authoriser.
    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = validation.to_secret(token)
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
    platform rejects an outdated one. *token* is as in `use_cloud_access_token_get`. The request is never sent twice.
    After `OutcomeUnknown`, read the setting and compare.
    Official interface: setCloudAccessToken, page cloudbase-batch/env-mgnt/setCloudAccessToken.
    """
    token = validation.to_secret(token)
    paths = validation.to_str_tuple(api_whitelist)
    validation.check_strings("api_whitelist", paths)
    body = {"env": env, "open": is_open, "api_whitelist": paths, "version": version}
    return await session.call(USE_CLOUD_ACCESS_TOKEN_SET, body, token=token)


# Sharing with mini programs
@attrs.frozen(kw_only=True)
class Share:
    """One environment and the appids of the mini programs that may use it, at least one."""

    env: str = attrs.field(validator=validation.validator(validation.check_string))
    # A string is an iterable of strings for type checkers, so `appids="wx1"` needs a check at run time.
    appids: tuple[str, ...] = attrs.field(
        converter=validation.to_str_tuple,
        validator=[validation.validator(validation.check_strings), validation.validator(validation.check_not_empty)],
    )


@attrs.frozen(kw_only=True)
class ShareFailure:
    """A mini program whose binding could not be created or ended, and the platform's reason.

    `env` is None if the platform does not name the environment.
    """

    appid: str
    errmsg: str
    env: str | None = None


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
    "/componenttcb/batchgetenvid",
    Relations,
    Repeat.READ,
    name="batch_get_env_id",
    official="getShareCloudbaseEnv",
    max_reply_bytes=LIMITS.list_reply_bytes,
)


async def batch_share_env(session: Session, data: Iterable[Share], *, source_type: int | None = None) -> ShareResult:
    """Bind environments to mini programs; a binding takes effect when the mini program's administrator confirms.

    The administrator confirms on the page of the link. Every mini program must have granted permission set 18 to the
    third-party platform. *source_type* is sent only if it is given: 1 is a cloud-hosting environment; 0 (cloud
    development) is used by one SDK and not documented. Raises `PartialFailure` if some pairs failed; the others are
    done, and their links are in ``.reply.msg_info_list``. Sharing again is harmless, but may return new links.
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
    names = validation.require_strings("appids", appids)
    return await session.call(BATCH_GET_ENV_ID, {"appids": names, "source_type": source_type})


def _share_body(data: Iterable[Share], source_type: int | None) -> dict[str, object]:
    shares = tuple(data)
    validation.check_not_empty("data", shares)
    return {"data": shares, "source_type": source_type}


ENDPOINTS: Final = (
    CREATE_ENV,
    DESCRIBE_ENVS,
    MODIFY_ENV,
    USE_CLOUD_ACCESS_TOKEN_GET,
    USE_CLOUD_ACCESS_TOKEN_SET,
    BATCH_SHARE_ENV,
    BATCH_UNSHARE_ENV,
    BATCH_GET_ENV_ID,
)
