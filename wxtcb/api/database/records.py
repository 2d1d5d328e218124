"""Records: insert, query, update, delete, aggregate."""

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
    """The ``_id`` of each added record."""

    id_list: tuple[str, ...]


@attrs.frozen
class DeleteResult(Reply):
    """Number of removed records."""

    deleted: int


@attrs.frozen(kw_only=True)
class UpdateResult(Reply):
    """Numbers of matching and of modified records.

    `id` is the ``_id`` of a record that was created, else empty; the counts do not include it.
    """

    matched: int
    modified: int
    id: str = ""


@attrs.frozen(kw_only=True)
class Pager:
    """Position of a page: at most `limit` records, from `offset` on, of `total` matching records."""

    # The older non-batch call writes capital letters.
    offset: int = attrs.field(metadata=aliases("Offset"))
    limit: int = attrs.field(metadata=aliases("Limit"))
    total: int = attrs.field(metadata=aliases("Total"))


@attrs.frozen(kw_only=True)
class QueryResult(Reply):
    """Records of a query, as Python values (see `read_document`)."""

    pager: Pager
    # `Any`, because a field of a record may have any type.
    documents: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), metadata=wire_name("data") | wire_format(DOCUMENTS_FORMAT)
    )


@attrs.frozen(kw_only=True)
class AggregateResult(Reply):
    """Result of a pipeline, as Python values (see `read_document`)."""

    documents: tuple[Mapping[str, Any], ...] = attrs.field(
        default=(), metadata=wire_name("data") | wire_format(DOCUMENTS_FORMAT)
    )


_RECORD_PATH: Final = "/componenttcb/dbrecord"

# Delete and update are never repeated: a second delete may match newer records, a second `inc` counts twice.
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
    """Add records to an existing collection; a record without an ``_id`` gets one.

    A string is sent unchanged: it is your code, so never put a value from a user into it. Raises `OutcomeUnknown` if
    the reply was lost: check with `db_record_query` what was added. If `maybe_acted` of the reply is above 0, earlier
    attempts that the platform answered with -1 may have added the same records. Records with an ``_id`` of your own can
    be found, and cannot be added twice.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_INSERT, _statement_body(env, query, Insert))


async def db_record_delete(session: Session, env: str, query: str | Delete) -> DeleteResult:
    """Remove records; it is not an error if none match.

    A string is sent unchanged: it is your code, so never put a value from a user into it. The call is never repeated
    automatically, because new records may match by then. Raises `OutcomeUnknown` if the reply was lost or the platform
    was busy: check with `db_record_query`, then remove the remaining records.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_DELETE, _statement_body(env, query, Delete))


async def db_record_update(session: Session, env: str, query: str | Update) -> UpdateResult:
    """Change records; it is not an error if none match.

    A string is sent unchanged: it is your code, so never put a value from a user into it. The call is never repeated
    automatically, because `inc`, `mul` and `push` change more each time. Raises `OutcomeUnknown` if the reply was lost
    or the platform was busy: check with `db_record_query` whether it took effect. An update that only sets values may
    be sent again if nothing else changes the records.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_UPDATE, _statement_body(env, query, Update))


async def db_record_query(session: Session, env: str, query: str | Query) -> QueryResult:
    """Return records: 10, or the limit of the query, at most 1000; `iter_documents` iterates over all of them.

    A string is sent unchanged: it is your code, so never put a value from a user into it.

    Official interface: dbrecordManage, page cloudbase-batch/db-mgnt/dbrecordManage.
    """
    return await session.call(DB_RECORD_QUERY, _statement_body(env, query, Query))


async def db_aggregate(session: Session, env: str, query: str | Aggregate) -> AggregateResult:
    """Return the result of an aggregation pipeline.

    A string is sent unchanged: it is your code, so never put a value from a user into it. The pipeline must not write,
    because the call is repeated automatically.

    Official interface: dbAggregate, page cloudbase-batch/db-mgnt/dbAggregate.
    """
    return await session.call(DB_AGGREGATE, _statement_body(env, query, Aggregate))


def iter_documents(
    session: Session, env: str, query: Query, *, page_size: int = 100
) -> AsyncIterator[Mapping[str, Any]]:
    """Iterate over all records of a query, *page_size* (1 to 1000) per call; its skip and limit apply to the whole.

    Order the query by a unique field, such as ``order_by("_id")``. Without an order, or if records are added or removed
    meanwhile, records may be repeated or skipped.
    """
    if not 1 <= page_size <= MAX_LIMIT:
        raise InvalidArgument(f"page_size must be from 1 to {MAX_LIMIT}, not {page_size!r}")
    selection = query.selection
    first = selection.skip_count or 0
    limit = selection.limit_count

    async def fetch(offset: int) -> tuple[tuple[Mapping[str, Any], ...], int]:
        size = page_size if limit is None else min(page_size, limit - offset)
        page = await db_record_query(session, env, selection.skip(first + offset).limit(size).get())
        # The total counts all matching records; skip and limit do not change it.
        total = max(0, page.pager.total - first)
        return page.documents[:size], total if limit is None else min(total, limit)

    return by_offset(DB_RECORD_QUERY, fetch)


def statement_text(query: object, statement_type: type[S]) -> str:
    """Return the code of a statement of the given type; a string is the caller's own code."""
    # Checked at run time too: a statement of the wrong type would be executed, for instance a delete by a query call.
    if isinstance(query, str):
        check_string("query", query)
    else:
        check_type("query", query, statement_type)
    return str(query)


def _statement_body(env: str, query: object, statement_type: type[S]) -> dict[str, object]:
    return {"env": env, "query": statement_text(query, statement_type)}
