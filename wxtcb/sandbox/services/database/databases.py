"""Databases of all environments, and the jobs that import and export records."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import orjson
from attrs import define, field, frozen

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.services.database.collection import Collection
from wxtcb.sandbox.services.database.statements import Statement, StatementOperation, parse_statement
from wxtcb.sandbox.services.database.values import DatabaseRecord, Evaluator, Value, decode_record, encode_record
from wxtcb.sandbox.services.storage import Storage

__all__ = [
    "FILE_TYPE_CSV",
    "FILE_TYPE_JSON",
    "Databases",
    "ExportTask",
    "ImportTask",
    "JobState",
    "MigrationJob",
    "read_records",
    "write_records",
]

FILE_TYPE_JSON: Final = 1
FILE_TYPE_CSV: Final = 2
CONFLICT_MODE_UPSERT: Final = 2

_BOM: Final = b"\xef\xbb\xbf"
_CHINA_TZ: Final = timezone(timedelta(hours=8))
_FIRST_JOB: Final = 100_000_001


@frozen
class JobState:
    """Result of a job."""

    status: str
    succeeded: int = 0
    failed: int = 0
    message: str = ""
    url: str = ""


@frozen
class ImportTask:
    """An import of a file into a collection."""

    collection: Collection = field(repr=False)
    read: Callable[[], bytes | None] = field(repr=False)
    file_type: int
    conflict_mode: int
    stop_on_error: bool

    running_status = "reading"

    def __call__(self) -> JobState:
        data = self.read()
        if data is None:
            return JobState("fail", message="文件不存在.")
        done = failed = 0
        for record in read_records(data, self.file_type):
            error = self._import_record(record)
            done, failed = done + (error is None), failed + (error is not None)
            if error is not None and self.stop_on_error:
                return JobState("fail", done, failed, error)
        return JobState("success", done, failed, "导入完成.")

    def _import_record(self, record: DatabaseRecord | ValueError) -> str | None:
        """Import a record. Return the reason if it is rejected, else None."""
        if isinstance(record, ValueError):
            return str(record)
        try:
            self.collection.put(record, replace=self.conflict_mode == CONFLICT_MODE_UPSERT)
        except PlatformError as error:
            return error.message
        return None


@frozen
class ExportTask:
    """An export of the records of a query into a file."""

    write: Callable[[], tuple[int, str]] = field(repr=False)

    running_status = "migrating"

    def __call__(self) -> JobState:
        count, url = self.write()
        return JobState("success", count, message="导出完成.", url=url)


@define(eq=False)
class MigrationJob:
    """A job. Its work runs once it is due."""

    env: str
    _task: ImportTask | ExportTask
    _readiness: Readiness
    _result: JobState | None = None

    def poll(self, now: float) -> JobState:
        """Count a poll and return the state that it shows."""
        if self._readiness.poll(now):
            self.run_if_due(now)
        if self._result is not None:
            return self._result
        # The first poll shows a job that has not started yet.
        return JobState("waiting" if self._readiness.poll_count == 1 else self._task.running_status)

    def run_if_due(self, now: float) -> None:
        """Run the job if it is due."""
        if self._result is None and self._readiness.is_ready(now):
            self._result = self._task()


def read_records(data: bytes, file_type: int) -> Iterator[DatabaseRecord | ValueError]:
    """Yield the records of a file. For an invalid record, yield the reason."""
    lines = _split_json_lines(data) if file_type == FILE_TYPE_JSON else _csv_to_json_lines(data)
    for line in lines:
        try:
            yield line if isinstance(line, ValueError) else decode_record(line)
        except ValueError as error:
            yield error


def write_records(records: Sequence[DatabaseRecord], file_type: int) -> bytes:
    """Return the bytes of a file with the records."""
    lines = [encode_record(record) for record in records]
    if file_type == FILE_TYPE_JSON:
        return "".join(f"{line}\n" for line in lines).encode()
    rows: list[DatabaseRecord] = [orjson.loads(line) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _format_cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue().encode()


def _split_json_lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.removeprefix(_BOM).split(b"\n") if line.strip())


def _csv_to_json_lines(data: bytes) -> Iterator[bytes | ValueError]:
    """Yield each row as the JSON of its record.

    The first row contains the keys. Empty cells are omitted.
    """
    try:
        rows = csv.reader(io.StringIO(data.removeprefix(_BOM).decode(), newline=""), strict=True)
        names = next(rows, [])
        for row in rows:
            if row:
                yield _csv_row_to_json(names, row)
    except (UnicodeDecodeError, csv.Error) as error:
        yield ValueError(str(error))


def _csv_row_to_json(names: Sequence[str], row: Sequence[str]) -> bytes | ValueError:
    if len(row) > len(names):
        return ValueError("more cells than keys")
    return orjson.dumps({name: _parse_cell(cell) for name, cell in zip(names, row, strict=False) if cell})


def _parse_cell(cell: str) -> Value:
    """Return a cell as JSON if it is valid JSON, else as a string."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _format_cell(value: Value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


@define(eq=False)
class Databases:
    """The collections and records of the environments, and the jobs."""

    _context: ServiceContext = field(repr=False)
    _storage: Storage = field(repr=False)
    _collections: dict[tuple[str, str], Collection] = field(
        init=False, repr=False, factory=dict[tuple[str, str], Collection]
    )
    _jobs: dict[int, MigrationJob] = field(init=False, repr=False, factory=dict[int, MigrationJob])

    def add_collection(self, env: str, name: str) -> Collection:
        """Create an empty collection in a NORMAL environment."""
        self._context.require_normal(env)
        if (env, name) in self._collections:
            raise platform_error(-502001, f"collection {name} exists")
        collection = self._collections[env, name] = Collection(name, self._new_id)
        return collection

    def drop_collection(self, env: str, name: str) -> None:
        """Delete a collection and its records."""
        self.collection(env, name)
        del self._collections[env, name]

    def collection(self, env: str, name: str) -> Collection:
        """Return a collection after running all due jobs. Raise `PlatformError` if it does not exist."""
        self._context.require_normal(env)
        # A due import must be visible to every later statement, even if its job was never polled.
        self._run_due_jobs(self._jobs.values())
        collection = self._collections.get((env, name))
        if collection is None:
            raise platform_error(-502005, f"collection {name}")
        return collection

    def collections(self, env: str) -> list[Collection]:
        """Return the collections of an environment, oldest first."""
        self._context.require_normal(env)
        self._run_due_jobs(self._jobs.values())
        return [collection for (owner, _), collection in self._collections.items() if owner == env]

    def open_statement(
        self, env: str, query: str, operations: Iterable[StatementOperation]
    ) -> tuple[Collection, Statement]:
        """Parse a statement and return it with its collection.

        Raise `PlatformError` if its operation is not in *operations*.
        """
        self._context.require_normal(env)
        statement = parse_statement(query, Evaluator(self._utc_now))
        if statement.operation not in operations:
            raise platform_error(40097, f"query: {statement.operation}() is not an operation of this action")
        return self.collection(env, statement.collection), statement

    def start_import(
        self, env: str, name: str, path: str, *, file_type: int, conflict_mode: int, stop_on_error: bool
    ) -> int:
        """Start an import. The file is read when the job is due."""
        target = self.collection(env, name)
        return self._start_job(
            env, ImportTask(target, lambda: self._storage.read(env, path), file_type, conflict_mode, stop_on_error)
        )

    def start_export(self, env: str, path: str, query: str, *, file_type: int) -> int:
        """Start an export. The records are read when the job is due."""
        source, statement = self.open_statement(env, query, ["get"])
        # Reject an invalid query now, not when the job runs.
        source.select(statement)

        def write() -> tuple[int, str]:
            records = source.export(statement)
            return len(records), self._storage.write(env, path, write_records(records, file_type))

        return self._start_job(env, ExportTask(write))

    def poll_job(self, env: str, job_id: int) -> JobState:
        """Count a poll of a job and return its state."""
        self._context.require_normal(env)
        job = self._jobs.get(job_id)
        if job is None or job.env != env:
            raise platform_error(40097, f"job_id {job_id}")
        return job.poll(self._context.clock())

    def _start_job(self, env: str, task: ImportTask | ExportTask) -> int:
        job_id = _FIRST_JOB + len(self._jobs)
        self._jobs[job_id] = MigrationJob(env, task, self._context.start_operation())
        return job_id

    def _run_due_jobs(self, jobs: Iterable[MigrationJob]) -> None:
        for job in jobs:
            job.run_if_due(self._context.clock())

    def _new_id(self) -> str:
        return f"{self._context.random.getrandbits(128):032x}"

    def _utc_now(self) -> datetime:
        stamp = datetime.strptime(self._context.format_now(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA_TZ)
        return stamp.astimezone(UTC)
