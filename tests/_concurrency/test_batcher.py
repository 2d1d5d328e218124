"""Batcher: items of the same moment are handled together, whatever becomes of the caller that handles them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest

from wxtcb._concurrency.batcher import Batcher
from wxtcb._concurrency.priority_limiter import PriorityLimiter

pytestmark = pytest.mark.virtual_time


class Handler:
    """Records batches; each takes a second, and the first ones raise `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.errors = [*errors]
        self.limiter = PriorityLimiter(1)
        self.batcher = Batcher(3, lambda one, other: one % 10 != other % 10, self.handle)

    async def handle(self, batch: Sequence[int]) -> None:
        self.batches.append(tuple(batch))
        await asyncio.sleep(1)
        if self.errors:
            raise self.errors.pop(0)

    async def submit(self, item: int) -> None:
        held = False

        async def acquire() -> None:
            nonlocal held
            await self.limiter.acquire((0,))
            held = True

        async def wait(future: asyncio.Future[None]) -> None:
            nonlocal held
            held = False
            self.limiter.release()
            await future

        try:
            await self.batcher.submit(item, acquire, wait)
        finally:
            if held:
                self.limiter.release()


async def test_items_of_one_moment_share_a_batch() -> None:
    """A batch has at most as many as it may, and none that do not fit together."""
    handler = Handler()
    await asyncio.gather(*map(handler.submit, [1, 2, 11, 3, 4]))
    assert handler.batches == [(1, 2, 3), (11, 4)]
    assert handler.limiter.try_acquire()


async def test_error_of_a_batch_is_that_of_each_item() -> None:
    """The next batch is not affected."""
    handler = Handler(ValueError("x"))
    results = await asyncio.gather(*map(handler.submit, [1, 2, 3, 4]), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3 + [type(None)]


async def test_items_of_a_cancelled_caller_are_handled_by_another() -> None:
    """Only the caller that was cancelled ends."""
    handler = Handler()
    tasks = [asyncio.create_task(handler.submit(item)) for item in (1, 2, 3)]
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None), type(None)]
    assert handler.batches == [(1, 2, 3), (2, 3)]
    assert handler.limiter.try_acquire()


async def test_error_of_an_item_whose_caller_has_ended_is_not_logged() -> None:
    """The caller was cancelled while another one handled its item."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    handler = Handler(ValueError("x"))
    tasks = [asyncio.create_task(handler.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, asyncio.CancelledError]
    gc.collect()
    assert reported == []


async def test_item_whose_wait_ended_otherwise_is_left_out_of_the_end() -> None:
    """The others of the batch are not affected."""
    batcher: Batcher[int] = Batcher(3, lambda _one, _other: True, lambda _batch: asyncio.sleep(1))

    async def lead() -> None:
        """Have a slot at once."""

    async def follow() -> None:
        await asyncio.sleep(0.1)

    async def wait(future: asyncio.Future[None]) -> None:
        future.set_exception(ValueError("stopped"))
        await future

    results = await asyncio.gather(
        batcher.submit(1, lead, wait), batcher.submit(2, follow, wait), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), ValueError]


async def test_urgent_waiters_get_a_slot_first() -> None:
    """Equal ones are served in the order of their arrival; a cancelled one passes its slot on."""
    limiter, order = PriorityLimiter(1), list[str]()

    async def work(name: str, priority: int) -> None:
        await limiter.acquire((priority,))
        order.append(name)
        await asyncio.sleep(1)
        limiter.release()

    assert limiter.try_acquire()
    tasks = [asyncio.create_task(work(name, priority)) for name, priority in (("c", 2), ("a", 1), ("b", 1), ("x", 0))]
    await asyncio.sleep(0)
    # In the same turn in which it gets the slot.
    limiter.release()
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "b", "c"]
    assert limiter.try_acquire()
