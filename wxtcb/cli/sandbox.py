"""`wxtcb sandbox`: the simulated platform for other programs of this machine."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
from collections.abc import Iterator
from typing import Final

import anyio
import attrs

from wxtcb.cli.config import AES_KEY, APPID, APPKEY, BASE_URL, SIGNING, TICKET
from wxtcb.cli.console import say
from wxtcb.cli.signals import ENDING
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox import Push, Ready, Receipt, Sandbox, World

_SEEDS: Final = 1_000_000


@attrs.frozen
class Aim:
    """Where tickets are pushed to, and every how many seconds."""

    url: str
    every: float


@attrs.define(eq=False)
class PushTeller:
    """Tells the person what comes of the pushes; what fails as it failed before is not told again."""

    box: Sandbox
    url: str
    told: str = ""

    def __call__(self, push: Push, receipt: Receipt) -> None:
        words = self._words(push, receipt)
        if receipt.accepted or words != self.told:
            say(words)
        self.told = words

    def _words(self, push: Push, receipt: Receipt) -> str:
        if receipt.accepted:
            return f"{push.info_type} was pushed, and accepted."
        if self.box.pushes.stopped:
            return (
                f"{push.info_type} was not accepted: {receipt}. It was the last of too many; nothing more is pushed "
                "until `wxtcb call api_start_push_ticket` starts it again."
            )
        if self.box.pushes.answered:
            return f"{push.info_type} was not accepted: {receipt}."
        return f"Nobody has answered at {self.url} yet: {receipt}. It is tried again every second."


def serve(*, port: int, ready_after: float, token_life: int, busy: float, seed: int | None, aim: Aim | None) -> int:
    """Serve until a signal comes; return the exit code that belongs to it."""
    world = World(
        seed=secrets.randbelow(_SEEDS) if seed is None else seed,
        ready_after=Ready.after_seconds(ready_after),
        token_life=token_life,
    )
    box = Sandbox(port=port, world=world)
    if busy:
        box.faults.busy(probability=busy)
    return asyncio.run(_serve(box, aim))


async def _serve(box: Sandbox, aim: Aim | None) -> int:
    with anyio.open_signal_receiver(*ENDING) as signals:
        try:
            await box.__aenter__()
        except OSError as error:
            raise InvalidArgument(f"--port {box.port}: {error.strerror}") from None
        try:
            if aim is not None:
                _push(box, aim)
            sys.stdout.write("".join(f"export {line}\n" for line in _exports(box)))
            sys.stdout.flush()
            say(
                "The sandbox is up; its credentials are made up anew each time (--seed "
                f"{box.world.seed} makes these up again). Ctrl-C ends it."
            )
            return 128 + await anext(signals)
        finally:
            await box.__aexit__(None, None, None)


def _push(box: Sandbox, aim: Aim) -> None:
    if not aim.every < float("inf"):
        raise InvalidArgument(f"--push-every {aim.every}: it is a number of seconds")
    try:
        box.push_to(aim.url, every=aim.every, told=PushTeller(box, aim.url))
    except (ImportError, ValueError) as error:
        raise InvalidArgument(f"--push: {error}") from None


def _exports(box: Sandbox) -> Iterator[str]:
    values = {
        BASE_URL: box.url,
        APPID: box.component_appid,
        APPKEY: box.component_appsecret,
        TICKET: box.ticket,
        SIGNING: box.message_token,
        AES_KEY: box.encoding_aes_key,
    }
    return (f"{name}={shlex.quote(value)}" for name, value in values.items())
