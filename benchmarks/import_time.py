"""Measure what importing the library costs over importing what it stands on.

`python benchmarks/import_time.py` starts fresh interpreters that import aiohttp, anyio, attrs, cattrs and orjson, and
then the library: all of it but the command line, the sandbox and the pytest plugin. It prints the processor time of the
second part, with byte code that is ready, as an installer leaves it, and without, as the very first start finds it.
The control is the whole of the first part, in runs that alternate with the others: if it differs between the two halves
by more than 2 %, the run is void. It exits with 1 if it is, or if the ready import is above its limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Final

from call_overhead import TOLERANCE, interval, versions

LIMIT: Final = 60.0
ROOMS: Final = "wxtcb, wxtcb.api, wxtcb.events, wxtcb.provision, wxtcb.tokens"
CODE: Final = f"""
import time
begun = time.process_time()
import aiohttp, anyio, attrs, cattrs, orjson
ready = time.process_time()
import {ROOMS}
print(ready - begun, time.process_time() - ready)
"""


def imported(cache: str) -> tuple[float, float]:
    """Return the processor time, in ms, of importing the dependencies, and then the library, in a fresh interpreter."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONPYCACHEPREFIX": cache}
    told = subprocess.run([sys.executable, "-c", CODE], env=environ, check=True, capture_output=True, text=True).stdout
    below, own = told.split()
    return float(below) * 1e3, float(own) * 1e3


def main() -> int:
    """Measure, print, and exit with 1 if the run is void or the import too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        _, first = imported(cache)
        pairs = [(imported(cache), imported(cache)) for _ in range(chosen.rounds)]
    own = [each for pair in pairs for _, each in pair]
    below = [each for pair in pairs for each, _ in pair]
    ratio, low, high = interval([one[0] / other[0] for one, other in pairs])
    middle, least, most = interval(own)
    print(versions())
    print(f"{ROOMS}: {2 * chosen.rounds} fresh interpreters")
    print(f"{'over its dependencies':24} {middle:6.1f} ms (95 %: {least:.1f} to {most:.1f}; limit {LIMIT:.0f})")
    print(f"{'without byte code':24} {first:6.1f} ms (once)")
    print(f"{'the dependencies alone':24} {statistics.median(below):6.1f} ms")
    print(f"{'control: one / other':24} {ratio:6.3f} (95 %: {low:.3f} to {high:.3f})")
    if abs(ratio - 1) > TOLERANCE:
        print(f"VOID: the control is off by more than {TOLERANCE:.0%}; run again on a quieter machine")
        return 1
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
