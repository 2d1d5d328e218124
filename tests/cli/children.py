"""The command line as a process of its own, that hangs no test and outlives no test run."""

from __future__ import annotations

import os
import subprocess
import sys

LIFE = 600
_CHILD = """
import os, runpy, signal, sys, threading

def end_with_the_tests(leash):
    os.read(leash, 1)
    os._exit(1)

signal.alarm(int(sys.argv.pop(1)))
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=end_with_the_tests, args=[int(sys.argv.pop(1))], daemon=True).start()
if sys.argv.pop(1) == "swift":
    from functools import partial
    from wxtcb import session
    from wxtcb.cli import target

    session.SharedPoller = partial(session.SharedPoller, min_interval=0.0)
    target.RealTarget = partial(target.RealTarget, interval=0.001)
runpy.run_module("wxtcb", run_name="__main__", alter_sys=True)
"""
_ends_with_us, _ours = os.pipe()
_started: list[subprocess.Popen[str]] = []


def start(*words: object, under: tuple[str, ...] = (), swift: bool = False, **options: object) -> subprocess.Popen[str]:
    """Start the command line as a process of its own, by the program *under* if given.

    It heeds Ctrl-C also where the tests ignore it, ends with them, and after `LIFE` seconds, whoever reads from it. If
    *swift*, its looks follow each other without a pause.
    """
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    pace = "swift" if swift else "as it is"
    command = [*under, sys.executable, "-c", _CHILD, str(LIFE), str(_ends_with_us), pace, *map(str, words)]
    environment = {**os.environ, "PYTHONUTF8": "1", **given.pop("env", {})}
    process = subprocess.Popen(command, text=True, env=environment, pass_fds=[_ends_with_us], **given)
    _started.append(process)
    return process


def end_all() -> None:
    """Kill what a test that failed has left behind."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait(60)
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()
