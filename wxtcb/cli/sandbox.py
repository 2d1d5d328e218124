"""Command `wxtcb sandbox`: the simulated platform as a server for other programs of this machine."""

from __future__ import annotations

import secrets
import shlex
import sys

import attrs

from wxtcb.cli.console import echo_err
from wxtcb.cli.runner import GracefulStop, run_until_signal
from wxtcb.env_vars import PREFIX
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox import Push, PushResult, ReadyPolicy, Sandbox, World


@attrs.frozen
class PushTarget:
    """URL that tickets are pushed to, and the seconds between two of them."""

    url: str
    interval: float


@attrs.define(eq=False)
class PushReporter:
    """Callback that reports the results of pushes; a failure that repeats is reported once."""

    sandbox: Sandbox
    url: str
    last_message: str = ""

    def __call__(self, push: Push, result: PushResult) -> None:
        message = f"No response from {self.url} yet: {result}. Retrying every second."
        if result.accepted:
            message = f"{push.info_type} was pushed and accepted."
        elif self.sandbox.pushes.stopped:
            message = f"{push.info_type} was not accepted: {result}. Pushing stops after too many failures in a row; "
            message += "`wxtcb call api_start_push_ticket` restarts it."
        elif self.sandbox.pushes.receiver_responded:
            message = f"{push.info_type} was not accepted: {result}."
        if result.accepted or message != self.last_message:
            echo_err(message)
        self.last_message = message


def serve(
    *, port: int, ready_after: float, token_ttl: int, busy: float, seed: int | None, push_target: PushTarget | None
) -> int:
    """Serve the sandbox until a signal; return the exit code of the signal.

    Raises `InvalidArgument` if the port is in use or the push target is invalid.
    """
    world = World(
        # Token stores are keyed by AppId. With a fixed default seed, a store would offer a token of an earlier run.
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        ready_after=ReadyPolicy.after_seconds(ready_after),
        token_ttl=token_ttl,
    )
    sandbox = Sandbox(port=port, world=world)
    if busy:
        sandbox.faults.busy(probability=busy)
    stop = GracefulStop()
    run_until_signal(_serve_until_stopped(sandbox, push_target, stop), stop)
    return stop.exit_code


async def _serve_until_stopped(sandbox: Sandbox, push_target: PushTarget | None, stop: GracefulStop) -> None:
    try:
        await sandbox.__aenter__()
    except OSError as error:
        raise InvalidArgument(f"--port {sandbox.port}: {error.strerror}") from error
    try:
        if push_target is not None:
            _start_pushes(sandbox, push_target)
        variables = {
            "BASE_URL": sandbox.url,
            "COMPONENT_APPID": sandbox.component_appid,
            "COMPONENT_APPSECRET": sandbox.component_appsecret,
            "TICKET": sandbox.ticket,
            "MESSAGE_TOKEN": sandbox.message_token,
            "ENCODING_AES_KEY": sandbox.encoding_aes_key,
        }
        sys.stdout.write("".join(f"export {PREFIX}{name}={shlex.quote(value)}\n" for name, value in variables.items()))
        # A program that waits for these lines reads them from a pipe, which is not flushed at line ends.
        sys.stdout.flush()
        echo_err(
            f"The sandbox is running; --seed {sandbox.world.seed} creates the same credentials again. Ctrl-C ends it."
        )
        await stop.wait()
    finally:
        await sandbox.__aexit__(None, None, None)


def _start_pushes(sandbox: Sandbox, target: PushTarget) -> None:
    # The option has a minimum, which infinity and NaN pass.
    if not target.interval < float("inf"):
        raise InvalidArgument(f"--push-every {target.interval}: it must be a finite number of seconds")
    try:
        sandbox.push_to(target.url, every=target.interval, on_result=PushReporter(sandbox, target.url))
    except (ImportError, ValueError) as error:
        raise InvalidArgument(f"--push: {error}") from error
