"""Provisioning as jobs of procrastinate: one job drains what is desired of one platform, on any worker.

Requires the extra `procrastinate`. The job decides only which process works, and when: what is safe rests on the
election and the journal, so two jobs of a platform at the same time are harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, cast

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.job_context import AbortReason

from wxtcb import validation
from wxtcb._concurrency.tasks import wait_shielded
from wxtcb.provision.client import ProvisioningClient, Submission
from wxtcb.provision.events import RunEvent
from wxtcb.provision.postgres.caller_connection import Statement, fetch_one
from wxtcb.provision.provisioner import Provisioner
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.worker import Drained

__all__ = ["ProvisioningBlueprint"]

# Seconds until a drain that failed is tried again.
_RETRY_DELAY: Final = 60.0
# Seconds after which a worker that stops has released its term (`Provisioner.drain`).
_HANDOVER_DELAY: Final = 1.0
_STORE_INTERVAL: Final = 1.0

# No queueing_lock: in the transaction of a caller, a second job with the same one would wait for the transaction that
# inserted the first, abort its own transaction, or be left out although the first job has already read what is desired.
_DEFER: Final = """\
SELECT procrastinate_defer_jobs_v1(array_agg(ROW(
    task.fields[1], task.fields[2], task.fields[3]::integer, NULL, NULL, jsonb_build_object('platform', platform), NULL
)::procrastinate_job_to_defer_v1)) FROM unnest($1::text[]) AS platform, (SELECT $2::text[] AS fields) AS task"""
# At most one follow-up of a platform waits, for the earliest time. `Task.defer` cannot bring a job forward.
_DEFER_LATER: Final = """\
INSERT INTO procrastinate_jobs AS job (queue_name, task_name, priority, queueing_lock, args, scheduled_at)
VALUES (%(queue)s, %(task)s, %(priority)s, %(lock)s, jsonb_build_object('platform', %(platform)s::text),
    now() + %(seconds)s * interval '1 second')
ON CONFLICT (queueing_lock) WHERE status = 'todo'
DO UPDATE SET scheduled_at = least(job.scheduled_at, excluded.scheduled_at) RETURNING id"""
# Whatever was submitted together with these jobs is committed, so the present job drains it too.
_DELETE_COVERED: Final = """\
SELECT procrastinate_cancel_job_v1(id, false, true) FROM (
    SELECT id FROM procrastinate_jobs
    WHERE status = 'todo' AND task_name = %(task)s AND args->>'platform' = %(platform)s
        AND (scheduled_at IS NULL OR scheduled_at <= now())
    FOR UPDATE SKIP LOCKED
) AS covered"""
_GONE: Final = """\
NOT EXISTS (
    SELECT FROM procrastinate_workers worker
    WHERE worker.id = job.worker_id AND worker.last_heartbeat >= now() - %(seconds)s * interval '1 second')"""
# A new job instead of `retry_job`: the worker may resume, and its `finish_job` would end the job of its successor, also
# one that has not begun. It finds the request to abort instead, and ends its own job. The second SELECT reads the row
# again under the lock: a job that another worker has taken meanwhile is left alone.
_REPLACE_STALLED: Final = f"""\
WITH stalled AS MATERIALIZED (
    SELECT id, worker_id FROM procrastinate_jobs job
    WHERE status = 'doing' AND NOT abort_requested AND task_name = ANY(%(tasks)s) AND {_GONE}
), locked AS MATERIALIZED (
    SELECT job.id, queue_name, task_name, priority, args FROM stalled JOIN procrastinate_jobs job
        ON job.id = stalled.id AND job.worker_id IS NOT DISTINCT FROM stalled.worker_id
    WHERE status = 'doing' AND NOT abort_requested FOR UPDATE OF job SKIP LOCKED
), aborted AS MATERIALIZED (
    SELECT locked.*, procrastinate_cancel_job_v1(id, true, false) FROM locked
)
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW(queue_name, task_name, priority, NULL, NULL, args, NULL)::procrastinate_job_to_defer_v1
) FILTER (WHERE args ? 'platform')) FROM aborted"""
# Their workers never came back.
_END_ABANDONED: Final = f"""\
SELECT procrastinate_finish_job_v1(id, 'failed', false) FROM (
    SELECT id FROM procrastinate_jobs job
    WHERE status = 'doing' AND abort_requested AND task_name = ANY(%(tasks)s) AND {_GONE} AND EXISTS (
        SELECT FROM procrastinate_events event
        WHERE event.job_id = job.id AND event.type = 'abort_requested' AND event.at < now() - interval '1 hour')
    FOR UPDATE SKIP LOCKED
) AS abandoned"""

OpenProvisioner = Callable[[str], AbstractAsyncContextManager[Provisioner]]


class ProvisioningBlueprint(procrastinate.Blueprint):
    """Tasks that provision what is desired; add them with ``app.add_tasks_from(blueprint, namespace="wxtcb")``.

    - `open_provisioner`: gets the key of a platform, such as its component appid, and returns a context manager of an
      open `Provisioner` with a journal of its own. It is called in workers only, for each job.
    - `queue`: queue of the jobs. A worker runs as many of its platforms at a time as its `concurrency` says.
    - `stalled_after`: seconds without a heartbeat after which a worker counts as dead, and its jobs are replaced. It
      must be greater than the `update_heartbeat_interval` of the workers.
    - `rescue_cron`: when workers look for such jobs; a sixth field means seconds.
    - `on_event`: gets the key of the platform and every event; it must return quickly.

    Submit with `submit`, or call `defer` after a `ProvisioningClient` has changed something. A job that fails, pauses
    for a quota, has tenants that wait, or finds that another process is elected, comes back by itself. When a worker
    stops, its jobs hand over within a second.
    """

    def __init__(
        self,
        open_provisioner: OpenProvisioner,
        *,
        queue: str = "wxtcb",
        stalled_after: float = 30.0,
        rescue_cron: str = "* * * * *",
        on_event: Callable[[str, RunEvent], None] | None = None,
    ) -> None:
        validation.check_string("queue", queue)
        validation.check_seconds("stalled_after", stalled_after)
        super().__init__()
        self._open_provisioner = open_provisioner
        self._stalled_after = stalled_after
        self._on_event = on_event or (lambda _platform, _event: None)
        self._drain = self.task(name="drain", queue=queue, pass_context=True, task_middleware=[self._stop_with_worker])(
            self._run_drain
        )
        # Without a `lock`, which a worker that dies during this job would keep. It runs before drains, which last long.
        rescue = self.task(name="rescue", queue=queue, pass_context=True, priority=1, queueing_lock="wxtcb:rescue")
        self._rescue = rescue(self._run_rescue)
        self.periodic(cron=rescue_cron)(self._rescue)

    async def submit(
        self, platform: str, client: ProvisioningClient, tenants: Iterable[Tenant], *, connection: Any
    ) -> Submission:
        """Submit *tenants* (`ProvisioningClient.submit`), and defer the job that provisions them, if you commit both.

        *connection* is of psycopg, asyncpg or SQLAlchemy, in an open transaction, to the database that holds both the
        `PostgresJournal` of *client* and the tables of procrastinate.
        """
        submission = await client.submit(tenants, connection=connection)
        await self.defer(platform, connection=connection)
        return submission

    async def defer(self, platform: str, *, connection: Any = None) -> None:
        """Defer a job for *platform*; call it after `ProvisioningClient.decide`, and after a submission.

        With *connection* (see `submit`), the job belongs to its transaction; without it, the app must be open. Jobs of
        a platform that wait at the same time become one. Raises `JournalError` if the database rejects the statement.
        """
        validation.check_string("platform", platform)
        if connection is None:
            await self._drain.defer_async(platform=platform)
        else:
            await fetch_one(connection, self.deferral(platform))

    def deferral(self, platform: str) -> Statement:
        """Return the SQL statement of `defer`, for any driver and transaction."""
        validation.check_string("platform", platform)
        job = self._drain.configure().job
        return Statement(_DEFER, ([platform], [job.queue, job.task_name, str(job.priority)]))

    async def _run_drain(self, context: procrastinate.JobContext, platform: str) -> str:
        """Drain one platform; return what has happened, for the log of the worker."""
        retry_in: float | None = _RETRY_DELAY
        try:
            await _execute(context.app, _DELETE_COVERED, task=self._drain.name, platform=platform)
            async with self._open_provisioner(platform) as provisioner:
                drained = await provisioner.drain(on_event=partial(self._on_event, platform))
            retry_in = _seconds_to_retry(drained, provisioner)
        except asyncio.CancelledError:
            # Someone who aborts a job wants no other; and a job that was replaced has a successor.
            is_aborted = context.abort_reason() is AbortReason.USER_REQUEST
            retry_in = None if is_aborted else _HANDOVER_DELAY
            raise
        finally:
            if retry_in is not None:
                await self._defer_later(context.app, platform, retry_in)
        return f"{drained.waiting} tenants wait" if drained.elected else "another process is elected"

    async def _stop_with_worker(
        self, call_next: Callable[[], Awaitable[str]], context: procrastinate.JobContext, worker: object
    ) -> str:
        """Run a job, and cancel it when its worker is asked to stop.

        A worker that stops sends no heartbeat, but waits for its jobs: others would begin them again next to it.
        """
        # There is no public attribute. Without it the `shutdown_graceful_timeout` of the worker cancels the job.
        stop: asyncio.Event = getattr(worker, "_stop_event", asyncio.Event())
        job = cast("asyncio.Task[Any]", asyncio.current_task())
        stopping = asyncio.ensure_future(self._stop(stop, job, context))
        try:
            return await call_next()
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            return "handed over"
        finally:
            stopping.cancel()

    async def _stop(self, stop: asyncio.Event, job: asyncio.Task[Any], context: procrastinate.JobContext) -> None:
        await stop.wait()
        job.cancel()
        # The next process need not wait for the last responses of this one.
        await self._defer_later(context.app, str(context.job.task_kwargs["platform"]), _HANDOVER_DELAY)

    async def _defer_later(self, app: procrastinate.App, platform: str, seconds: float) -> None:
        """Defer a follow-up in any case: without it, nothing would drain the platform after this job."""
        storing = asyncio.ensure_future(self._store_follow_up(app, platform, seconds))
        if (cancelled := await wait_shielded(storing)) is not None:
            raise asyncio.CancelledError(*cancelled.args)

    async def _store_follow_up(self, app: procrastinate.App, platform: str, seconds: float) -> None:
        job = self._drain.configure().job
        arguments = {"queue": job.queue, "task": job.task_name, "priority": job.priority, "platform": platform}
        while True:
            try:
                lock = f"{job.task_name}:{platform}"
                await _execute(app, _DEFER_LATER, **arguments, lock=lock, seconds=seconds)
            except ConnectorException:
                # The database is away; if it stays away, the job is found to be stalled.
                await asyncio.sleep(_STORE_INTERVAL)
            else:
                return

    async def _run_rescue(self, context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG002
        """Replace the jobs of workers that are dead."""
        tasks = [self._drain.name, self._rescue.name]
        for query in (_REPLACE_STALLED, _END_ABANDONED):
            await _execute(context.app, query, tasks=tasks, seconds=self._stalled_after)


def _seconds_to_retry(drained: Drained, provisioner: Provisioner) -> float | None:
    """Return the seconds until the platform is to be drained again, or None if nothing waits."""
    if not drained.elected:
        # The other process may die; then its lease ends.
        return provisioner.lease
    # A duration, because the clock of this host may differ from that of the database.
    return None if drained.retry_after is None else max(0.0, drained.retry_after.timestamp() - provisioner.clock())


async def _execute(app: procrastinate.App, query: str, **arguments: object) -> None:
    connector = cast("procrastinate.PsycopgConnector", app.connector)
    await connector.execute_query_all_async(cast("Any", query), **arguments)
