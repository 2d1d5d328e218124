"""The demo: one command starts everything and stops it again, however it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from .backends import ROOT

# It handles Ctrl-C even if the test run ignores it, as one in the background does.
RUN = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMMAND = (sys.executable, "-W", "error", "-c", RUN, str(ROOT / "examples" / "demo.py"))


async def start(customers: int = 20) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*COMMAND, str(customers), stdout=pipe, stderr=asyncio.subprocess.STDOUT)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_the_demo_provisions_and_stops_everything() -> None:
    """Each customer gets an environment, and the command succeeds."""
    process = await start()
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    lines = output.decode().splitlines()
    assert "20 environments; tenants: 20 done" in lines[-3]
    assert lines[-2:] == ["20 environments were opened for 20 tenants", "everything is stopped"]


@pytest.mark.parametrize("number", [signal.SIGINT, None])
async def test_an_interrupted_demo_leaves_nothing(number: signal.Signals | None) -> None:
    """After Ctrl-C, or an error such as a closed standard output, no process and no file is left."""
    # So many that it does not end by itself first, however busy the machine is.
    process = await start(2_000)
    assert process.stdout is not None
    folder = Path((await process.stdout.readline()).decode().split()[-1])
    while b"sign up" not in (line := await process.stdout.readline()):
        assert line
    children = psutil.Process(process.pid).children(recursive=True)
    # PostgreSQL with its processes and its watcher, and uvicorn with its own.
    assert len(children) > 6
    if number is None:
        process._transport.get_pipe_transport(1).close()
    else:
        process.send_signal(number)
        output = (await process.stdout.read()).decode()
        assert output.endswith("interrupted; everything is stopped\n")
    code = await process.wait()
    assert code == 130 if number else code > 0
    assert [child for child in children if not is_gone(child)] == []
    assert not await asyncio.to_thread(folder.exists)
