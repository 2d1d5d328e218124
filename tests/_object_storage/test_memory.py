"""Memory of large transfers, and threads that outlive a cancellation."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc

import pytest

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb.api import hosting, storage

MEGABYTE = bytes(1 << 20)
MANY = 50


async def megabytes():
    for _ in range(MANY):
        yield MEGABYTE


@pytest.mark.unmeasured
async def test_large_transfers_use_little_memory(session, site, tmp_path):
    """Uploads from an iterator and a file, and a download, hold only a few pieces, the sandbox included."""
    file = tmp_path / "big"
    tracemalloc.start()
    try:
        up = await storage.upload_file(session, site, "big", megabytes(), size=MANY << 20)
        down = await storage.download_file(session, site, up.file_id, file)
        again = await storage.upload_file(session, site, "big", file)
        page = await hosting.upload_file(session, site, "big", file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {up.size, down.size, again.size, page.size, file.stat().st_size} == {MANY << 20}
    assert peak < 10 << 20


@pytest.mark.parametrize("everybody", [False, True])
async def test_cancelled_caller_waits_for_its_thread(everybody):
    """The cancellation is raised after the thread has ended, also at the end of `asyncio.run`."""
    begun, end, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        end.wait()
        ended.append(True)
        raise OSError("not reported")

    task = asyncio.create_task(run_in_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    for words in ("one", "two"):
        for each in asyncio.all_tasks() - {asyncio.current_task()} if everybody else {task}:
            each.cancel(words)
        await asyncio.sleep(0.001)
    assert not task.done()
    end.set()
    with pytest.raises(asyncio.CancelledError, match="two"):
        await task
    assert ended == [True]
