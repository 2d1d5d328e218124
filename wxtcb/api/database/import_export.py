"""Collections from files and to files, by jobs of the platform."""

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
from wxtcb.validation import check_string, check_type

if TYPE_CHECKING:
    from wxtcb.session import Session


class FileType(IntEnum):
    """How records stand in a file: an object of extended JSON per line, or CSV whose first line names the fields."""

    JSON = 1
    CSV = 2


class ConflictMode(IntEnum):
    """What becomes of a record whose ``_id`` is there already: it fails, or it takes the place of the other."""

    INSERT = 1
    UPSERT = 2


@attrs.frozen
class MigrationJob(Reply):
    """The number of a job, for `wait_until_migrated`."""

    job_id: int


@attrs.frozen(kw_only=True)
class MigrationState(Reply):
    """How far a job is.

    `status` is waiting, reading, writing, migrating, success, fail, or another text. `error_msg` tells of a success
    too. `file_url` is where the file of an export is downloaded from.
    """

    status: str
    record_success: int = 0
    record_fail: int = 0
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
    """Start a job that adds the records of a file to a collection; `wait_until_migrated` waits for its end.

    The file is one of the same environment's storage: upload it first. It is UTF-8; JSON is one object per line (see
    `write_document`), not a list. Names of fields neither begin nor end with ".", nor hold "..". With *stop_on_error*
    the first record that fails ends the job, else the others go on, and `record_fail` counts those that failed.

    Raises `OutcomeUnknown` when the answer was lost: the job may run. Repeating it with INSERT adds records without an
    ``_id`` once more.

    Official interface: dbImport, page cloudbase-batch/db-mgnt/dbImport.
    """
    check_string("env", env)
    check_string("collection_name", collection_name)
    check_string("file_path", file_path)
    check_type("file_type", file_type, FileType)
    check_type("conflict_mode", conflict_mode, ConflictMode)
    check_type("stop_on_error", stop_on_error, bool)
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
    """Start a job that writes the records of a query to a file; `wait_until_migrated` waits for its end.

    *file_path* names the file; a file of that name may be overwritten. Download it from the `file_url` of the job's
    state: the platform's pages disagree on where else it is. A *query* that is a text is sent as it is: it is code of
    yours, and no value of a user's belongs into it.

    Raises `OutcomeUnknown` when the answer was lost: the job may run; another one only writes the same again.

    Official interface: dbExport, page cloudbase-batch/db-mgnt/dbExport.
    """
    check_string("env", env)
    check_string("file_path", file_path)
    check_type("file_type", file_type, FileType)
    text = statement_text(query, Query)
    body = {"env": env, "file_path": file_path, "file_type": file_type.value, "query": text}
    return await session.call(DB_EXPORT, body)


async def db_migration_state(session: Session, env: str, job_id: int) -> MigrationState:
    """Tell how far a job is; that it failed is no error here, but its status.

    Official interface: getMigrationState, page cloudbase-batch/db-mgnt/getMigrationState.
    """
    check_string("env", env)
    check_type("job_id", job_id, int)
    return await session.call(DB_MIGRATION_STATE, {"env": env, "job_id": job_id})


async def wait_until_migrated(
    session: Session, env: str, job_id: int, *, timeout: float = 3600.0, interval: float = 5.0
) -> MigrationState:
    """Wait until an import or export is done, looking every *interval* seconds, and return its last state.

    A status that wxtcb does not know is waiting; so is a look that failed for a reason that may pass. A success may
    have records that failed: see `record_fail`.

    Raises `OperationFailed` with the platform's words when the job failed, `OperationTimeout` after *timeout* seconds
    (it goes on; waiting again is fine), and what keeps every look from succeeding.
    """
    check_string("env", env)
    check_type("job_id", job_id, int)
    looks = session.poller(lambda: db_migration_state(session, env, job_id))
    ended = await wait_until(looks, _job_finished(env, job_id), timeout=timeout, interval=interval)
    if ended.status == _FAILED:
        counts = f"{ended.record_success} records done, {ended.record_fail} failed"
        message = f"{_FAILED}: {ended.error_msg or 'the platform gives no reason'} ({counts})"
        raise OperationFailed(message, resource=_job_label(env, job_id), status=_FAILED)
    return ended


_FAILED: Final = "fail"


def _job_label(env: str, job_id: int) -> str:
    return f"job {job_id} of environment {env}"


def _job_finished(env: str, job_id: int) -> WaitCondition[MigrationState, MigrationState]:
    """Await the end of a job, also a bad one: what the platform says of it stands in its last state alone."""
    return WaitCondition(
        resource=_job_label(env, job_id),
        find=lambda state: state,
        status_of=lambda state: state.status,
        ready_statuses=frozenset({"success", _FAILED}),
        failure_statuses={},
    )
