"""What the benchmarks share: programs on another core, blocks that take turns, and one way to print and to keep."""

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
from figures import Figure, Run, as_text, read_runs, write_runs

VOID: Final = 3
HERE: Final = Path(__file__).parent
PACKAGES: Final = ("wxtcb", "aiohttp", "attrs", "cattrs", "anyio", "orjson", "yarl")

Block = Callable[[], Awaitable[float]]
Call = Callable[[], Awaitable[object]]
Measure = Callable[[argparse.Namespace], Coroutine[None, None, Sequence[Figure]]]


def main(about: str | None, measure: Measure, *switches: str, packages: Sequence[str] = ()) -> int:
    """Run a benchmark as a program: print its figures, keep them if asked to; return 0, or 3 if the run is void.

    *switches* are options of its own, which take no value. *packages* are named with their versions besides the usual.
    """
    chosen = _read_options(about, switches)
    machine = describe_machine((*PACKAGES, *packages))
    print(machine, flush=True)
    figures = tuple(asyncio.run(measure(chosen)))
    name = " ".join([Path(sys.argv[0]).stem, *(f"--{switch}" for switch in switches if vars(chosen)[switch])])
    run = Run(name, machine, f"{datetime.now(UTC):%Y-%m-%d}", figures)
    print(as_text(figures))
    if chosen.json:
        write_runs(chosen.json, [*read_runs(chosen.json), run])
    if chosen.quick:
        print("A quick run shows that the script works; its figures say nothing.")
    elif run.void:
        print("VOID: a control is off by more than 2 %; run again on a quieter machine.")
    return VOID if run.void and not chosen.quick else 0


def _read_options(about: str | None, switches: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see in seconds that it works")
    parser.add_argument("--json", type=Path, metavar="PATH", help="add the run to this file")
    for switch in switches:
        parser.add_argument(f"--{switch}", action="store_true")
    return parser.parse_args()


def describe_machine(packages: Sequence[str]) -> str:
    """Say what was measured, and on what."""
    found = ", ".join(f"{name} {_version(name)}" for name in packages)
    cores = f"{os.cpu_count()} cores ({_processor()})"
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {cores}; {found}"


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
    """Return what each block cost in each round, after a warm-up.

    Within a round each runs twice, mirrored; every round begins with another, so that no place favours anybody.
    A single round is no measurement: then each block runs once, to see that it works.
    """
    if rounds == 1:
        return {name: [await block()] for name, block in blocks.items()}
    for block in blocks.values():
        await block()
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


def calling(call: Call, calls: int, in_flight: int) -> Block:
    """Make a block of *calls* calls with *in_flight* under way; it costs microseconds of processor time per call."""

    async def block() -> float:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await call()

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return (time.process_time() - started) / calls * 1e6

    return block


def working(work: Callable[[], object], times: int) -> Block:
    """Make a block of so many times the same work; it costs microseconds of processor time each."""

    async def block() -> float:
        started = time.process_time_ns()
        for _ in range(times):
            work()
        return (time.process_time_ns() - started) / times / 1e3

    return block


@attrs.frozen
class Child:
    """A program in another process; `ready` is the line it printed when it was. It ends when its input is closed."""

    ready: str
    process: subprocess.Popen[str]

    def end(self) -> str:
        """Close its input; return what else it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return self.process.stdout.read()


@contextlib.contextmanager
def child(script: str, *arguments: str) -> Iterator[Child]:
    """Run a script of this directory until the block ends, on another core where that can be chosen."""
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        _pin_apart(process.pid)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Child(process.stdout.readline(), process)
        finally:
            process.stdin.close()


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


_CORES: Final = _cores()


def _pin_apart(other: int) -> None:
    if _CORES:
        first, *rest = _CORES
        os.sched_setaffinity(0, {first})
        os.sched_setaffinity(other, rest or {first})
