"""Jobs of procrastinate that drain a platform, on a real PostgreSQL server, with a provisioner that does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import procrastinate
import psycopg
import pytest
from procrastinate.exceptions import ConnectorException, UnboundTaskError

from wxtcb.errors import InvalidArgument
from wxtcb.provision import ProvisioningClient, Tenant, procrastinate as module
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.events import TermStarted
from wxtcb.provision.journal import JournalIdentity
from wxtcb.provision.postgres.journal import PostgresJournal
from wxtcb.provision.procrastinate import ProvisioningBlueprint
from wxtcb.provision.worker import Drained

from .test_postgres_desired import DRIVERS

PLATFORM = "wx0123456789abcdef"
CLOCK_OFFSET = 3600.0
DRAIN = "wxtcb:drain"

Drain = Callable[[], Awaitable[Drained]]


@attrs.define
class FakeProvisioner:
    """A provisioner of a host whose clock is an hour ahead; `results` are those of its drains, or what they do."""

    results: list[Drained | Exception | Drain] = attrs.field(factory=list)
    drained: list[str] = attrs.field(factory=list)
    platform: str = ""
    lease: float = 30.0

    def clock(self) -> float:
        return time.time() + CLOCK_OFFSET

    @contextlib.asynccontextmanager
    async def open(self, platform: str) -> AsyncIterator[FakeProvisioner]:
        self.platform = platform
        yield self

    async def drain(self, *, on_event: Callable[[object], None]) -> Drained:
        self.drained.append(self.platform)
        on_event(TermStarted(7))
        result = self.results.pop(0) if self.results else Drained(elected=True)
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Drained) else await result()


@attrs.define
class Harness:
    """An app with the blueprint, the database of its jobs, and the provisioner that its worker uses."""

    app: procrastinate.App
    blueprint: ProvisioningBlueprint
    provisioner: FakeProvisioner
    execute: Callable[..., list[tuple[Any, ...]]]
    url: str
    events: list[tuple[str, object]]

    async def work(self, **options: Any) -> None:
        """Run a worker until no job is due."""
        await self.app.run_worker_async(wait=False, listen_notify=False, install_signal_handlers=False, **options)

    def jobs(self) -> list[tuple[str, float | None]]:
        """Return the status of each drain, and for one that waits the seconds until it is due."""
        return self.execute(
            "SELECT status::text, extract(epoch FROM scheduled_at - now())::float8 FROM procrastinate_jobs"
            f" WHERE task_name = '{DRAIN}' ORDER BY id"
        )

    def follow_ups(self) -> list[int]:
        """Return for each drain that is scheduled in how many minutes it is due."""
        return [round(seconds / 60) for status, seconds in self.jobs() if status == "todo" and seconds is not None]

    async def begin(self) -> asyncio.Task[None]:
        """Run a worker whose drain never ends by itself, and return it once the drain has begun."""
        begun = asyncio.Event()

        async def drain() -> Drained:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        self.provisioner.results.append(drain)
        await self.blueprint.defer(PLATFORM)
        worker = asyncio.create_task(self.work(abort_job_polling_interval=0.02))
        await begun.wait()
        return worker

    async def fetch(self) -> int:
        """Begin a job as a worker that dies at once, and return its id."""
        worker = await self.app.job_manager.register_worker()
        job = await self.app.job_manager.fetch_job(None, worker)
        self.execute(f"UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 s' WHERE id = {worker}")
        return job.id

    def context(self) -> procrastinate.JobContext:
        """Return the context of a job that its worker aborts because its grace has passed."""
        return procrastinate.JobContext(
            app=self.app,
            job=self.blueprint._drain.configure(task_kwargs={"platform": PLATFORM}).job,
            start_timestamp=0.0,
            abort_reason=lambda: module.AbortReason.SHUTDOWN,
        )

    async def rescue(self) -> None:
        """Do what the periodic task does; a worker would delete the rows of dead workers first."""
        await self.blueprint._run_rescue(self.context(), 0)


@pytest.fixture(scope="module")
def database(postgres: Any) -> Iterator[str]:
    """Create a database with the tables of procrastinate."""
    name = postgres.create_database()
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=postgres.url(name))).open() as app:
        app.schema_manager.apply_schema()
    yield name
    postgres.drop_database(name)


@pytest.fixture
async def harness(postgres: Any, database: str) -> AsyncIterator[Harness]:
    """Open an app with the blueprint; its tables are empty."""
    url, provisioner, events = postgres.url(database, tcp=True), FakeProvisioner(), []
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    blueprint = ProvisioningBlueprint(
        provisioner.open,
        rescue_cron="0 0 1 1 *",
        on_event=lambda platform, event: events.append((platform, event)),
    )
    app.add_tasks_from(blueprint, namespace="wxtcb")
    async with app.open_async():
        yield Harness(app, blueprint, provisioner, lambda sql: postgres.execute(sql, database=database), url, events)
    postgres.truncate(database)


@pytest.fixture
async def client(harness: Harness) -> AsyncIterator[ProvisioningClient]:
    """Open a client of a journal in the database of the jobs."""
    async with PostgresJournal(harness.url) as journal:
        await journal.bind_identity(JournalIdentity(component_appid=PLATFORM, on_loopback=True, namespace=PLATFORM))
        yield ProvisioningClient(journal)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_tenants_and_job_are_submitted_together(
    harness: Harness, client: ProvisioningClient, driver: str
) -> None:
    """Both exist if the caller commits, and neither exists if the caller rolls back; with each driver."""
    with contextlib.suppress(ZeroDivisionError):
        async with DRIVERS[driver](harness.url) as connection:
            await harness.blueprint.submit(PLATFORM, client, [Tenant("a")], connection=connection)
            raise ZeroDivisionError
    assert (harness.jobs(), await client.status("a")) == ([], None)
    async with DRIVERS[driver](harness.url) as connection:
        submission = await harness.blueprint.submit(PLATFORM, client, [Tenant("a")], connection=connection)
    assert submission.new == 1
    assert (await client.counts())[DesiredState.WAITING] == 1
    await harness.work()
    assert harness.provisioner.drained == [PLATFORM]


async def test_submissions_do_not_wait_for_each_other(harness: Harness) -> None:
    """Two open transactions defer a job of the same platform, and both commit."""
    options = "-c lock_timeout=10s"
    async with await psycopg.AsyncConnection.connect(harness.url, options=options) as first:
        await harness.blueprint.defer(PLATFORM, connection=first)
        async with await psycopg.AsyncConnection.connect(harness.url, options=options) as second:
            await harness.blueprint.defer(PLATFORM, connection=second)
    await harness.work()
    assert harness.provisioner.drained == [PLATFORM]


async def test_queueing_lock_would_let_them_wait(harness: Harness) -> None:
    """Control: with a lock of procrastinate for the platform, the second transaction waits for the first."""
    deferral = harness.blueprint._drain.configure
    async with await psycopg.AsyncConnection.connect(harness.url) as first:
        await deferral(queueing_lock=PLATFORM, connection=first).defer_async(platform=PLATFORM)
        options = "-c lock_timeout=10ms"
        async with await psycopg.AsyncConnection.connect(harness.url, options=options) as second:
            with pytest.raises(ConnectorException) as caught:
                await deferral(queueing_lock=PLATFORM, connection=second).defer_async(platform=PLATFORM)
            assert isinstance(caught.value.__cause__, psycopg.errors.LockNotAvailable)


async def test_waiting_jobs_of_a_platform_become_one(harness: Harness) -> None:
    """The first one drains what all of them were deferred for; other platforms have their own."""
    for platform in (PLATFORM, "other", PLATFORM, PLATFORM):
        await harness.blueprint.defer(platform)
    await harness.work()
    assert harness.provisioner.drained == [PLATFORM, "other"]
    assert [status for status, _ in harness.jobs()] == ["succeeded", "succeeded"]


async def test_events_reach_the_application(harness: Harness) -> None:
    """Each with the key of its platform."""
    await harness.blueprint.defer(PLATFORM)
    await harness.work()
    assert harness.events == [(PLATFORM, TermStarted(7))]


async def test_paused_platform_comes_back_after_the_pause(harness: Harness) -> None:
    """The time is that of the drain, although this host's clock differs from that of the database."""
    at = datetime.fromtimestamp(time.time() + CLOCK_OFFSET + 5 * 3600, UTC)
    harness.provisioner.results.append(Drained(elected=True, waiting=3, retry_after=at))
    await harness.blueprint.defer(PLATFORM)
    await harness.work()
    assert harness.follow_ups() == [300]


async def test_earliest_follow_up_counts(harness: Harness) -> None:
    """A later one neither replaces it nor is added; an earlier one replaces it."""
    for hours in (5, 7, 2):
        at = datetime.fromtimestamp(time.time() + CLOCK_OFFSET + hours * 3600, UTC)
        harness.provisioner.results.append(Drained(elected=True, waiting=3, retry_after=at))
        await harness.blueprint.defer(PLATFORM)
        await harness.work()
    assert harness.follow_ups() == [120]


async def test_job_that_is_not_elected_comes_back_after_the_lease(harness: Harness) -> None:
    """Another process has the platform, and may die."""
    harness.provisioner.lease = 180.0
    harness.provisioner.results.append(Drained(elected=False))
    await harness.blueprint.defer(PLATFORM)
    await harness.work()
    assert harness.follow_ups() == [3]


async def test_failed_job_comes_back(harness: Harness) -> None:
    """It is shown as failed, and its platform is drained again in a minute."""
    harness.provisioner.results.append(OSError("no route to the database"))
    await harness.blueprint.defer(PLATFORM)
    await harness.work()
    assert (harness.jobs()[0][0], harness.follow_ups()) == ("failed", [1])


async def test_worker_that_stops_hands_over(harness: Harness) -> None:
    """The drain is cancelled at once, its job ends without an error, and another one is due."""
    worker = await harness.begin()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert [status for status, _ in harness.jobs()] == ["succeeded", "todo"]
    assert harness.follow_ups() == [0]


async def test_worker_without_the_stop_event_hands_over_after_its_grace(harness: Harness) -> None:
    """A job that the worker cancels because its grace has passed has a follow-up too."""
    context = harness.context()
    harness.provisioner.results.append(asyncio.Event().wait)
    job = asyncio.create_task(
        harness.blueprint._stop_with_worker(lambda: harness.blueprint._run_drain(context, PLATFORM), context, object())
    )
    while not harness.provisioner.drained:
        await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert harness.follow_ups() == [0]


async def test_aborted_job_does_not_come_back(harness: Harness) -> None:
    """An operator who aborts it wants that the platform is not drained."""
    worker = await harness.begin()
    ((number,),) = harness.execute("SELECT id FROM procrastinate_jobs WHERE status = 'doing'")
    await harness.app.job_manager.cancel_job_by_id_async(number, abort=True)
    await worker
    assert [status for status, _ in harness.jobs()] == ["aborted"]


@attrs.define
class Outage:
    """A database that rejects or delays the statement of the follow-up."""

    harness: Harness
    failures: int
    reached: asyncio.Event = attrs.field(factory=asyncio.Event)
    over: asyncio.Event = attrs.field(factory=asyncio.Event)

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = self.harness.app.connector.execute_query_all_async

        async def interrupted(query: str, **arguments: Any) -> Any:
            if query == module._DEFER_LATER:
                if self.failures:
                    self.failures -= 1
                    raise ConnectorException
                self.reached.set()
                await self.over.wait()
            return await execute(query, **arguments)

        monkeypatch.setattr(module, "_STORE_INTERVAL", 0.0)
        monkeypatch.setattr(self.harness.app.connector, "execute_query_all_async", interrupted)


async def test_follow_up_waits_for_the_database(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job does not end before its follow-up is stored."""
    harness.provisioner.results.append(Drained(elected=False))
    outage = Outage(harness, failures=3)
    outage.over.set()
    outage.begin(monkeypatch)
    await harness.blueprint.defer(PLATFORM)
    await harness.work()
    assert len(harness.follow_ups()) == 1
    assert outage.failures == 0


async def test_follow_up_is_stored_while_the_worker_stops(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that arrives meanwhile does not lose it."""
    harness.provisioner.results.append(Drained(elected=False))
    outage = Outage(harness, failures=0)
    outage.begin(monkeypatch)
    await harness.blueprint.defer(PLATFORM)
    worker = asyncio.create_task(harness.work())
    await outage.reached.wait()
    worker.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    outage.over.set()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert len(harness.follow_ups()) == 1


async def test_job_of_a_dead_worker_is_replaced_once(harness: Harness) -> None:
    """Its successor runs, and the end of the old job, should the worker resume, does not touch the successor."""
    await harness.blueprint.defer(PLATFORM)
    stalled = await harness.fetch()
    await harness.rescue()
    await harness.rescue()
    assert [status for status, _ in harness.jobs()] == ["doing", "todo"]
    assert [*await harness.app.job_manager.list_jobs_to_abort_async()] == [stalled]
    await harness.app.job_manager.finish_job_by_id_async(stalled, procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
    await harness.work()
    assert harness.provisioner.drained == [PLATFORM]


async def test_retry_of_procrastinate_would_lose_the_successor(harness: Harness) -> None:
    """Control: the worker that resumes ends the job that was retried, and the platform is not drained."""
    await harness.blueprint.defer(PLATFORM)
    stalled = await harness.fetch()
    manager = harness.app.job_manager
    for job in await manager.get_stalled_jobs():
        await manager.retry_job(job)
    await manager.finish_job_by_id_async(stalled, procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
    await harness.work()
    assert harness.provisioner.drained == []


async def test_job_of_a_deleted_worker_is_replaced(harness: Harness) -> None:
    """A worker that starts deletes the rows of dead ones; the periodic task then finds their jobs."""
    await harness.blueprint.defer(PLATFORM)
    await harness.fetch()
    await harness.blueprint._rescue.defer_async(timestamp=0)
    await harness.work()
    assert harness.provisioner.drained == [PLATFORM]
    assert [status for status, _ in harness.jobs()] == ["doing", "succeeded"]


async def test_job_of_a_live_worker_is_left_alone(harness: Harness) -> None:
    """A worker is dead only without a heartbeat for a while."""
    await harness.blueprint.defer(PLATFORM)
    await harness.fetch()
    harness.execute("UPDATE procrastinate_workers SET last_heartbeat = now()")
    await harness.rescue()
    assert [status for status, _ in harness.jobs()] == ["doing"]


async def test_job_that_another_worker_has_just_begun_is_left_alone(harness: Harness) -> None:
    """The rescue waits for no lock, and judges the job again once it has it."""
    await harness.blueprint.defer(PLATFORM)
    stalled = await harness.fetch()
    async with await psycopg.AsyncConnection.connect(harness.url) as other:
        await other.execute(
            "WITH worker AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id)"
            " UPDATE procrastinate_jobs SET worker_id = worker.id FROM worker WHERE procrastinate_jobs.id = %s",
            [stalled],
        )
        await harness.rescue()
    await harness.rescue()
    assert [status for status, _ in harness.jobs()] == ["doing"]


async def test_stalled_rescue_stops_no_other_rescue(harness: Harness) -> None:
    """It is ended like a drain, but not begun again, for the next one is periodic."""
    await harness.blueprint._rescue.defer_async(timestamp=0)
    stalled = await harness.fetch()
    await harness.blueprint.defer(PLATFORM)
    await harness.fetch()
    await harness.rescue()
    assert [status for status, _ in harness.jobs()] == ["doing", "todo"]
    tasks = harness.execute(f"SELECT abort_requested FROM procrastinate_jobs WHERE id = {stalled}")
    assert tasks == [(True,)]


async def test_job_whose_worker_never_comes_back_ends_as_failed(harness: Harness) -> None:
    """An hour after it was replaced."""
    await harness.blueprint.defer(PLATFORM)
    await harness.fetch()
    await harness.rescue()
    harness.execute("UPDATE procrastinate_events SET at = at - interval '61 min' WHERE type = 'abort_requested'")
    await harness.rescue()
    assert [status for status, _ in harness.jobs()] == ["failed", "todo"]


async def test_rescue_is_begun_before_drains(harness: Harness) -> None:
    """Drains that wait for a worker may last for hours."""
    await harness.blueprint.defer(PLATFORM)
    await harness.blueprint._rescue.defer_async(timestamp=0)
    job = await harness.app.job_manager.fetch_job(None, await harness.app.job_manager.register_worker())
    assert job.task_name == "wxtcb:rescue"


async def test_blueprint_without_an_app_defers_nothing(harness: Harness) -> None:
    """Without the namespace, no worker would find the task."""
    blueprint = ProvisioningBlueprint(harness.provisioner.open)
    with pytest.raises(UnboundTaskError):
        await blueprint.defer(PLATFORM)
    with pytest.raises(UnboundTaskError):
        blueprint.deferral(PLATFORM)


async def test_invalid_arguments_are_rejected(harness: Harness) -> None:
    """With a message that names the argument."""
    with pytest.raises(InvalidArgument, match="stalled_after"):
        ProvisioningBlueprint(harness.provisioner.open, stalled_after=0.0)
    with pytest.raises(InvalidArgument, match="queue"):
        ProvisioningBlueprint(harness.provisioner.open, queue="")
    with pytest.raises(InvalidArgument, match="platform"):
        harness.blueprint.deferral("")
    with pytest.raises(InvalidArgument, match="platform"):
        await harness.blueprint.defer("")


def test_provisioning_does_not_load_procrastinate() -> None:
    """Neither does `import wxtcb`; it is an extra."""
    code = "import json, sys, wxtcb.provision, wxtcb.provision.client; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {"procrastinate", "wxtcb.provision.procrastinate", "psycopg"} & {*loaded} == set()
