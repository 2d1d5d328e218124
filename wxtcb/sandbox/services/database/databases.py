"""Databases of all environments, and the jobs that import and export records."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import orjson
from attrs import asdict, define, field, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import Readiness, ServiceContext
from wxtcb.sandbox.services.database.collection import DatabaseCollection
from wxtcb.sandbox.services.database.statements import Statement, StatementOperation, parse_statement
from wxtcb.sandbox.services.database.values import DatabaseRecord, Evaluator, Value, decode_record, encode_record
from wxtcb.sandbox.services.storage import FileStorage

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler

FILE_TYPE_JSON: Final = 1
FILE_TYPE_CSV: Final = 2
CONFLICT_MODE_UPSERT: Final = 2

_ACL_TAGS: Final = ("READONLY", "PRIVATE", "ADMINWRITE", "ADMINONLY", "CUSTOM")
_Key = tuple[str, str]


@frozen
class JobState:
    """State of a job, with the names in the reply."""

    status: str
    record_success: int = 0
    record_fail: int = 0
    error_msg: str = ""
    file_url: str = ""


@define(eq=False)
class DatabaseJob:
    """A job. Its work runs once it is due."""

    env: str
    _running_status: str
    _task: Callable[[], JobState] = field(repr=False)
    _readiness: Readiness
    _result: JobState | None = None

    def poll(self, now: float) -> JobState:
        """Count a poll and return the state that it shows."""
        if self._readiness.poll(now):
            self.run_if_due(now)
        if self._result is not None:
            return self._result
        # The first poll shows a job that has not started yet.
        return JobState("waiting" if self._readiness.poll_count == 1 else self._running_status)

    def run_if_due(self, now: float) -> None:
        if self._result is None and self._readiness.is_ready(now):
            self._result = self._task()


def read_records(data: bytes, file_type: int) -> Iterator[DatabaseRecord | ValueError]:
    """Yield the records of a file. For an invalid record, yield the reason."""
    data = data.removeprefix(codecs.BOM_UTF8)
    is_json = file_type == FILE_TYPE_JSON
    lines = (line for line in data.split(b"\n") if line.strip()) if is_json else _csv_to_json_lines(data)
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
    writer.writerows(
        {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in row.items()}
        for row in rows
    )
    return file.getvalue().encode()


def _csv_to_json_lines(data: bytes) -> Iterator[bytes | ValueError]:
    """Yield each row as the JSON of its record. The first row contains the keys. Empty cells are omitted."""
    try:
        rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        names = next(rows, [])
        for row in rows:
            if len(row) > len(names):
                yield ValueError("more cells than keys")
            elif row:
                cells = zip(names, row, strict=False)
                yield orjson.dumps({name: _parse_cell(cell) for name, cell in cells if cell})
    except (UnicodeDecodeError, csv.Error) as error:
        yield ValueError(str(error))


def _parse_cell(cell: str) -> Value:
    """Return a cell as JSON if it is valid JSON, else as a string."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


@define(eq=False)
class Databases:
    """The collections and records of the environments, and the jobs."""

    _context: ServiceContext = field(repr=False)
    _storage: FileStorage = field(repr=False)
    _collections: dict[_Key, DatabaseCollection] = field(init=False, repr=False, factory=dict[_Key, DatabaseCollection])
    _jobs: dict[int, DatabaseJob] = field(init=False, repr=False, factory=dict[int, DatabaseJob])

    def add_collection(self, env: str, name: str) -> DatabaseCollection:
        self._context.require_normal(env)
        if (env, name) in self._collections:
            # Programs that may run twice look for "Table exist" in the platform's message.
            raise platform_error(-502001, f"Table exist: {name}")
        collection = self._collections[env, name] = DatabaseCollection(name, self._new_id)
        return collection

    def drop_collection(self, env: str, name: str) -> None:
        self.collection(env, name)
        del self._collections[env, name]

    def collection(self, env: str, name: str) -> DatabaseCollection:
        """Return a collection after running all due jobs. Raise `PlatformError` if it does not exist."""
        self._context.require_normal(env)
        # A due import must be visible to every later statement, even if its job was never polled.
        self._run_due_jobs()
        collection = self._collections.get((env, name))
        if collection is None:
            raise platform_error(-502005, f"collection {name}")
        return collection

    def start_import(self, body: Body) -> Mapping[str, object]:
        """Start a job that imports a file of the environment's storage. The file is read when the job is due."""
        env, path, stop_on_error = body.string("env"), body.string("file_path"), body.boolean("stop_on_error")
        file_type = _require_one_of(body, "file_type")
        replace = _require_one_of(body, "conflict_mode") == CONFLICT_MODE_UPSERT
        target = self._named_collection(body)

        def run() -> JobState:
            data = self._storage.read(env, path)
            if data is None:
                return JobState("fail", error_msg="文件不存在.")
            done = failed = 0
            for record in read_records(data, file_type):
                error = str(record) if isinstance(record, ValueError) else _put_error(target, record, replace=replace)
                done, failed = done + (error is None), failed + (error is not None)
                if error is not None and stop_on_error:
                    return JobState("fail", done, failed, error)
            return JobState("success", done, failed, "导入完成.")

        return self._start_job(env, "reading", run)

    def start_export(self, body: Body) -> Mapping[str, object]:
        """Start a job that exports a collection to a file. The records are read when the job is due."""
        env, path, file_type = body.string("env"), body.string("file_path"), _require_one_of(body, "file_type")
        source, statement = self._open_statement(body, "get")
        # Reject an invalid query now, not when the job runs.
        source.select(statement)

        def run() -> JobState:
            records = source.export(statement)
            url = self._storage.write(env, path, write_records(records, file_type))
            return JobState("success", len(records), error_msg="导出完成.", file_url=url)

        return self._start_job(env, "migrating", run)

    def poll_job(self, body: Body) -> Mapping[str, object]:
        """Count a poll of a job and return its state; a failed job is reported with errcode 0."""
        env, job_id = body.string("env"), body.integer("job_id", 0)
        self._context.require_normal(env)
        job = self._jobs.get(job_id)
        if job is None or job.env != env:
            raise platform_error(40097, f"job_id {job_id}")
        return asdict(job.poll(self._context.clock()))

    def aggregate(self, body: Body) -> Mapping[str, object]:
        collection, statement = self._open_statement(body, "end")
        # Records are strings of JSON in a reply, not objects.
        return {"data": [encode_record(record) for record in collection.aggregate(statement)]}

    def get_acl(self, body: Body) -> Mapping[str, object]:
        """Return the access rule of a collection; the sandbox does not apply it."""
        collection = self._named_collection(body)
        rule = {"rule": collection.rule} if collection.rule else {}
        return {"acl_tag": collection.acl_tag, **rule}

    def modify_acl(self, body: Body) -> None:
        """Set the access rule of a collection; only CUSTOM has a rule expression."""
        collection = self._named_collection(body)
        tag, rule = body.string("acl_tag"), body.optional_string("rule") or ""
        if tag not in _ACL_TAGS:
            raise platform_error(40097, f"acl_tag {tag}")
        if tag == "CUSTOM" and not rule:
            raise platform_error(40097, "rule is empty")
        collection.acl_tag, collection.rule = tag, rule if tag == "CUSTOM" else ""

    def handle_records(self, body: Body) -> Mapping[str, object]:
        match body.string("action"):
            case "insert":
                collection, statement = self._open_statement(body, "add")
                return {"id_list": collection.insert(statement)}
            case "delete":
                collection, statement = self._open_statement(body, "remove")
                return {"deleted": collection.remove(statement)}
            case "update":
                collection, statement = self._open_statement(body, "update", "set")
                return collection.update(statement)
            case _:
                collection, statement = self._open_statement(body, "get")
                return collection.query(statement)

    def handle_indexes(self, body: Body) -> None:
        collection, indexes = self._named_collection(body), body.objects("indexes")
        if body.string("action") == "create":
            collection.add_indexes({index.string("name"): _index_keys(index) for index in indexes})
        else:
            collection.drop_indexes([index.string("name") for index in indexes])

    def handle_collections(self, body: Body) -> Mapping[str, object] | None:
        """Create or delete a collection, or list a page of collections, oldest first."""
        env = body.string("env")
        change = {"add": self.add_collection, "del": self.drop_collection}.get(body.string("action"))
        if change is not None:
            change(env, body.string("collection_name"))
            return None
        page = body.page()
        self._context.require_normal(env)
        self._run_due_jobs()
        found = [collection for (owner, _), collection in self._collections.items() if owner == env]
        return {"collections": [collection.stats() for collection in found[page]], "total": len(found)}

    def _named_collection(self, body: Body) -> DatabaseCollection:
        return self.collection(body.string("env"), body.string("collection_name"))

    def _open_statement(self, body: Body, *operations: StatementOperation) -> tuple[DatabaseCollection, Statement]:
        """Parse the query, which must be one of these operations, and return it with its collection."""
        env = body.string("env")
        self._context.require_normal(env)
        statement = parse_statement(body.string("query"), Evaluator(self._context.utc_now))
        if statement.operation not in operations:
            raise platform_error(40097, f"query: {statement.operation}() is not an operation of this action")
        return self.collection(env, statement.collection), statement

    def _start_job(self, env: str, running_status: str, task: Callable[[], JobState]) -> Mapping[str, object]:
        job_id = 100_000_001 + len(self._jobs)
        self._jobs[job_id] = DatabaseJob(env, running_status, task, self._context.start_operation())
        return {"job_id": job_id}

    def _run_due_jobs(self) -> None:
        for job in self._jobs.values():
            job.run_if_due(self._context.clock())

    def _new_id(self) -> str:
        return f"{self._context.random.getrandbits(128):032x}"


def _put_error(collection: DatabaseCollection, record: DatabaseRecord, *, replace: bool) -> str | None:
    """Store a record, and return why it is rejected, or None."""
    try:
        collection.put(record, replace=replace)
    except PlatformError as error:
        return error.message
    return None


def _require_one_of(body: Body, name: str) -> int:
    value = body.integer(name, 0)
    if value not in (1, 2):
        raise platform_error(40097, f"{name} {value}")
    return value


def _index_keys(index: Body) -> list[tuple[str, str]]:
    keys = [(key.string("name"), key.string("direction")) for key in index.objects("keys")]
    for _, direction in keys:
        if direction not in ("1", "-1", "2dsphere"):
            raise platform_error(40097, f"direction {direction}")
    return keys


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/dbimport": lambda world, body: world.databases.start_import(body),
    "/componenttcb/dbexport": lambda world, body: world.databases.start_export(body),
    "/componenttcb/dbmigrationstate": lambda world, body: world.databases.poll_job(body),
    "/componenttcb/dbaggregate": lambda world, body: world.databases.aggregate(body),
    "/componenttcb/dbgetacl": lambda world, body: world.databases.get_acl(body),
    "/componenttcb/dbmodifyacl": lambda world, body: world.databases.modify_acl(body),
    "/componenttcb/dbrecord": lambda world, body: world.databases.handle_records(body),
    "/componenttcb/dbindex": lambda world, body: world.databases.handle_indexes(body),
    "/componenttcb/dbcollection": lambda world, body: world.databases.handle_collections(body),
}
