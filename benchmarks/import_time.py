"""What does importing the library cost, over importing what it stands on?

Fresh interpreters import aiohttp, anyio, attrs, cattrs and orjson, and then the whole library but the command line, the
sandbox and the pytest plugin. The figure is the processor time of the second part, with byte code that is ready, as an
installer leaves it; the first start, which has to compile, is shown too. The control is the first part, in pairs of
interpreters.
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
ROOMS: Final = "wxtcb, wxtcb.api, wxtcb.events, wxtcb.provision, wxtcb.tokens"
EXTRAS: Final = ("typer", "rich", "pytest", "redis", "psycopg", "procrastinate", "opentelemetry", "cryptography")
CODE: Final = f"""
import sys, time
begun = time.process_time()
import aiohttp, anyio, attrs, cattrs, orjson
ready = time.process_time()
import {ROOMS}
wxtcb.endpoints()
print(ready - begun, time.process_time() - ready, *set(sys.modules).intersection({EXTRAS}))
"""


@attrs.frozen
class Start:
    """Milliseconds of processor time that one fresh interpreter took."""

    dependencies: float
    library: float


async def start(cache: str) -> Start:
    """Start an interpreter whose byte code is in a directory; raise if it loaded an extra."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONPYCACHEPREFIX": cache}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CODE, env=environ, stdout=pipe)
    told, _ = await process.communicate()
    dependencies, library, *extras = told.decode().split()
    if extras:
        raise RuntimeError(f"importing the library loads {', '.join(extras)}")
    return Start(float(dependencies) * 1e3, float(library) * 1e3)


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
        Figure("import of the library", over, "ms", BAR, over.median, below, "ms CPU", beside, control),
        Figure("the same at the first start", Interval.exactly(first.library), "ms"),
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
