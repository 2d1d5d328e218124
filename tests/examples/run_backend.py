"""Run a sign-up backend of `examples` as its README.md says, but with shorter times: run_backend.py NAME PORT."""

import functools
import os
import runpy
import sys
from pathlib import Path

import uvicorn

import wxtcb.provision.context
from wxtcb import Session, Timeout

EXAMPLES = Path(__file__).parents[2] / "examples"

name, port = sys.argv[1:]
wxtcb.provision.context.CREATE_WINDOW_MARGIN = 1.0
# With few steps at a time, the work takes as long as the start of some processes.
options = {"settle": 0.5, "interval": 0.3, "lease": 1.5, "concurrency": 4}
wxtcb.provision.Provisioner = functools.partial(wxtcb.provision.Provisioner, **options)
wxtcb.Session.from_env = functools.partial(Session.from_env, timeout=Timeout(connect=0.5, reply=1.5))
folder = EXAMPLES / f"{name}_backend"
if name == "aiohttp":
    os.environ["PORT"] = port
    runpy.run_path(str(folder / "app.py"), run_name="__main__")
else:
    uvicorn.main(["--app-dir", str(folder), "app:app", "--port", port, "--no-access-log"])
