"""Changes by other processes: one connection that listens for notifications of the database."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import attrs
import psycopg

from wxtcb._concurrency.tasks import end_tasks
from wxtcb.provision.journal import JournalError
from wxtcb.provision.memory import ChangeCounter
from wxtcb.provision.postgres.connection import MAX_PAUSE, Database
from wxtcb.provision.postgres.schema import CHANNEL

# For the first connection; without one, a wait ends only by its timeout.
CONNECT_TIMEOUT: Final = 5.0

log: Final = logging.getLogger(__name__)


@attrs.define(eq=False)
class ChangeListener:
    """Counts the changes of a journal, its own and those of other processes.

    Notifications do not pass a pooler in transaction mode; so who waits must also look from time to time.
    """

    _database: Database
    _changes: ChangeCounter = attrs.field(init=False, factory=ChangeCounter)
    _task: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _listening: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def add(self) -> None:
        """Count a change of this process."""
        self._changes.add()

    async def wait(self, seen: int, timeout: float) -> int:
        self._database.check_usable()
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="wxtcb-postgres-listener")
        if not self._listening.is_set():
            # What changed before it listens would go unnoticed by those who read the state first.
            waiting = asyncio.ensure_future(self._listening.wait())
            await asyncio.wait([waiting, self._task], timeout=CONNECT_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        return await self._changes.wait(seen, timeout)

    async def aclose(self) -> None:
        if self._task is not None:
            await end_tasks([self._task], 0.0)

    async def _listen(self) -> None:
        while True:
            try:
                await self._receive()
            except (psycopg.Error, JournalError) as error:
                log.debug("the connection for notifications was lost (%s); connecting again", type(error).__name__)
                await asyncio.sleep(MAX_PAUSE)

    async def _receive(self) -> None:
        connection = await self._database.connect()
        try:
            await connection.execute(f"LISTEN {CHANNEL}")
            if self._listening.is_set():
                # Changes of the time without a connection went unnoticed.
                self._changes.add()
            self._listening.set()
            async for notification in connection.notifies():
                own = notification.pid in self._database.backends
                if notification.payload == self._database.schema and not own:
                    self._changes.add()
        finally:
            await self._database.discard(connection)
