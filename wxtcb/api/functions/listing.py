"""Lists of functions, and the waiter for one function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import interned, wire_name
from wxtcb.api._pagination import by_offset
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.validation import check_positive_int

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class StatusReason:
    """Why a function failed; `errcode` is a text such as ``ResourceNotFound.File``."""

    errcode: str
    errmsg: str


@attrs.frozen(kw_only=True)
class Function:
    """One function of the list.

    `status` is Creating, Active (usable), Updating, CreateFailed, UpdateFailed or another text. The times are
    ``YYYY-MM-DD HH:MM:SS`` without a time zone, presumably China Standard Time.
    """

    function_name: str = attrs.field(metadata=wire_name("name"))
    runtime: str = attrs.field(metadata=interned())
    status: str = attrs.field(metadata=interned())
    status_reason: tuple[StatusReason, ...] = ()
    add_time: str
    mod_time: str


@attrs.frozen(kw_only=True)
class FunctionList(Reply):
    """A page of the functions of an environment; `total_count` is the number of functions on all pages."""

    total_count: int
    functions: tuple[Function, ...]


GET_SCF_LIST: Final = Endpoint(
    "/componenttcb/getscflist", FunctionList, Repeat.READ, name="get_scf_list", official="getCloudFunctionList"
)

ENDPOINTS: Final = (GET_SCF_LIST,)

# From Tencent Cloud's API: the platform's pages show only some of the statuses.
_READY_STATUSES: Final = frozenset({"Active"})
_FAILURE_STATUSES: Final[Mapping[str, str]] = {
    "CreateFailed": "it could not be created; delete it before you create it again",
    "UpdateFailed": "it could not be updated",
    "PublishFailed": "its version could not be published",
    "DeleteFailed": "it could not be deleted",
}


async def get_scf_list(
    session: Session,
    env: str,
    *,
    offset: int | None = None,
    limit: int | None = None,
    search_key: str | None = None,
) -> FunctionList:
    """Return a page of the functions of environment *env*: *limit* of them (default 20), from *offset* (default 0) on.

    *search_key* selects functions whose names contain it. `iter_functions` iterates over all pages.

    Official interface: getCloudFunctionList, page cloudbase-batch/scf-mgnt/getCloudFunctionList.
    """
    body = {"env": env, "offset": offset, "limit": limit, "searchkey": search_key}
    return await session.call(GET_SCF_LIST, body)


def iter_functions(
    session: Session, env: str, *, page_size: int | None = None, search_key: str | None = None
) -> AsyncIterator[Function]:
    """Iterate over all functions of environment *env*, *page_size* per call; *search_key* is as in `get_scf_list`.

    If functions are created or deleted meanwhile, others may be skipped or repeated at the edge of a page.
    """
    if page_size is not None:
        check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[Sequence[Function], int]:
        page = await get_scf_list(session, env, offset=offset, limit=page_size, search_key=search_key)
        return page.functions, page.total_count

    return by_offset(GET_SCF_LIST, fetch)


async def wait_until_active(
    session: Session, env: str, function_name: str, *, timeout: float = 300.0, interval: float = 5.0
) -> Function:
    """Wait until a function is Active, after it was created or changed, and return it.

    It polls every *interval* seconds. Creating, Updating and unknown statuses keep waiting, and so does a poll with a
    transient error.

    Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` with the platform's reason for CreateFailed,
    UpdateFailed and the like, and `OperationNotFound` if the function is missing from at least 3 polls in a row over 30
    seconds.
    """

    async def find() -> Function | None:
        # The search also returns functions whose names only contain this one.
        found = iter_functions(session, env, search_key=function_name)
        exact = [each async for each in found if each.function_name == function_name]
        return exact[0] if exact else None

    condition = WaitCondition[Function | None, Function](
        resource=f"function {function_name} of {env}",
        find=lambda function: function,
        status_of=lambda function: function.status,
        ready_statuses=_READY_STATUSES,
        failure_statuses=_FAILURE_STATUSES,
        reason_of=lambda function: "; ".join(f"{each.errcode}: {each.errmsg}" for each in function.status_reason),
    )
    return await wait_until(session.poller(find), condition, timeout=timeout, interval=interval)
