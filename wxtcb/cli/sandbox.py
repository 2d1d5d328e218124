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

from wxtcb.cli.config import AES_KEY_VAR, APPID_VAR, APPSECRET_VAR, BASE_URL_VAR, MSGTOKEN_VAR, TICKET_VAR
from wxtcb.cli.console import echo_err
from wxtcb.cli.runner import TERMINATION_SIGNALS
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox import Push, PushResult, ReadyPolicy, Sandbox, World

_SEED_LIMIT: Final = 1_000_000


@attrs.frozen
class PushTarget:
    """Where tickets are pushed to, and every how many seconds."""

    url: str
    interval: float


@attrs.define(eq=False)
class PushReporter:
    """Tells the person what comes of the pushes; what fails as it failed before is not told again."""

    sandbox: Sandbox
    url: str
    last_message: str = ""

    def __call__(self, push: Push, result: PushResult) -> None:
        words = self._format_result(push, result)
        if result.accepted or words != self.last_message:
            echo_err(words)
        self.last_message = words

    def _format_result(self, push: Push, result: PushResult) -> str:
        if result.accepted:
            return f"{push.info_type} was pushed, and accepted."
        if self.sandbox.pushes.stopped:
            return (
                f"{push.info_type} was not accepted: {result}. It was the last of too many; nothing more is pushed "
                "until `wxtcb call api_start_push_ticket` starts it again."
            )
        if self.sandbox.pushes.receiver_responded:
            return f"{push.info_type} was not accepted: {result}."
        return f"Nobody has answered at {self.url} yet: {result}. It is tried again every second."


def serve(
    *, port: int, ready_after: float, token_ttl: int, busy: float, seed: int | None, push_target: PushTarget | None
) -> int:
    """Serve until a signal comes; return the exit code that belongs to it."""
    world = World(
        seed=secrets.randbelow(_SEED_LIMIT) if seed is None else seed,
        ready_after=ReadyPolicy.after_seconds(ready_after),
        token_ttl=token_ttl,
    )
    box = Sandbox(port=port, world=world)
    if busy:
        box.faults.busy(probability=busy)
    return asyncio.run(_serve_until_signal(box, push_target))


async def _serve_until_signal(sandbox: Sandbox, push_target: PushTarget | None) -> int:
    with anyio.open_signal_receiver(*TERMINATION_SIGNALS) as signals:
        try:
            await sandbox.__aenter__()
        except OSError as error:
            raise InvalidArgument(f"--port {sandbox.port}: {error.strerror}") from None
        try:
            if push_target is not None:
                _start_pushes(sandbox, push_target)
            sys.stdout.write("".join(f"export {line}\n" for line in _export_lines(sandbox)))
            sys.stdout.flush()
            echo_err(
                "The sandbox is up; its credentials are made up anew each time (--seed "
                f"{sandbox.world.seed} makes these up again). Ctrl-C ends it."
            )
            return 128 + await anext(signals)
        finally:
            await sandbox.__aexit__(None, None, None)


def _start_pushes(sandbox: Sandbox, target: PushTarget) -> None:
    if not target.interval < float("inf"):
        raise InvalidArgument(f"--push-every {target.interval}: it is a number of seconds")
    try:
        sandbox.push_to(target.url, every=target.interval, on_result=PushReporter(sandbox, target.url))
    except (ImportError, ValueError) as error:
        raise InvalidArgument(f"--push: {error}") from None


def _export_lines(sandbox: Sandbox) -> Iterator[str]:
    values = {
        BASE_URL_VAR: sandbox.url,
        APPID_VAR: sandbox.component_appid,
        APPSECRET_VAR: sandbox.component_appsecret,
        TICKET_VAR: sandbox.ticket,
        MSGTOKEN_VAR: sandbox.message_token,
        AES_KEY_VAR: sandbox.encoding_aes_key,
    }
    return (f"{name}={shlex.quote(value)}" for name, value in values.items())
