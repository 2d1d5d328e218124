"""Listing functions, and waiting for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import interned, wire_name
from wxtcb.api._pagination import by_offset
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.validation import check_positive_int, check_string, check_type_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class StatusReason:
    """Why a function failed; `errcode` is a text such as ``ResourceNotFound.File``."""

    errcode: str
    errmsg: str


@attrs.frozen(kw_only=True)
class Function:
    """One function as the platform lists it.

    `status` is Creating, Active (usable), Updating, CreateFailed, UpdateFailed or another text. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a zone (presumably China's).
    """

    function_name: str = attrs.field(metadata=wire_name("name"))
    runtime: str = attrs.field(metadata=interned())
    status: str = attrs.field(metadata=interned())
    status_reason: tuple[StatusReason, ...] = ()
    add_time: str
    mod_time: str


@attrs.frozen(kw_only=True)
class FunctionList(Reply):
    """A page of the functions of an environment; `total_count` counts those of all pages."""

    total_count: int
    functions: tuple[Function, ...]


GET_SCF_LIST: Final = Endpoint(
    "/componenttcb/getscflist", FunctionList, Repeat.READ, name="get_scf_list", official="getCloudFunctionList"
)

ENDPOINTS: Final = (GET_SCF_LIST,)


async def get_scf_list(
    session: Session,
    env: str,
    *,
    offset: int | None = None,
    limit: int | None = None,
    search_key: str | None = None,
) -> FunctionList:
    """List a page of the functions of environment *env*: *limit* of them (20 if None), from number *offset* (0) on.

    *search_key* is looked for anywhere in their names. `iter_functions` goes through all pages.

    Official interface: getCloudFunctionList, page cloudbase-batch/scf-mgnt/getCloudFunctionList.
    """
    check_string("env", env)
    for name, value in (("offset", offset), ("limit", limit)):
        check_type_or_none(name, value, int)
    check_type_or_none("search_key", search_key, str)
    body = {"env": env, "offset": offset, "limit": limit, "searchkey": search_key}
    return await session.call(GET_SCF_LIST, body)


def iter_functions(
    session: Session, env: str, *, page_size: int | None = None, search_key: str | None = None
) -> AsyncIterator[Function]:
    """Go through all functions of environment *env*, *page_size* at a time; *search_key* as for `get_scf_list`.

    A function that is created or deleted meanwhile may shift others past the edge of a page.
    """
    check_string("env", env)
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def page(offset: int) -> tuple[Sequence[Function], int]:
        listed = await get_scf_list(session, env, offset=offset, limit=page_size, search_key=search_key)
        return listed.functions, listed.total_count

    return by_offset(GET_SCF_LIST, page)


async def wait_until_active(
    session: Session, env: str, function_name: str, *, timeout: float = 300.0, interval: float = 5.0
) -> Function:
    """Wait until a function is Active, after it was created or changed, and return it.

    It looks every *interval* seconds. Creating, Updating, and a status that wxtcb does not know, is waiting; so is a
    look that failed for a reason that may pass.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` at once for CreateFailed, UpdateFailed and the
    like, with the platform's reason, and `OperationNotFound` when it was missing from three looks in a row or more, for 30
    seconds.
    """
    check_string("env", env)
    check_string("function_name", function_name)

    async def look() -> Function | None:
        found = iter_functions(session, env, search_key=function_name)
        exact = [each async for each in found if each.function_name == function_name]
        return exact[0] if exact else None

    awaited = _function_active(f"function {function_name} of {env}")
    return await wait_until(session.poller(look), awaited, timeout=timeout, interval=interval)


def _function_active(label: str) -> WaitCondition[Function | None, Function]:
    return WaitCondition(
        resource=label,
        find=lambda seen: seen,
        status_of=lambda function: function.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
        reason_of=_failure_reason,
    )


def _failure_reason(function: Function) -> str:
    return "; ".join(f"{each.errcode}: {each.errmsg}" for each in function.status_reason)


_READY_STATUSES: Final = frozenset({"Active"})
_FAILURE_STATUSES: Final[Mapping[str, str]] = {
    "CreateFailed": "it could not be created; delete it before you create it again",
    "UpdateFailed": "it could not be updated",
    "PublishFailed": "its version could not be published",
    "DeleteFailed": "it could not be deleted",
}
