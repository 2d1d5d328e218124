"""The command line in processes of its own, which cannot hang a test or outlive the test run."""

from __future__ import annotations

import os
import subprocess
import sys

MAX_LIFETIME = 600  # seconds
# Limit in seconds for everything else that a test waits for. It only ends a hanging test, also on a busy machine.
HANG_TIMEOUT = 300
_CHILD = """
import os, runpy, signal, sys, threading

def exit_with_the_tests(descriptor):
    os.read(descriptor, 1)
    os._exit(1)

signal.alarm(int(sys.argv.pop(1)))
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=exit_with_the_tests, args=[int(sys.argv.pop(1))], daemon=True).start()
if sys.argv.pop(1) == "fast":
    from functools import partial
    from wxtcb import session
    from wxtcb.cli import target

    session.SharedPoller = partial(session.SharedPoller, min_interval=0.0)
    target.RealTarget = partial(target.RealTarget, interval=0.001)
runpy.run_module("wxtcb", run_name="__main__", alter_sys=True)
"""
# The write end is never written to: a child reads end of file from the pipe when the test run has ended.
_lifeline, _lifeline_write_end = os.pipe()
_started: list[subprocess.Popen[str]] = []


def start(
    *arguments: object, wrapper: tuple[str, ...] = (), fast: bool = False, **options: object
) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, run by the program *wrapper* if given.

    It handles Ctrl-C even if the test run ignores it. With *fast*, it polls the platform without pauses.
    """
    popen_options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    pace = "fast" if fast else "normal"
    command = [*wrapper, sys.executable, "-c", _CHILD, str(MAX_LIFETIME), str(_lifeline), pace, *map(str, arguments)]
    environment = {**os.environ, "PYTHONUTF8": "1", **popen_options.pop("env", {})}
    process = subprocess.Popen(command, text=True, env=environment, pass_fds=[_lifeline], **popen_options)
    _started.append(process)
    return process


def end_all() -> None:
    """Kill the processes that a failed test has left running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()
