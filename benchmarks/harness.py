"""Harness of all benchmarks: child processes on another core, interleaved blocks, and the command line of a script."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import attrs
from figures import Figure, Run, read_runs, render_text, write_runs

EXIT_INVALID: Final = 3
HERE: Final = Path(__file__).parent
PACKAGES: Final = ("wxtcb", "aiohttp", "attrs", "cattrs", "anyio", "orjson", "yarl")

Block = Callable[[], Awaitable[float]]
Call = Callable[[], Awaitable[object]]
Measure = Callable[[argparse.Namespace], Coroutine[None, None, Sequence[Figure]]]


def main(description: str | None, measure: Measure, *switches: str, packages: Sequence[str] = ()) -> int:
    """Run a benchmark as a program: print its figures, and store them with `--json`; return the exit code.

    The exit code is 0, or 3 if the run is invalid. *switches* are the script's own options without a value. The
    versions of *packages* are printed after those of wxtcb's dependencies.
    """
    options = _read_options(description, switches)
    machine = describe_machine((*PACKAGES, *packages))
    print(machine, flush=True)
    figures = tuple(asyncio.run(measure(options)))
    name = " ".join([Path(sys.argv[0]).stem, *(f"--{switch}" for switch in switches if vars(options)[switch])])
    run = Run(name, machine, f"{datetime.now(UTC):%Y-%m-%d}", figures)
    print(render_text(figures))
    if options.json:
        write_runs(options.json, [*read_runs(options.json), run])
    if options.quick:
        print("A quick run only checks that the script works; its figures have no meaning.")
    elif run.invalid:
        print("INVALID: a control deviates by more than 2 %; run the benchmark again on a less busy machine.")
    return EXIT_INVALID if run.invalid and not options.quick else 0


def _read_options(description: str | None, switches: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only check, in seconds, that the script works")
    parser.add_argument("--json", type=Path, metavar="PATH", help="append the run to this file")
    for switch in switches:
        parser.add_argument(f"--{switch}", action="store_true")
    return parser.parse_args()


def describe_machine(packages: Sequence[str]) -> str:
    """Return the interpreter, the machine and the versions of *packages* in one line."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    cores = f"{os.cpu_count()} cores ({_processor()})"
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {cores}; {versions}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(of this checkout)"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


async def interleave(blocks: Mapping[str, Block], rounds: int) -> dict[str, list[float]]:
    """Return the cost of each block in each round, after a warm-up.

    In each round every block runs twice, the second time in reverse order, and every round begins with another block,
    so that no block has a better position. With one round, each block runs once, only to check that it works.
    """
    if rounds == 1:
        return {name: [await block()] for name, block in blocks.items()}
    for block in blocks.values():
        await block()
    # Garbage collection must not count as a cost of the block in which it happens to run.
    gc.collect()
    gc.freeze()
    costs: dict[str, list[float]] = {name: [] for name in blocks}
    order = deque(blocks)
    for _ in range(rounds):
        pair = dict.fromkeys(blocks, 0.0)
        for name in (*order, *reversed(order)):
            gc.collect()
            pair[name] += await blocks[name]() / 2
        for name, each in pair.items():
            costs[name].append(each)
        order.rotate()
    gc.unfreeze()
    return costs


def call_block(call: Call, calls: int, in_flight: int) -> Block:
    """Return a block of *calls* calls with *in_flight* at a time; it costs microseconds of CPU time per call."""

    async def block() -> float:
        remaining = iter(range(calls))

        async def work() -> None:
            for _ in remaining:
                await call()

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return (time.process_time() - started) / calls * 1e6

    return block


def work_block(work: Callable[[], object], times: int) -> Block:
    """Return a block that runs *work* so many times; it costs microseconds of CPU time per run."""

    async def block() -> float:
        started = time.process_time_ns()
        for _ in range(times):
            work()
        return (time.process_time_ns() - started) / times / 1e3

    return block


@attrs.frozen
class ScriptProcess:
    """A script in another process; it prints the line `ready` at start, and ends when its standard input is closed."""

    ready: str
    process: subprocess.Popen[str]

    def finish(self) -> str:
        """Close its standard input; return what it prints until it ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return self.process.stdout.read()


@contextlib.contextmanager
def run_script(script: str, *arguments: str) -> Iterator[ScriptProcess]:
    """Run a script of this directory until the block ends, on another core if the system allows it."""
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        _pin_to_cores(process.pid)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield ScriptProcess(process.stdout.readline(), process)
        finally:
            process.stdin.close()


# Read at import, before `_pin_to_cores` restricts this process to one core.
_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin_to_cores(other: int) -> None:
    """Pin this process to the first core, and the process *other* to the remaining ones."""
    if _CORES:
        first, *rest = _CORES
        os.sched_setaffinity(0, {first})
        os.sched_setaffinity(other, rest or {first})
