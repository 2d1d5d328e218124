"""Imports and exports: jobs that take time, and then do all of their work at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from wxtcb.sandbox.context import Ripening
from wxtcb.sandbox.errors import Refused
from wxtcb.sandbox.services.database.collection import Collection
from wxtcb.sandbox.services.database.files import read_file
from wxtcb.sandbox.services.database.values import Record

__all__ = ["Export", "Import", "Job", "Result"]

UPSERT: Final = 2


@frozen
class Result:
    """How a job ended."""

    status: str
    done: int = 0
    failed: int = 0
    message: str = ""
    url: str = ""


@frozen
class Import:
    """Records from a file into a collection."""

    collection: Collection = field(repr=False)
    read: Callable[[], bytes | None] = field(repr=False)
    file_type: int
    conflict_mode: int
    stop_on_error: bool

    running = "reading"

    def __call__(self) -> Result:
        data = self.read()
        if data is None:
            return Result("fail", message="文件不存在.")
        done = failed = 0
        for record in read_file(data, self.file_type):
            flaw = self._take(record)
            done, failed = done + (flaw is None), failed + (flaw is not None)
            if flaw is not None and self.stop_on_error:
                return Result("fail", done, failed, flaw)
        return Result("success", done, failed, "导入完成.")

    def _take(self, record: Record | ValueError) -> str | None:
        """Take a record in, or tell why it cannot be."""
        if isinstance(record, ValueError):
            return str(record)
        try:
            self.collection.put(record, replace=self.conflict_mode == UPSERT)
        except Refused as error:
            return error.message
        return None


@frozen
class Export:
    """The records of a query into a file."""

    write: Callable[[], tuple[int, str]] = field(repr=False)

    running = "migrating"

    def __call__(self) -> Result:
        count, url = self.write()
        return Result("success", count, message="导出完成.", url=url)


@define(eq=False)
class Job:
    """A job: its work, done once it is ripe."""

    env: str
    _work: Import | Export
    _ripening: Ripening
    _result: Result | None = None

    def look(self, now: float) -> Result:
        """Count a look and tell what it shows."""
        if self._ripening.look(now):
            self.settle(now)
        if self._result is not None:
            return self._result
        return Result("waiting" if self._ripening.looks == 1 else self._work.running)

    def settle(self, now: float) -> None:
        """Do the work if it is time."""
        if self._result is None and self._ripening.is_ready(now):
            self._result = self._work()
