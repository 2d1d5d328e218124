"""The databases of all environments, each a few collections, and the jobs that move records in and out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import ServiceContext
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.collection import Collection
from wxtcb.sandbox.services.database.files import write_records
from wxtcb.sandbox.services.database.jobs import ExportTask, ImportTask, JobState, MigrationJob
from wxtcb.sandbox.services.database.statements import Statement, StatementOperation, parse_statement
from wxtcb.sandbox.services.database.terms import Evaluator
from wxtcb.sandbox.services.storage import Storage

__all__ = ["Databases"]

_CHINA_TZ: Final = timezone(timedelta(hours=8))
_FIRST_JOB: Final = 100_000_001


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
        made = self._collections[env, name] = Collection(name, self._new_id)
        return made

    def drop_collection(self, env: str, name: str) -> None:
        """Remove a collection and what it holds."""
        self.collection(env, name)
        del self._collections[env, name]

    def collection(self, env: str, name: str) -> Collection:
        """Return a collection, with what jobs have brought until now; one that is not there is refused."""
        self._context.require_normal(env)
        self._run_due_jobs(self._jobs.values())
        found = self._collections.get((env, name))
        if found is None:
            raise platform_error(-502005, f"collection {name}")
        return found

    def collections(self, env: str) -> list[Collection]:
        """Return the collections of an environment, oldest first."""
        self._context.require_normal(env)
        self._run_due_jobs(self._jobs.values())
        return [found for (owner, _), found in self._collections.items() if owner == env]

    def open_statement(
        self, env: str, query: str, operations: Iterable[StatementOperation]
    ) -> tuple[Collection, Statement]:
        """Read a statement that may do these things, and return it with its collection."""
        self._context.require_normal(env)
        statement = parse_statement(query, Evaluator(self._utc_now))
        if statement.operation not in operations:
            raise platform_error(40097, f"query: {statement.operation}() is none of this action's")
        return self.collection(env, statement.collection), statement

    def start_import(
        self, env: str, name: str, path: str, *, file_type: int, conflict_mode: int, stop_on_error: bool
    ) -> int:
        """Start an import; the file is read when it is done."""
        into = self.collection(env, name)
        return self._start_job(
            env, ImportTask(into, lambda: self._storage.read(env, path), file_type, conflict_mode, stop_on_error)
        )

    def start_export(self, env: str, path: str, query: str, *, file_type: int) -> int:
        """Start an export; the records are read when it is done."""
        source, statement = self.open_statement(env, query, ["get"])
        source.select(statement)

        def write() -> tuple[int, str]:
            records = source.export(statement)
            return len(records), self._storage.write(env, path, write_records(records, file_type))

        return self._start_job(env, ExportTask(write))

    def poll_job(self, env: str, job_id: int) -> JobState:
        """Count a look at a job and tell how far it is."""
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
