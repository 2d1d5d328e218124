"""The databases of all environments, each a few collections, and the jobs that move records in and out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import Ground
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.database.collection import Collection
from wxtcb.sandbox.services.database.files import write_file
from wxtcb.sandbox.services.database.jobs import Export, Import, Job, Result
from wxtcb.sandbox.services.database.statements import Statement, Way, read_statement
from wxtcb.sandbox.services.database.terms import Meaning
from wxtcb.sandbox.services.storage import Storage

__all__ = ["Databases"]

_CHINA: Final = timezone(timedelta(hours=8))
_FIRST_JOB: Final = 100_000_001


@define(eq=False)
class Databases:
    """The collections and records of the environments, and the jobs."""

    _ground: Ground = field(repr=False)
    _storage: Storage = field(repr=False)
    _collections: dict[tuple[str, str], Collection] = field(
        init=False, repr=False, factory=dict[tuple[str, str], Collection]
    )
    _jobs: dict[int, Job] = field(init=False, repr=False, factory=dict[int, Job])

    def add(self, env: str, name: str) -> Collection:
        """Create an empty collection in a NORMAL environment."""
        self._ground.need_normal(env)
        if (env, name) in self._collections:
            raise refuse(-502001, f"collection {name} exists")
        made = self._collections[env, name] = Collection(name, self._new_id)
        return made

    def drop(self, env: str, name: str) -> None:
        """Remove a collection and what it holds."""
        self.collection(env, name)
        del self._collections[env, name]

    def collection(self, env: str, name: str) -> Collection:
        """Return a collection, with what jobs have brought until now; one that is not there is refused."""
        self._ground.need_normal(env)
        self._settle(self._jobs.values())
        found = self._collections.get((env, name))
        if found is None:
            raise refuse(-502005, f"collection {name}")
        return found

    def collections(self, env: str) -> list[Collection]:
        """Return the collections of an environment, oldest first."""
        self._ground.need_normal(env)
        self._settle(self._jobs.values())
        return [found for (owner, _), found in self._collections.items() if owner == env]

    def open(self, env: str, text: str, ways: Iterable[Way]) -> tuple[Collection, Statement]:
        """Read a statement that may do these things, and return it with its collection."""
        self._ground.need_normal(env)
        statement = read_statement(text, Meaning(self._now))
        if statement.way not in ways:
            raise refuse(40097, f"query: {statement.way}() is none of this action's")
        return self.collection(env, statement.collection), statement

    def begin_import(
        self, env: str, name: str, path: str, *, file_type: int, conflict_mode: int, stop_on_error: bool
    ) -> int:
        """Start an import; the file is read when it is done."""
        into = self.collection(env, name)
        return self._begin(
            env, Import(into, lambda: self._storage.read(env, path), file_type, conflict_mode, stop_on_error)
        )

    def begin_export(self, env: str, path: str, text: str, *, file_type: int) -> int:
        """Start an export; the records are read when it is done."""
        source, statement = self.open(env, text, ["get"])
        source.selected(statement)

        def write() -> tuple[int, str]:
            records = source.export(statement)
            return len(records), self._storage.write(env, path, write_file(records, file_type))

        return self._begin(env, Export(write))

    def look_at_job(self, env: str, job_id: int) -> Result:
        """Count a look at a job and tell how far it is."""
        self._ground.need_normal(env)
        job = self._jobs.get(job_id)
        if job is None or job.env != env:
            raise refuse(40097, f"job_id {job_id}")
        return job.look(self._ground.clock())

    def _begin(self, env: str, work: Import | Export) -> int:
        job_id = _FIRST_JOB + len(self._jobs)
        self._jobs[job_id] = Job(env, work, self._ground.begin())
        return job_id

    def _settle(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            job.settle(self._ground.clock())

    def _new_id(self) -> str:
        return f"{self._ground.random.getrandbits(128):032x}"

    def _now(self) -> datetime:
        stamp = datetime.strptime(self._ground.stamp(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA)
        return stamp.astimezone(UTC)
