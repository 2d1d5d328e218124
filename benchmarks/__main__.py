"""Run all benchmarks, or those that are named, one after the other.

A void run is repeated, up to three times; if it is void even then, it says so in the figures. Prints them all at the
end, keeps them in figures.json, writes them into README.md and draws figures.svg. With `--quick` nothing is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from figures import Run, as_markdown, as_text, read_runs, write_runs
from harness import VOID

HERE: Final = Path(__file__).parent
BENCHMARKS: Final = (
    "call_overhead",
    "hook_overhead",
    "clients",
    "serialization",
    "large_reply",
    "token_get",
    "waiters",
    "tenants",
    "tenants --cpu",
    "tenants --slow",
    "journal",
    "journal --plan",
    "web_latency",
    "import_time",
)
REPEATS: Final = 3


def run_until_steady(benchmark: str, options: Sequence[str]) -> Run | None:
    """Run one benchmark, again while it is void; return the last run, or None if the script failed."""
    script, *variant = benchmark.split()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "runs.json"
        command = [sys.executable, str(HERE / f"{script}.py"), *variant, *options, "--json", str(path)]
        for _ in range(1 + REPEATS):
            print(f"\n== {benchmark}", flush=True)
            if subprocess.run(command, check=False).returncode != VOID:
                break
        return next(reversed(read_runs(path)), None)


def keep(runs: Iterable[Run], place: Path = HERE) -> None:
    """Put the runs in the place of earlier ones of the same benchmarks: in figures.json, README.md and figures.svg."""
    kept, page = place / "figures.json", place / "README.md"
    newest = {run.benchmark: run for run in (*read_runs(kept), *runs)}
    write_runs(kept, [newest[benchmark] for benchmark in BENCHMARKS if benchmark in newest])
    page.write_text(fill_in(page.read_text(encoding="utf-8"), newest.values()), encoding="utf-8")
    command = [sys.executable, str(HERE / "plot.py"), "--json", str(kept), str(place / "figures.svg")]
    subprocess.run(command, check=True)


def fill_in(text: str, runs: Iterable[Run]) -> str:
    """Return README.md with the figures of each run between the markers of its benchmark."""
    for run in runs:
        marker = f"<!-- figures of {run.benchmark} -->"
        block = f"{marker}\n\n{run.date}, {run.machine}.\n\n{as_markdown(run.figures)}\n\n<!-- end -->"
        before, found, rest = text.partition(marker)
        text = before + (block + rest.partition("<!-- end -->")[2] if found else "")
    return text


def main() -> int:
    """Run, print and keep; return 1 if a script failed, 3 if a run is void."""
    parser = argparse.ArgumentParser(
        "python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="*", help="which, if not all")
    parser.add_argument("--quick", action="store_true", help="see in a minute that all of them work")
    chosen = parser.parse_args()
    if unknown := set(chosen.benchmarks).difference(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    options = ["--quick"] if chosen.quick else []
    tried = [run_until_steady(benchmark, options) for benchmark in chosen.benchmarks or BENCHMARKS]
    runs = [run for run in tried if run]
    for run in runs:
        print(f"\n{run.benchmark}\n{as_text(run.figures)}")
    if not chosen.quick:
        keep(runs)
    if len(runs) < len(tried):
        return 1
    return VOID if any(run.void for run in runs) and not chosen.quick else 0


if __name__ == "__main__":
    raise SystemExit(main())
