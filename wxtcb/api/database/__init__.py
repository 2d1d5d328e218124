"""Database of an environment: collections, records, import and export (official group: cloudbase-batch/db-mgnt)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, TypeVar, get_args

import attrs
import orjson

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, wire_format, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._pagination import by_offset
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.api.database.extended_json import (
    DOCUMENTS_FORMAT,
    Timestamp as Timestamp,
    read_document as read_document,
    write_document as write_document,
)
from wxtcb.api.database.query import (
    MAX_LIMIT,
    Aggregate as Aggregate,
    Change as Change,
    Changes as Changes,
    Collection as Collection,
    Combination as Combination,
    Comparison as Comparison,
    Conditions as Conditions,
    Delete as Delete,
    Document as Document,
    Filter as Filter,
    Insert as Insert,
    Pipeline as Pipeline,
    Point as Point,
    Query as Query,
    RecordRef as RecordRef,
    Selection as Selection,
    ServerDate as ServerDate,
    SortOrder as SortOrder,
    Update as Update,
    Value as Value,
    and_ as and_,
    collection as collection,
    eq as eq,
    exists as exists,
    gt as gt,
    gte as gte,
    in_ as in_,
    inc as inc,
    lt as lt,
    lte as lte,
    missing as missing,
    mul as mul,
    neq as neq,
    nin as nin,
    or_ as or_,
    push as push,
    remove as remove,
    set_ as set_,
)
from wxtcb.errors import InvalidArgument, OperationFailed
from wxtcb.secret import Secret
from wxtcb.validation import check_not_empty, check_string, check_type, require_strings, validator

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "DB_AGGREGATE",
    "DB_COLLECTION_ADD",
    "DB_COLLECTION_DEL",
    "DB_COLLECTION_GET",
    "DB_EXPORT",
    "DB_GET_ACL",
    "DB_IMPORT",
    "DB_INDEX_CREATE",
    "DB_INDEX_DELETE",
    "DB_MIGRATION_STATE",
    "DB_MODIFY_ACL",
    "DB_RECORD_DELETE",
    "DB_RECORD_INSERT",
    "DB_RECORD_QUERY",
    "DB_RECORD_UPDATE",
    "ENDPOINTS",
    "Acl",
    "AclTag",
    "Aggregate",
    "AggregateResult",
    "Change",
    "Changes",
    "Collection",
    "CollectionInfo",
    "Collections",
    "Combination",
    "Comparison",
    "Conditions",
    "ConflictMode",
    "Delete",
    "DeleteResult",
    "Direction",
    "Document",
    "FileType",
    "Filter",
    "Index",
    "IndexKey",
    "Insert",
    "InsertResult",
    "MigrationJob",
    "MigrationState",
    "Pager",
    "Pipeline",
    "Point",
    "Query",
    "QueryResult",
    "RecordRef",
    "Selection",
    "ServerDate",
    "SortOrder",
    "Timestamp",
    "Update",
    "UpdateResult",
    "Value",
    "and_",
    "collection",
    "db_aggregate",
    "db_collection_add",
    "db_collection_del",
    "db_collection_get",
    "db_export",
    "db_get_acl",
    "db_import",
    "db_index_create",
    "db_index_delete",
    "db_migration_state",
    "db_modify_acl",
    "db_record_delete",
    "db_record_insert",
    "db_record_query",
    "db_record_update",
    "eq",
    "exists",
    "gt",
    "gte",
    "in_",
    "inc",
    "iter_collections",
    "iter_documents",
    "lt",
    "lte",
    "missing",
    "mul",
    "neq",
    "nin",
    "or_",
    "push",
    "read_document",
    "remove",
    "set_",
    "wait_until_migrated",
    "write_document",
]


# Collections
AclTag: TypeAlias = Literal["READONLY", "PRIVATE", "ADMINWRITE", "ADMINONLY", "CUSTOM"]
Direction: TypeAlias = Literal["1", "-1", "2dsphere"]


# The platform takes strings even for 1 and -1.
def _as_direction(value: Direction | Literal[1, -1]) -> Direction:
    return "1" if value == 1 else "-1" if value == -1 else value


def _check_direction(name: str, value: object) -> None:
    if value not in get_args(Direction):
        raise InvalidArgument(f"{name} must be '1', '-1' or '2dsphere', not {value!r}")


@attrs.frozen
class IndexKey:
    """A field of an index: ascending ("1"), descending ("-1") or geographical ("2dsphere")."""

    name: str
    direction: Direction = attrs.field(
        default="1", converter=_as_direction, validator=validator(_check_direction), kw_only=True
    )


def _as_keys(value: Iterable[IndexKey]) -> tuple[IndexKey, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class Index:
    """An index of a collection and its fields."""

    name: str
    keys: tuple[IndexKey, ...] = attrs.field(converter=_as_keys, validator=validator(check_not_empty))


@attrs.frozen(kw_only=True)
class CollectionInfo:
    """A collection: its number of records (`count`) and of indexes, and their sizes in bytes."""

    name: str
    count: int = 0
    size: int = 0
    index_count: int = 0
    index_size: int = 0


@attrs.frozen(kw_only=True)
class Collections(Reply):
    """A page of the collections of an environment; `total` is the number of collections on all pages."""

    collections: tuple[CollectionInfo, ...] = ()
    total: int | None = None


@attrs.frozen(kw_only=True)
class Acl(Reply):
    """Access rule of a collection.

    `acl_tag` is READONLY (everyone reads, the creator writes), PRIVATE (only the creator), ADMINWRITE (everyone reads,
    administrators write), ADMINONLY, or CUSTOM, which applies `rule`, a JSON document in a string.
    """

    acl_tag: str
    rule: str | None = None


_INDEX_PATH: Final = "/componenttcb/dbindex"
_COLLECTION_PATH: Final = "/componenttcb/dbcollection"

DB_GET_ACL: Final = Endpoint("/componenttcb/dbgetacl", Acl, Repeat.READ, name="db_get_acl", official="getPermission")
DB_MODIFY_ACL: Final = Endpoint(
    "/componenttcb/dbmodifyacl", Done, Repeat.SET, name="db_modify_acl", official="setPermission"
)
# The creates are ONCE: the platform rejects a second one, which would look like a failure of the first.
DB_INDEX_CREATE: Final = Endpoint(
    _INDEX_PATH, Done, Repeat.ONCE, name="db_index_create", official="dbindexManage", action="create"
)
DB_INDEX_DELETE: Final = Endpoint(
    _INDEX_PATH, Done, Repeat.SET, name="db_index_delete", official="dbindexManage", action="delete"
)
DB_COLLECTION_GET: Final = Endpoint(
    _COLLECTION_PATH,
    Collections,
    Repeat.READ,
    name="db_collection_get",
    official="dbcollectionManage",
    action="get",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
DB_COLLECTION_ADD: Final = Endpoint(
    _COLLECTION_PATH, Done, Repeat.ONCE, name="db_collection_add", official="dbcollectionManage", action="add"
)
DB_COLLECTION_DEL: Final = Endpoint(
    _COLLECTION_PATH, Done, Repeat.SET, name="db_collection_del", official="dbcollectionManage", action="del"
)


async def db_get_acl(session: Session, env: str, collection_name: str) -> Acl:
    """Return the access rule of a collection.

    Official interface: getPermission, page cloudbase-batch/db-mgnt/getPermission.
    """
    return await session.call(DB_GET_ACL, _collection_body(env, collection_name))


async def db_modify_acl(
    session: Session, env: str, collection_name: str, acl_tag: AclTag, rule: str | None = ""
) -> Done:
    """Set the access rule of a collection (see `Acl`).

    CUSTOM requires a *rule*, a JSON object in a string. With other tags an empty rule is sent, or none if *rule* is
    None. Raises `InvalidArgument` for an unknown tag or an invalid rule, before a request is sent.
    Official interface: setPermission, page cloudbase-batch/db-mgnt/setPermission.
    """
    body = _collection_body(env, collection_name)
    # A wrong tag could open a collection to everyone, so the closed set is checked before a request is sent.
    if acl_tag not in get_args(AclTag):
        raise InvalidArgument(f"acl_tag must be one of {', '.join(get_args(AclTag))}, not {acl_tag!r}")
    # The platform's table requires the field for every tag, its non-batch twin only for CUSTOM.
    if acl_tag == "CUSTOM":
        _check_rule(rule)
    return await session.call(DB_MODIFY_ACL, {**body, "acl_tag": acl_tag, "rule": rule})


async def db_index_create(session: Session, env: str, collection_name: str, indexes: Iterable[Index]) -> Done:
    """Create indexes of a collection; unique indexes are not available.

    Raises `OutcomeUnknown` if the reply was lost: no call lists indexes, but `db_collection_get` counts them.
    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    new_indexes = tuple(indexes)
    check_not_empty("indexes", new_indexes)
    return await session.call(DB_INDEX_CREATE, {**body, "indexes": new_indexes})


async def db_index_delete(session: Session, env: str, collection_name: str, names: Iterable[str]) -> Done:
    """Delete indexes of a collection by their names.

    The call is repeated automatically after a lost reply; an error that an index does not exist may then be caused by
    the first attempt.
    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    indexes = [{"name": name} for name in require_strings("names", names)]
    return await session.call(DB_INDEX_DELETE, {**body, "indexes": indexes})


async def db_collection_get(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> Collections:
    """Return a page of the collections: *limit* of them (default 20), from *offset* (default 0) on.

    `iter_collections` iterates over all pages.
    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_GET, {"env": env, "limit": limit, "offset": offset})


async def db_collection_add(session: Session, env: str, collection_name: str) -> Done:
    """Create an empty collection; an existing name is rejected.

    Raises `OutcomeUnknown` if the reply was lost: check with `db_collection_get`, or retry.
    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_ADD, _collection_body(env, collection_name))


async def db_collection_del(session: Session, env: str, collection_name: str) -> Done:
    """Delete a collection and all its records; this cannot be undone.

    The call is repeated automatically after a lost reply; an error that the collection does not exist may then be
    caused by the first attempt.
    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_DEL, _collection_body(env, collection_name))


def iter_collections(session: Session, env: str) -> AsyncIterator[CollectionInfo]:
    """Iterate over all collections of an environment, 20 per call."""

    async def fetch(offset: int) -> tuple[tuple[CollectionInfo, ...], int | None]:
        page = await db_collection_get(session, env, limit=20, offset=offset)
        return page.collections, page.total

    return by_offset(DB_COLLECTION_GET, fetch)


def _collection_body(env: str, collection_name: str) -> dict[str, object]:
    return {"env": env, "collection_name": collection_name}


def _check_rule(rule: str | None) -> None:
    try:
        document = orjson.loads(rule or "")
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"rule is not JSON: {error}; CUSTOM needs a JSON object in a string") from error
    if not isinstance(document, dict):
        raise InvalidArgument("rule is not a JSON object: CUSTOM needs a JSON object in a string")


# Records
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
    _RECORD_PATH,
    InsertResult,
    Repeat.ONCE,
    name="db_record_insert",
    official="dbrecordManage",
    action="insert",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
DB_RECORD_DELETE: Final = Endpoint(
    _RECORD_PATH, DeleteResult, Repeat.NEVER, name="db_record_delete", official="dbrecordManage", action="delete"
)
DB_RECORD_UPDATE: Final = Endpoint(
    _RECORD_PATH, UpdateResult, Repeat.NEVER, name="db_record_update", official="dbrecordManage", action="update"
)
DB_RECORD_QUERY: Final = Endpoint(
    _RECORD_PATH,
    QueryResult,
    Repeat.READ,
    name="db_record_query",
    official="dbrecordManage",
    action="query",
    max_reply_bytes=LIMITS.document_reply_bytes,
)
DB_AGGREGATE: Final = Endpoint(
    "/componenttcb/dbaggregate",
    AggregateResult,
    Repeat.READ,
    name="db_aggregate",
    official="dbAggregate",
    max_reply_bytes=LIMITS.document_reply_bytes,
)


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


def _statement_body(env: str, query: object, statement_type: type[S]) -> dict[str, object]:
    """Return the body for a statement of the given type; a string is the caller's own code."""
    # Checked at run time too: a statement of the wrong type would be executed, for instance a delete by a query call.
    if isinstance(query, str):
        check_string("query", query)
    else:
        check_type("query", query, statement_type)
    return {"env": env, "query": str(query)}


# Import and export
class FileType(IntEnum):
    """Format of a file: extended JSON with one object per line, or CSV with field names in the first line."""

    JSON = 1
    CSV = 2


class ConflictMode(IntEnum):
    """Treatment of a record whose ``_id`` exists: the record fails, or it replaces the existing one."""

    INSERT = 1
    UPSERT = 2


@attrs.frozen
class MigrationJob(Reply):
    """A background job; pass `job_id` to `wait_until_migrated`."""

    job_id: int


@attrs.frozen(kw_only=True)
class MigrationState(Reply):
    """State of a job.

    At run time `status` may be another text. `error_msg` is also set on success. `file_url` is the signed URL of an
    exported file: everyone who has it can read the file.
    """

    keeps_raw: ClassVar[bool] = False

    status: Literal["waiting", "reading", "writing", "migrating", "success", "fail"]
    record_success: int = 0
    record_fail: int = 0
    # An older page spells it err_msg.
    error_msg: str | None = attrs.field(default=None, metadata=aliases("err_msg"))
    file_url: Secret | None = None


DB_IMPORT: Final = Endpoint("/componenttcb/dbimport", MigrationJob, Repeat.ONCE, name="db_import", official="dbImport")
DB_EXPORT: Final = Endpoint("/componenttcb/dbexport", MigrationJob, Repeat.ONCE, name="db_export", official="dbExport")
DB_MIGRATION_STATE: Final = Endpoint(
    "/componenttcb/dbmigrationstate",
    MigrationState,
    Repeat.READ,
    name="db_migration_state",
    official="getMigrationState",
)


async def db_import(
    session: Session,
    env: str,
    collection_name: str,
    *,
    file_path: str,
    file_type: FileType,
    conflict_mode: ConflictMode,
    stop_on_error: bool = False,
) -> MigrationJob:
    """Start a job that imports a file into a collection; `wait_until_migrated` waits for it.

    The file is in the storage of the same environment: upload it first. It is UTF-8; JSON is one object per line (see
    `write_document`), not a list. Field names must not begin or end with "." or contain "..". If *stop_on_error*, the
    first failed record ends the job; otherwise `record_fail` counts the failed records. Raises `OutcomeUnknown` if the
    reply was lost: the job may be running. A retry with INSERT adds records without an ``_id`` again.
    Official interface: dbImport, page cloudbase-batch/db-mgnt/dbImport.
    """
    body = {
        "env": env,
        "collection_name": collection_name,
        "file_path": file_path,
        "file_type": file_type.value,
        "stop_on_error": stop_on_error,
        "conflict_mode": conflict_mode.value,
    }
    return await session.call(DB_IMPORT, body)


async def db_export(
    session: Session, env: str, *, file_path: str, file_type: FileType, query: str | Query
) -> MigrationJob:
    """Start a job that exports the records of a query to a file; `wait_until_migrated` waits for it.

    *file_path* names the file; an existing file may be overwritten. Download it from the `file_url` of the job's state.
    A *query* that is a string is sent unchanged: it is your code, so never put a value from a user into it. Raises
    `OutcomeUnknown` if the reply was lost: the job may be running; a second job only writes the same file again.
    Official interface: dbExport, page cloudbase-batch/db-mgnt/dbExport.
    """
    body = _statement_body(env, query, Query)
    return await session.call(DB_EXPORT, {**body, "file_path": file_path, "file_type": file_type.value})


async def db_migration_state(session: Session, env: str, job_id: int) -> MigrationState:
    """Return the state of a job; a failed job has status "fail" and raises no error.

    Official interface: getMigrationState, page cloudbase-batch/db-mgnt/getMigrationState.
    """
    return await session.call(DB_MIGRATION_STATE, {"env": env, "job_id": job_id})


async def wait_until_migrated(
    session: Session, env: str, job_id: int, *, timeout: float = 3600.0, interval: float = 5.0
) -> MigrationState:
    """Wait until an import or export has finished, polling every *interval* seconds, and return its last state.

    Unknown statuses keep waiting, and so does a poll with a transient error. Even if the job succeeds, records may have
    failed: see `record_fail`. Raises `OperationFailed` with the platform's reason if the job failed, `OperationTimeout`
    after *timeout* seconds (the job goes on, and you may wait again), and a permanent error of a poll.
    """
    condition = WaitCondition[MigrationState, MigrationState](
        resource=f"job {job_id} of environment {env}",
        find=lambda state: state,
        status_of=lambda state: state.status,
        # A failure also ends the wait as ready: its reason and counts are in the state, which an error factory lacks.
        ready_statuses=frozenset({"success", _FAILED}),
        failure_statuses={},
    )
    poller = session.poller(lambda: db_migration_state(session, env, job_id))
    state = await wait_until(poller, condition, timeout=timeout, interval=interval)
    if state.status == _FAILED:
        counts = f"{state.record_success} records done, {state.record_fail} failed"
        message = f"{_FAILED}: {state.error_msg or 'the platform gives no reason'} ({counts})"
        raise OperationFailed(message, resource=condition.resource, status=_FAILED)
    return state


_FAILED: Final = "fail"


ENDPOINTS: Final = (
    DB_IMPORT,
    DB_EXPORT,
    DB_MIGRATION_STATE,
    DB_AGGREGATE,
    DB_RECORD_INSERT,
    DB_RECORD_DELETE,
    DB_RECORD_UPDATE,
    DB_RECORD_QUERY,
    DB_GET_ACL,
    DB_MODIFY_ACL,
    DB_INDEX_CREATE,
    DB_INDEX_DELETE,
    DB_COLLECTION_GET,
    DB_COLLECTION_ADD,
    DB_COLLECTION_DEL,
)
