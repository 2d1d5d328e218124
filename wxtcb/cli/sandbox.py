"""`wxtcb sandbox`: the simulated platform for other programs of this machine."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Iterator

import anyio

from wxtcb.cli.output import say
from wxtcb.cli.settings import APPID, APPKEY, BASE_URL, TICKET
from wxtcb.cli.signals import ENDING
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox import Ready, Sandbox, World


def serve(*, port: int, ready_after: float, token_life: int, busy: float) -> int:
    """Serve until a signal comes; return the exit code that belongs to it."""
    box = Sandbox(port=port, world=World(ready_after=Ready.after_seconds(ready_after), token_life=token_life))
    if busy:
        box.faults.busy(probability=busy)
    return asyncio.run(_serve(box))


async def _serve(box: Sandbox) -> int:
    with anyio.open_signal_receiver(*ENDING) as signals:
        try:
            await box.__aenter__()
        except OSError as error:
            raise InvalidArgument(f"--port {box.port}: {error.strerror}") from None
        try:
            sys.stdout.write("".join(f"export {line}\n" for line in _exports(box)))
            sys.stdout.flush()
            say("The sandbox is up; its credentials are made up. Ctrl-C ends it.")
            return 128 + await anext(signals)
        finally:
            await box.__aexit__(None, None, None)


def _exports(box: Sandbox) -> Iterator[str]:
    values = {
        BASE_URL: box.url,
        APPID: box.component_appid,
        APPKEY: box.component_appsecret,
        TICKET: box.ticket,
    }
    return (f"{name}={shlex.quote(value)}" for name, value in values.items())
