"""What does importing the library cost, over importing what it stands on?

Fresh interpreters import aiohttp, anyio, attrs, cattrs and orjson, then wxtcb with all groups of calls, and then its
other rooms but the command line, the sandbox and the pytest plugin. The figure with the bar is the processor time of
the second part, with byte code that is ready, as an installer leaves it; the first start, which has to compile, and
the second and third part together are shown too. The control is the first part, in pairs of interpreters.
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

BAR: Final = 60.0
MORE: Final = "wxtcb.events, wxtcb.provision, wxtcb.tokens"
EXTRAS: Final = ("typer", "rich", "pytest", "redis", "psycopg", "procrastinate", "opentelemetry", "cryptography")
CODE: Final = f"""
import sys, time
begun = time.process_time()
import aiohttp, anyio, attrs, cattrs, orjson
ready = time.process_time()
import wxtcb
wxtcb.endpoints()
there = time.process_time()
import {MORE}
print(ready - begun, there - ready, time.process_time() - ready, *set(sys.modules).intersection({EXTRAS}))
"""


@attrs.frozen
class Start:
    """Milliseconds of processor time that one fresh interpreter took."""

    dependencies: float
    library: float
    with_rooms: float


async def start(cache: str) -> Start:
    """Start an interpreter whose byte code is in a directory; raise if it loaded an extra."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONPYCACHEPREFIX": cache}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CODE, env=environ, stdout=pipe)
    told, _ = await process.communicate()
    times, extras = told.decode().split()[:3], told.decode().split()[3:]
    if extras:
        raise RuntimeError(f"importing the library loads {', '.join(extras)}")
    return Start(*(float(seconds) * 1e3 for seconds in times))


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Start interpreters in pairs; the very first one compiles."""
    with tempfile.TemporaryDirectory() as cache:
        first = await start(cache)
        pairs = [(await start(cache), await start(cache)) for _ in range(1 if chosen.quick else 40)]
    starts = [each for pair in pairs for each in pair]
    below = statistics.median(each.dependencies for each in starts)
    over = Interval.of([each.library for each in starts])
    control = Interval.of([one.dependencies / other.dependencies for one, other in pairs])
    beside = "importing the five dependencies"
    return [
        Figure("import of wxtcb and all groups", over, "ms", BAR, over.median, below, "ms CPU", beside, control),
        Figure("the same with provision and tokens", Interval.of([each.with_rooms for each in starts]), "ms"),
        Figure("the same at the first start", Interval.exactly(first.library), "ms"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
