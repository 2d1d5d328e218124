"""Environments of cloud development: create, list, convert, wait."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, interned
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import InvalidRequest, OperationFailed, OperationNotFound, OperationTimeout
from wxtcb.validation import check_alias, check_string, to_secret_or_none, validator

if TYPE_CHECKING:
    from wxtcb.secret import Secret
    from wxtcb.session import Session


@attrs.frozen
class NewEnv(Reply):
    """A new environment: `env` is its id, `tranid` the number of its pay-as-you-go order."""

    tranid: str
    # A success without an id is a bad reply: the outcome of the create is unknown.
    env: str = attrs.field(validator=validator(check_string))


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One environment of the list.

    `status` is NORMAL (usable), UNAVAILABLE (not yet usable), HALTED (stopped), or another text. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a time zone, presumably China Standard Time.
    """

    env: str
    alias: str
    create_time: str = attrs.field(metadata=interned())
    # "update_ime" is a misspelling in the platform's documented replies.
    update_time: str = attrs.field(metadata=aliases("update_ime") | interned())
    status: str = attrs.field(metadata=interned())
    package_id: str | None = attrs.field(default=None, metadata=interned())
    package_name: str | None = attrs.field(default=None, metadata=interned())
    dbinstance_id: str | None = None
    bucket_id: str | None = None


@attrs.frozen
class EnvList(Reply):
    """All environments of the third-party platform."""

    info_list: tuple[EnvInfo, ...]

    # Cached, because all waiters of a session look up their environment in the same list.
    @cached_property
    def by_env(self) -> Mapping[str, EnvInfo]:
        """The same environments by their ids."""
        return {info.env: info for info in self.info_list}


CREATE_ENV: Final = Endpoint("/componenttcb/createenv", NewEnv, Repeat.ONCE, name="create_env", official="createTcbEnv")
DESCRIBE_ENVS: Final = Endpoint(
    "/componenttcb/describeenvs", EnvList, Repeat.READ, name="describe_envs", official="getTcbEnvList"
)
MODIFY_ENV: Final = Endpoint("/tcb/modifyenv", Done, Repeat.SET, name="modify_env", official="changeTcbEnv")

ENDPOINTS: Final = (CREATE_ENV, DESCRIBE_ENVS, MODIFY_ENV)

_READY_STATUSES: Final = frozenset({"NORMAL"})
_FAILURE_STATUSES: Final = {
    "HALTED": "the platform stopped it (quota exceeded or blocked); see its page in the console"
}


async def create_env(session: Session, *, alias: str, env_type: str | None = None) -> NewEnv:
    """Create a pay-as-you-go environment; every success creates, and bills, another one, even with the same alias.

    The environment is set up in the background: call `wait_until_normal` before you use it. *alias* must start with
    a-z and contain only a-z, A-Z, 0-9 and '-'. *env_type* is sent only if it is given; the only documented value is
    "run".

    Raises `InvalidArgument` before a request is sent, and `OutcomeUnknown` if the reply was lost: check with
    `describe_envs` whether the alias exists before you retry. If `maybe_acted` of the reply is above 0, earlier
    attempts that the platform answered with -1 may have created environments too.

    Official interface: createTcbEnv, page cloudbase-batch/env-mgnt/createTcbEnv.
    """
    check_alias("alias", alias)
    try:
        return await session.call(CREATE_ENV, {"alias": alias, "EnvType": env_type})
    except InvalidRequest as error:
        # One official page requires EnvType, another one does not mention it.
        if env_type is None and error.errcode in (40097, 40101):
            error.add_hint("The platform's pages disagree on whether EnvType is required: try env_type='run'.")
        raise


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
    token = to_secret_or_none(token)
    return await session.call(MODIFY_ENV, {"env": env}, token=token)


async def wait_until_normal(session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0) -> EnvInfo:
    """Wait until environment *env* is NORMAL, and return it; the first poll also starts the initialisation.

    All waiters of a session share their polls: one at a time, at most one a second. Each waiter needs one every
    *interval* seconds. UNAVAILABLE and unknown statuses keep waiting, and so does a poll with a transient error.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` for HALTED, `OperationNotFound` if the
    environment is missing from at least 3 polls in a row over 30 seconds, and a permanent error of a poll, such as
    `TicketError` or `PermissionDenied`.
    """
    return await wait_until(session.shared_poller(DESCRIBE_ENVS), env_normal(env), timeout=timeout, interval=interval)


def env_normal(env: str) -> WaitCondition[EnvList, EnvInfo]:
    """Return the condition that environment *env* is NORMAL; not public, shared with provisioning."""
    resource = f"environment {env}"
    return WaitCondition(
        resource=resource,
        find=lambda listing: listing.by_env.get(env),
        status_of=lambda info: info.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
        timeout_error=partial(OperationTimeout, resource=resource, env=env),
        failure_error=partial(OperationFailed, resource=resource, env=env),
        not_found_error=partial(OperationNotFound, resource=resource, env=env),
    )
