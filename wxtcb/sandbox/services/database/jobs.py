"""Imports and exports: jobs that take time, and then do all of their work at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from wxtcb.sandbox.context import Readiness
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.services.database.collection import Collection
from wxtcb.sandbox.services.database.files import read_records
from wxtcb.sandbox.services.database.values import DatabaseRecord

__all__ = ["ExportTask", "ImportTask", "JobState", "MigrationJob"]

CONFLICT_MODE_UPSERT: Final = 2


@frozen
class JobState:
    """How a job ended."""

    status: str
    succeeded: int = 0
    failed: int = 0
    message: str = ""
    url: str = ""


@frozen
class ImportTask:
    """Records from a file into a collection."""

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
            flaw = self._import_record(record)
            done, failed = done + (flaw is None), failed + (flaw is not None)
            if flaw is not None and self.stop_on_error:
                return JobState("fail", done, failed, flaw)
        return JobState("success", done, failed, "导入完成.")

    def _import_record(self, record: DatabaseRecord | ValueError) -> str | None:
        """Take a record in, or tell why it cannot be."""
        if isinstance(record, ValueError):
            return str(record)
        try:
            self.collection.put(record, replace=self.conflict_mode == CONFLICT_MODE_UPSERT)
        except PlatformError as error:
            return error.message
        return None


@frozen
class ExportTask:
    """The records of a query into a file."""

    write: Callable[[], tuple[int, str]] = field(repr=False)

    running_status = "migrating"

    def __call__(self) -> JobState:
        count, url = self.write()
        return JobState("success", count, message="导出完成.", url=url)


@define(eq=False)
class MigrationJob:
    """A job: its work, done once it is ripe."""

    env: str
    _task: ImportTask | ExportTask
    _readiness: Readiness
    _result: JobState | None = None

    def poll(self, now: float) -> JobState:
        """Count a look and tell what it shows."""
        if self._readiness.poll(now):
            self.run_if_due(now)
        if self._result is not None:
            return self._result
        return JobState("waiting" if self._readiness.poll_count == 1 else self._task.running_status)

    def run_if_due(self, now: float) -> None:
        """Do the work if it is time."""
        if self._result is None and self._readiness.is_ready(now):
            self._result = self._task()
