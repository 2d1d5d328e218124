"""CPU time of importing wxtcb when its dependencies are imported already.

New interpreters import aiohttp, anyio, attrs, cattrs and orjson, then wxtcb with all groups of calls, and then
`events`, `provision` and `tokens`. The limit applies to the second part, with bytecode that exists already, as after an
installation. Also shown are the second part at the first start, which compiles, and the second and third part together.
The control is the first part, in pairs of interpreters.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from typing import Final

import attrs
from figures import Figure, Interval
from harness import main

LIMIT: Final = 60.0
MORE_MODULES: Final = "wxtcb.events, wxtcb.provision, wxtcb.tokens"
EXTRAS: Final = ("typer", "rich", "pytest", "redis", "psycopg", "procrastinate", "opentelemetry", "cryptography")
CODE: Final = f"""
import sys, time
started = time.process_time()
import aiohttp, anyio, attrs, cattrs, orjson
dependencies_done = time.process_time()
import wxtcb
wxtcb.endpoints()
calls_done = time.process_time()
import {MORE_MODULES}
all_done = time.process_time()
times = (dependencies_done - started, calls_done - dependencies_done, all_done - dependencies_done)
print(*times, *set(sys.modules).intersection({EXTRAS}))
"""


@attrs.frozen
class ImportTimes:
    """Milliseconds of CPU time of the imports in one new interpreter."""

    dependencies: float
    calls: float
    everything: float


async def time_imports(cache: str) -> ImportTimes:
    """Start an interpreter with the bytecode cache in a directory; raise `RuntimeError` if it loads an extra."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONPYCACHEPREFIX": cache}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CODE, env=environ, stdout=pipe)
    output, _ = await process.communicate()
    words = output.decode().split()
    if extras := words[3:]:
        raise RuntimeError(f"importing the library loads {', '.join(extras)}")
    return ImportTimes(*(float(seconds) * 1e3 for seconds in words))


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Start interpreters in pairs, after a first one, which compiles."""
    with tempfile.TemporaryDirectory() as cache:
        first = await time_imports(cache)
        pairs = [(await time_imports(cache), await time_imports(cache)) for _ in range(1 if options.quick else 40)]
    starts = [each for pair in pairs for each in pair]
    calls = Interval.of([each.calls for each in starts])
    return [
        Figure(
            "import of wxtcb and all groups",
            calls,
            "ms",
            limit=LIMIT,
            value=calls.median,
            baseline=statistics.median(each.dependencies for each in starts),
            value_unit="ms CPU",
            baseline_name="importing the five dependencies",
            control=Interval.of([one.dependencies / other.dependencies for one, other in pairs]),
        ),
        Figure("the same with provision and tokens", Interval.of([each.everything for each in starts]), "ms"),
        Figure("the same at the first start", Interval.exact(first.calls), "ms"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
