"""Import and export of collections, as background jobs of the platform."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.api.database.query_builder import Query
from wxtcb.api.database.records import statement_text
from wxtcb.errors import OperationFailed

if TYPE_CHECKING:
    from wxtcb.session import Session


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

    `status` is waiting, reading, writing, migrating, success, fail, or another text. `error_msg` is also set on
    success. `file_url` is the address of an exported file.
    """

    status: str
    record_success: int = 0
    record_fail: int = 0
    # An older page spells it err_msg.
    error_msg: str | None = attrs.field(default=None, metadata=aliases("err_msg"))
    file_url: str | None = None


DB_IMPORT: Final = Endpoint("/componenttcb/dbimport", MigrationJob, Repeat.ONCE, name="db_import", official="dbImport")
DB_EXPORT: Final = Endpoint("/componenttcb/dbexport", MigrationJob, Repeat.ONCE, name="db_export", official="dbExport")
DB_MIGRATION_STATE: Final = Endpoint(
    "/componenttcb/dbmigrationstate",
    MigrationState,
    Repeat.READ,
    name="db_migration_state",
    official="getMigrationState",
)

ENDPOINTS: Final = (DB_IMPORT, DB_EXPORT, DB_MIGRATION_STATE)


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
    first failed record ends the job; otherwise `record_fail` counts the failed records.

    Raises `OutcomeUnknown` if the reply was lost: the job may be running. A retry with INSERT adds records without an
    ``_id`` again.

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
    A *query* that is a string is sent unchanged: it is your code, so never put a value from a user into it.

    Raises `OutcomeUnknown` if the reply was lost: the job may be running; a second job only writes the same file again.

    Official interface: dbExport, page cloudbase-batch/db-mgnt/dbExport.
    """
    text = statement_text(query, Query)
    body = {"env": env, "file_path": file_path, "file_type": file_type.value, "query": text}
    return await session.call(DB_EXPORT, body)


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
    failed: see `record_fail`.

    Raises `OperationFailed` with the platform's reason if the job failed, `OperationTimeout` after *timeout* seconds
    (the job goes on, and you may wait again), and a permanent error of a poll.
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
