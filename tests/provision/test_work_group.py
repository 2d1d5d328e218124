"""Work groups: what waits in one ends when the group is halted."""

from __future__ import annotations

import asyncio

import pytest

from wxtcb.errors import SendVetoed
from wxtcb.provision.work_group import WorkGroup

from .conftest import Harness

pytestmark = pytest.mark.virtual_time


async def test_halt_at_the_end_of_a_sleep(harness: Harness) -> None:
    """Of both in one turn of the loop, the halt counts."""
    group = WorkGroup(harness.session, lambda _: None, lambda _: None, None)
    asyncio.get_running_loop().call_later(1, group.halt)
    with pytest.raises(SendVetoed):
        await group.sleep(1)
    with pytest.raises(SendVetoed):
        await group.sleep(1)


async def test_task_that_is_cancelled_when_its_group_is_halted_logs_nothing(harness: Harness) -> None:
    """The error of the halt is not one that was never retrieved."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    group = WorkGroup(harness.session, lambda _: None, lambda _: None, None)
    task = asyncio.create_task(group.sleep(9))
    await asyncio.sleep(1)
    group.halt()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del task
    assert reported == []
