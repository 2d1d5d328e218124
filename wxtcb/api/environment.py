"""Cloud environments: open, list, share, wait (official group: cloudbase-batch/env-mgnt)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb.arguments import (
    as_texts,
    as_tuple,
    check_alias,
    check_entries,
    check_kind,
    check_list,
    check_text,
    check_texts,
    field_is,
)
from wxtcb.endpoint import Endpoint, Repeat, Reply
from wxtcb.errors import EnvironmentGone, EnvironmentHalted, EnvironmentTimeout, RequestRefused
from wxtcb.spelling import also_spelled, repeats
from wxtcb.waiting import Awaited, wait_for

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen
class NewEnv(Reply):
    """A new environment: `env` is its id, `tranid` the number of its post-paid order."""

    tranid: str
    env: str = attrs.field(validator=field_is(check_text))


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One environment as the platform lists it.

    `status` is NORMAL (usable), UNAVAILABLE (not yet), HALTED (stopped), or another text. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's).
    """

    env: str
    alias: str
    create_time: str = attrs.field(metadata=repeats())
    update_time: str = attrs.field(metadata=also_spelled("update_ime") | repeats())
    status: str = attrs.field(metadata=repeats())
    package_id: str | None = attrs.field(default=None, metadata=repeats())
    package_name: str | None = attrs.field(default=None, metadata=repeats())
    dbinstance_id: str | None = None
    bucket_id: str | None = None


@attrs.frozen
class EnvList(Reply):
    """All environments of the platform."""

    info_list: tuple[EnvInfo, ...]

    @cached_property
    def by_env(self) -> Mapping[str, EnvInfo]:
        """The same environments, by their ids."""
        return {info.env: info for info in self.info_list}


@attrs.frozen(kw_only=True)
class Share:
    """One environment and the mini programs, by appid, that are to use it."""

    env: str = attrs.field(validator=field_is(check_text))
    appids: tuple[str, ...] = attrs.field(
        converter=as_texts, validator=[field_is(check_texts), field_is(check_entries)]
    )


@attrs.frozen(kw_only=True)
class ShareFailure:
    """A mini program that could not be bound, and the platform's reason."""

    env: str
    appid: str
    errmsg: str


@attrs.frozen(kw_only=True)
class ShareLink:
    """The page on which a mini program's administrator must agree before the binding takes effect."""

    appid: str
    url: str


@attrs.frozen(kw_only=True)
class Shared(Reply):
    """How sharing went: links to be opened, and the pairs that failed."""

    err_list: tuple[ShareFailure, ...] = ()
    msg_info_list: tuple[ShareLink, ...] = ()

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


CREATE_ENV: Final = Endpoint("/componenttcb/createenv", NewEnv, Repeat.ONCE, name="create_env", official="createTcbEnv")
DESCRIBE_ENVS: Final = Endpoint(
    "/componenttcb/describeenvs", EnvList, Repeat.READ, name="describe_envs", official="getTcbEnvList"
)
BATCH_SHARE_ENV: Final = Endpoint(
    "/componenttcb/batchshareenv", Shared, Repeat.SET, name="batch_share_env", official="shareCloudbaseEnv"
)
BATCH_GET_ENV_ID: Final = Endpoint(
    "/componenttcb/batchgetenvid", Relations, Repeat.READ, name="batch_get_env_id", official="getShareCloudbaseEnv"
)

ENDPOINTS: Final = (CREATE_ENV, DESCRIBE_ENVS, BATCH_SHARE_ENV, BATCH_GET_ENV_ID)

_PERHAPS_ENV_TYPE: Final = "The platform's pages disagree on whether EnvType is required: try env_type='run'."


async def create_env(session: Session, *, alias: str, env_type: str | None = None) -> NewEnv:
    """Open a pay-as-you-go environment; every success opens, and bills, another one, also under the same alias.

    Delivery goes on afterwards: `wait_until_normal` before you use it. *alias* starts with a-z and holds only a-z, A-Z,
    0-9 and '-'. *env_type* is sent only when given; the one documented value is "run".

    Raises `InvalidArgument` before anything is sent, `OutcomeUnknown` when the answer was lost: look with
    `describe_envs` whether the alias is there before you try again. A reply with `maybe_acted` above 0 says that
    earlier attempts, which the platform answered with -1, may have opened environments too.

    Official interface: createTcbEnv, page cloudbase-batch/env-mgnt/createTcbEnv.
    """
    check_alias("alias", alias)
    if env_type is not None:
        check_text("env_type", env_type)
    try:
        return await session.call(CREATE_ENV, {"alias": alias, "EnvType": env_type})
    except RequestRefused as error:
        if env_type is None and error.errcode in (40097, 40101):
            error.advise(_PERHAPS_ENV_TYPE)
        raise


async def describe_envs(session: Session) -> EnvList:
    """List every environment of the platform; the list is not paged.

    After `create_env`, the first look also starts the initialisation of the new environment.

    Official interface: getTcbEnvList, page cloudbase-batch/env-mgnt/getTcbEnvList.
    """
    return await session.call(DESCRIBE_ENVS, {})


async def batch_share_env(session: Session, data: Iterable[Share], *, source_type: int | None = None) -> Shared:
    """Bind environments to mini programs, which takes effect when each one's administrator opens the link and agrees.

    Every mini program must have granted permission set 18 to the platform. *source_type* is sent only when given: 1 is
    a cloud-hosting environment; 0 for cloud development is used by one SDK, and documented nowhere.

    Raises `PartialFailure` when some pairs failed, with the others done and their links in ``.reply.msg_info_list``.
    Sharing again is harmless, but may give new links.

    Official interface: shareCloudbaseEnv, page cloudbase-batch/env-mgnt/shareCloudbaseEnv.
    """
    shares = as_tuple(data)
    check_list("data", shares, lambda name, share: check_kind(name, share, Share))
    check_entries("data", shares)
    if source_type is not None:
        check_kind("source_type", source_type, int)
    return await session.call(BATCH_SHARE_ENV, {"data": shares, "source_type": source_type})


async def batch_get_env_id(session: Session, appids: Iterable[str], *, source_type: int | None = None) -> Relations:
    """Look up which environments each mini program may use: those whose binding its administrator has agreed to.

    *source_type* as for `batch_share_env`. Raises `PartialFailure` when some could not be looked up, with the others in
    ``.reply.relation_data``.

    Official interface: getShareCloudbaseEnv, page cloudbase-batch/env-mgnt/getShareCloudbaseEnv.
    """
    names = as_texts(appids)
    check_texts("appids", names)
    check_entries("appids", names)
    if source_type is not None:
        check_kind("source_type", source_type, int)
    return await session.call(BATCH_GET_ENV_ID, {"appids": names, "source_type": source_type})


async def wait_until_normal(session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0) -> EnvInfo:
    """Wait until environment *env* is NORMAL and return it; its first look also starts the initialisation.

    All who wait in a session share the looks: one at a time, at most one a second, each waiter wanting one every
    *interval* seconds. UNAVAILABLE, and a status that wxtcb does not know, is waiting; so is a look that failed for a
    reason that may pass.

    Raises `EnvironmentTimeout` after *timeout* seconds, `EnvironmentHalted` at once, `EnvironmentGone` when it was
    missing from three looks in a row or more, for 30 seconds, and what keeps every look from succeeding: `TicketError`,
    `NotPermitted` and the like.
    """
    check_text("env", env)
    return await wait_for(session.sweep(DESCRIBE_ENVS), normal(env), timeout=timeout, interval=interval)


def normal(env: str) -> Awaited[EnvList, EnvInfo]:
    """Await that environment *env* is NORMAL."""
    return Awaited(
        what=f"environment {env}",
        find=lambda seen: seen.by_env.get(env),
        status_of=lambda info: info.status,
        ready=_READY,
        broken=_BROKEN,
        timeout=partial(EnvironmentTimeout, env=env),
        failed=partial(EnvironmentHalted, env=env),
        gone=partial(EnvironmentGone, env=env),
    )


_READY: Final = frozenset({"NORMAL"})
_BROKEN: Final = {"HALTED": "the platform stopped it (over quota or blocked); see its page in the console"}
