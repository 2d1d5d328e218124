"""Batcher: items that are ready at the same time are handled together, by the first of them that gets a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


class _BatchCancelled(Exception):
    """The caller that handled the batch was cancelled."""


@attrs.define(repr=False, eq=False)
class Batcher(Generic[T]):
    """Collector of items that wait for a slot; it needs neither a task nor a timer of its own.

    A batch has at most `max_size` items, any two of which satisfy `can_batch`. `handle` handles one batch.
    """

    max_size: int
    can_batch: Callable[[T, T], bool]
    handle: Callable[[Sequence[T]], Awaitable[None]]
    _queue: dict[T, asyncio.Future[None]] = attrs.field(init=False, factory=dict)

    async def submit(
        self, item: T, acquire: Callable[[], Awaitable[None]], wait: Callable[[asyncio.Future[None]], Awaitable[None]]
    ) -> None:
        """Return when *item* was handled, in a batch of this caller or of another one; raise the error of the batch.

        *acquire* waits for a slot, in which this caller handles a batch; *wait* waits for a future.
        """
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue[item] = future
            try:
                # What becomes ready in the same turn of the loop joins the queue before the first takes its batch.
                await asyncio.sleep(0)
                await acquire()
                if item in self._queue:
                    await self._handle_batch(item)
                else:
                    # Another caller has taken the item into its batch, which may still be in progress.
                    await wait(future)
            except _BatchCancelled:
                continue
            finally:
                self._queue.pop(item, None)
            return

    async def _handle_batch(self, first: T) -> None:
        batch = {first: self._queue.pop(first)}
        # Bounded: each of thousands of items would otherwise be compared with all others.
        for item in tuple(islice(self._queue, 2 * self.max_size)):
            if len(batch) == self.max_size:
                break
            if all(self.can_batch(each, item) for each in batch):
                batch[item] = self._queue.pop(item)
        error: BaseException | None = None
        try:
            await self.handle(tuple(batch))
        except BaseException as caught:
            error = caught
            raise
        finally:
            for future in batch.values():
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    # If this caller was cancelled, the others are not: they submit their items again.
                    future.set_exception(error if isinstance(error, Exception) else _BatchCancelled())
                    # Retrieved, so that asyncio does not log it: the caller of that item may have ended already.
                    future.exception()
