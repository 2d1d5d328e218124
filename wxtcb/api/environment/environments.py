"""Opening, listing and converting environments, and waiting for them."""

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
    """A new environment: `env` is its id, `tranid` the number of its post-paid order."""

    tranid: str
    env: str = attrs.field(validator=validator(check_string))


@attrs.frozen(kw_only=True)
class EnvInfo:
    """One environment as the platform lists it.

    `status` is NORMAL (usable), UNAVAILABLE (not yet), HALTED (stopped), or another text. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's).
    """

    env: str
    alias: str
    create_time: str = attrs.field(metadata=interned())
    update_time: str = attrs.field(metadata=aliases("update_ime") | interned())
    status: str = attrs.field(metadata=interned())
    package_id: str | None = attrs.field(default=None, metadata=interned())
    package_name: str | None = attrs.field(default=None, metadata=interned())
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


CREATE_ENV: Final = Endpoint("/componenttcb/createenv", NewEnv, Repeat.ONCE, name="create_env", official="createTcbEnv")
DESCRIBE_ENVS: Final = Endpoint(
    "/componenttcb/describeenvs", EnvList, Repeat.READ, name="describe_envs", official="getTcbEnvList"
)
MODIFY_ENV: Final = Endpoint("/tcb/modifyenv", Done, Repeat.SET, name="modify_env", official="changeTcbEnv")

_ENV_TYPE_HINT: Final = "The platform's pages disagree on whether EnvType is required: try env_type='run'."


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
        check_string("env_type", env_type)
    try:
        return await session.call(CREATE_ENV, {"alias": alias, "EnvType": env_type})
    except InvalidRequest as error:
        if env_type is None and error.errcode in (40097, 40101):
            error.add_hint(_ENV_TYPE_HINT)
        raise


async def describe_envs(session: Session) -> EnvList:
    """List every environment of the platform; the list is not paged.

    After `create_env`, the first look also starts the initialisation of the new environment.

    Official interface: getTcbEnvList, page cloudbase-batch/env-mgnt/getTcbEnvList.
    """
    return await session.call(DESCRIBE_ENVS, {})


async def modify_env(session: Session, env: str, *, token: str | Secret | None = None) -> Done:
    """Make environment *env*, opened in the Tencent Cloud console, one that mini programs can use.

    It goes out with the token of the session, or with *token*, the access token of an authoriser. Tried again after an
    answer that was lost, it may be refused although the first took effect: look with `describe_envs`.

    Official interface: changeTcbEnv, page cloudbase-batch/env-mgnt/changeTcbEnv.
    """
    token = to_secret_or_none(token)
    check_string("env", env)
    return await session.call(MODIFY_ENV, {"env": env}, token=token)


async def wait_until_normal(session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0) -> EnvInfo:
    """Wait until environment *env* is NORMAL and return it; its first look also starts the initialisation.

    All who wait in a session share the looks: one at a time, at most one a second, each waiter wanting one every
    *interval* seconds. UNAVAILABLE, and a status that wxtcb does not know, is waiting; so is a look that failed for a
    reason that may pass.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` at once, `OperationNotFound` when it was
    missing from three looks in a row or more, for 30 seconds, and what keeps every look from succeeding: `TicketError`,
    `PermissionDenied` and the like.
    """
    check_string("env", env)
    return await wait_until(session.shared_poller(DESCRIBE_ENVS), env_normal(env), timeout=timeout, interval=interval)


def env_normal(env: str) -> WaitCondition[EnvList, EnvInfo]:
    """Await that environment *env* is NORMAL."""
    resource = f"environment {env}"
    return WaitCondition(
        resource=resource,
        find=lambda seen: seen.by_env.get(env),
        status_of=lambda info: info.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
        timeout_error=partial(OperationTimeout, resource=resource, env=env),
        failure_error=partial(OperationFailed, resource=resource, env=env),
        not_found_error=partial(OperationNotFound, resource=resource, env=env),
    )


_READY_STATUSES: Final = frozenset({"NORMAL"})
_FAILURE_STATUSES: Final = {"HALTED": "the platform stopped it (over quota or blocked); see its page in the console"}
