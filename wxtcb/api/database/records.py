"""Records: add, change, remove, read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, wire_format, wire_name
from wxtcb.api._pagination import by_offset
from wxtcb.api.database.extended_json import DOCUMENTS_FORMAT
from wxtcb.api.database.query_builder import MAX_LIMIT, Aggregate, Delete, Insert, Query, Update
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_string, check_type

if TYPE_CHECKING:
    from wxtcb.session import Session

S = TypeVar("S", Aggregate, Delete, Insert, Query, Update)


@attrs.frozen
class InsertResult(Reply):
    """The ``_id`` of each record that was added."""

    id_list: tuple[str, ...]


@attrs.frozen
class DeleteResult(Reply):
    """How many records were removed."""

    deleted: int


@attrs.frozen(kw_only=True)
class UpdateResult(Reply):
    """How many records were `matched` and how many `modified`; `id` is the ``_id`` of one that was made, else empty.

    One that was made is not counted.
    """

    matched: int
    modified: int
    id: str = ""


@attrs.frozen(kw_only=True)
class Pager:
    """The part of the records that came: `limit` at most, from number `offset` on, of `total` that there are."""

    offset: int = attrs.field(metadata=aliases("Offset"))
    limit: int = attrs.field(metadata=aliases("Limit"))
    total: int = attrs.field(metadata=aliases("Total"))


@attrs.frozen(kw_only=True)
class QueryResult(Reply):
    """The records that came, as Python values (see `read_document`)."""

    pager: Pager
    documents: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), metadata=wire_name("data") | wire_format(DOCUMENTS_FORMAT)
    )


@attrs.frozen(kw_only=True)
class AggregateResult(Reply):
    """What came out of a pipeline, as Python values (see `read_document`)."""

    documents: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), metadata=wire_name("data") | wire_format(DOCUMENTS_FORMAT)
    )


_RECORD_PATH: Final = "/componenttcb/dbrecord"

DB_RECORD_INSERT: Final = Endpoint(
    _RECORD_PATH, InsertResult, Repeat.ONCE, name="db_record_insert", official="dbrecordManage", action="insert"
)
DB_RECORD_DELETE: Final = Endpoint(
    _RECORD_PATH, DeleteResult, Repeat.NEVER, name="db_record_delete", official="dbrecordManage", action="delete"
)
DB_RECORD_UPDATE: Final = Endpoint(
    _RECORD_PATH, UpdateResult, Repeat.NEVER, name="db_record_update", official="dbrecordManage", action="update"
)
DB_RECORD_QUERY: Final = Endpoint(
    _RECORD_PATH, QueryResult, Repeat.READ, name="db_record_query", official="dbrecordManage", action="query"
)
DB_AGGREGATE: Final = Endpoint(
    "/componenttcb/dbaggregate", AggregateResult, Repeat.READ, name="db_aggregate", official="dbAggregate"
)

ENDPOINTS: Final = (DB_AGGREGATE, DB_RECORD_INSERT, DB_RECORD_DELETE, DB_RECORD_UPDATE, DB_RECORD_QUERY)


async def db_record_insert(session: Session, env: str, query: str | Insert) -> InsertResult:
    """Add records to a collection, which must be there; each gets an ``_id`` unless it has one.

    A text is sent as it is: it is code of yours, and no value of a user's belongs into it. Raises `OutcomeUnknown` when
    the answer was lost: look with `db_record_query` for what you added. A reply with `maybe_acted` above 0 says that
    earlier attempts, which the platform answered with -1, may have added the same. Records with an ``_id`` of your own
    can be found, and cannot be added twice.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_INSERT, _statement_body(env, query, Insert))


async def db_record_delete(session: Session, env: str, query: str | Delete) -> DeleteResult:
    """Remove records; those that are not there are no error.

    A text is sent as it is: it is code of yours, and no value of a user's belongs into it. It is never repeated by
    itself, for records may have come since that meet the conditions too. Raises `OutcomeUnknown` when the answer was
    lost or the platform was busy: look with `db_record_query`, then remove what is left.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_DELETE, _statement_body(env, query, Delete))


async def db_record_update(session: Session, env: str, query: str | Update) -> UpdateResult:
    """Change records; that there are none that match is no error.

    A text is sent as it is: it is code of yours, and no value of a user's belongs into it. It is never repeated by
    itself, for `inc`, `mul` and `push` change more each time. Raises `OutcomeUnknown` when the answer was lost or the
    platform was busy: look with `db_record_query` whether it acted; one that only sets values may be sent again as long
    as nobody else does.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_UPDATE, _statement_body(env, query, Update))


async def db_record_query(session: Session, env: str, query: str | Query) -> QueryResult:
    """Read records: 10 unless the query has a limit, which is 1000 at the most; `iter_documents` reads them all.

    A text is sent as it is: it is code of yours, and no value of a user's belongs into it.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_QUERY, _statement_body(env, query, Query))


async def db_aggregate(session: Session, env: str, query: str | Aggregate) -> AggregateResult:
    """Read what comes out of a pipeline.

    A text is sent as it is: it is code of yours, and no value of a user's belongs into it. It must not write: it is
    repeated by itself.

    Official interface: dbAggregate, page cloudbase-batch/db-mgnt/dbAggregate.
    """
    return await session.call(DB_AGGREGATE, _statement_body(env, query, Aggregate))


def iter_documents(
    session: Session, env: str, query: Query, *, page_size: int = 100
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield all records of a query, *page_size* of them per call; its own skip and limit bound the whole.

    Order the query by a field that tells records apart, ``order_by("_id")`` for instance: without an order, and when
    records come and go meanwhile, some may come twice or not at all.
    """
    check_string("env", env)
    check_type("query", query, Query)
    if type(page_size) is not int or not 1 <= page_size <= MAX_LIMIT:
        raise InvalidArgument(f"page_size must be a whole number from 1 to {MAX_LIMIT}, not {page_size!r}")
    whole = query.selection
    first = whole.skip_count or 0

    async def fetch(offset: int) -> tuple[tuple[Mapping[str, Any], ...], int]:
        size = page_size if whole.limit_count is None else min(page_size, whole.limit_count - offset)
        found = await db_record_query(session, env, whole.skip(first + offset).limit(size).get())
        total = max(0, found.pager.total - first)
        return found.documents[:size], total if whole.limit_count is None else min(total, whole.limit_count)

    return by_offset(DB_RECORD_QUERY, fetch)


def statement_text(query: object, statement_type: type[S]) -> str:
    """Return the text of a statement of *kind*; a text is code of the caller's."""
    if isinstance(query, str):
        check_string("query", query)
    else:
        check_type("query", query, statement_type)
    return str(query)


def _statement_body(env: str, query: object, statement_type: type[S]) -> dict[str, object]:
    check_string("env", env)
    return {"env": env, "query": statement_text(query, statement_type)}
