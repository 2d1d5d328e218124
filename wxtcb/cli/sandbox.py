"""Command `wxtcb sandbox`: the simulated platform as a server for other programs of this machine."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import attrs

from wxtcb.cli.console import echo_err
from wxtcb.cli.runner import GracefulStop, run_until_signal
from wxtcb.errors import InvalidArgument
from wxtcb.sandbox import InvalidFault, Push, PushResult, ReadyPolicy, Sandbox, World
from wxtcb.sandbox.faults import parse_fault_option
from wxtcb.sandbox.state import InvalidState, WorldState
from wxtcb.tokens.env_vars import PREFIX

# In seconds: a killed sandbox loses at most what happened since.
_SAVE_INTERVAL: Final = 1.0


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
        message = f"{push.info_type} was not accepted: {result}."
        if result.accepted:
            message = f"{push.info_type} was pushed and accepted."
        elif self.sandbox.pushes.stopped:
            message += " Pushing stops after too many failures in a row; "
            message += "`wxtcb call api_start_push_ticket` restarts it."
        elif not self.sandbox.pushes.receiver_accepted:
            if result.status is None:
                message = f"No response from {self.url} yet: {result}. Retrying every second."
            else:
                message += " Retrying every second: start the receiver with the variables printed by this sandbox."
        if result.accepted or message != self.last_message:
            echo_err(message)
        self.last_message = message


def _open_unlinked(path: str, flags: int) -> int:
    # Another user could have put a link there. A pipe would block without O_NONBLOCK.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


@attrs.define(eq=False)
class StateFile:
    """File with the state of the sandbox, readable by its owner only."""

    path: Path
    _written: bytes = attrs.field(default=b"", repr=False)
    _last_error: str = ""

    def read(self) -> WorldState | None:
        """Return the state, or None if there is no file yet. Raises `InvalidArgument` for an unusable file."""
        try:
            with open(self.path, "rb", opener=_open_unlinked) as file:
                status, content = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidArgument(f"--state {self.path}: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            advice = f"it must be your own file with mode 600: chmod 600 {shlex.quote(str(self.path))}"
            raise InvalidArgument(f"--state {self.path}: {advice}")
        try:
            return WorldState.parse(content)
        except InvalidState as error:
            raise InvalidArgument(f"--state {self.path}: {error}; delete the file, or give another one") from error

    def write(self, sandbox: Sandbox) -> None:
        """Replace the file if the state has changed."""
        content = WorldState.of(sandbox.world, sandbox.port).dump()
        if content == self._written:
            return
        # mkstemp creates a file with mode 600 that did not exist; a killed process leaves the old or the new content.
        descriptor, draft = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(draft).replace(self.path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        self._written = content

    def write_or_report(self, sandbox: Sandbox) -> None:
        """Write, or report why it fails, once for the same reason."""
        try:
            self.write(sandbox)
        except OSError as error:
            message = f"--state {self.path}: the state was not saved: {error.strerror}"
            if message != self._last_error:
                echo_err(message)
            self._last_error = message

    async def write_periodically(self, sandbox: Sandbox) -> NoReturn:
        while True:
            await asyncio.sleep(_SAVE_INTERVAL)
            self.write_or_report(sandbox)


def serve(
    *,
    port: int,
    ready_after: float,
    token_ttl: int,
    busy: float,
    faults: Sequence[str],
    seed: int | None,
    push_target: PushTarget | None,
    state_path: Path | None,
) -> int:
    """Serve the sandbox until a signal; return the exit code of the signal.

    Raises `InvalidArgument` if a fault or the state is invalid, the port is in use, or the push target is invalid.
    """
    if seed is not None and state_path is not None:
        # The random values of the earlier run would come again, ids of environments included.
        raise InvalidArgument("--seed cannot be combined with --state, which keeps the credentials")
    state_file = None if state_path is None else StateFile(state_path)
    state = None if state_file is None else state_file.read()
    world = World(
        # Token stores are keyed by AppId. With a fixed default seed, a store would offer a token of an earlier run.
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        ready_after=ReadyPolicy.after_seconds(ready_after),
        token_ttl=token_ttl,
    )
    if state is not None:
        state.restore(world)
        # The same URL as before, so that clients need no new variables.
        port = port or state.port
    sandbox = Sandbox(port=port, world=world)
    for text in faults:
        try:
            sandbox.faults.add(parse_fault_option(text))
        except InvalidFault as error:
            raise InvalidArgument(f"--fault {text!r}: {error}") from error
    if busy:
        sandbox.faults.busy(probability=busy)
    stop = GracefulStop()
    run_until_signal(_serve_until_stopped(sandbox, push_target, state_file, stop), stop)
    return stop.exit_code


async def _serve_until_stopped(
    sandbox: Sandbox, push_target: PushTarget | None, state_file: StateFile | None, stop: GracefulStop
) -> None:
    try:
        await sandbox.__aenter__()
    except OSError as error:
        raise InvalidArgument(f"--port {sandbox.port}: {error.strerror}") from error
    saving = None
    try:
        if state_file is not None:
            try:
                state_file.write(sandbox)
            except OSError as error:
                raise InvalidArgument(f"--state {state_file.path}: {error.strerror}") from error
            saving = asyncio.create_task(state_file.write_periodically(sandbox))
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
        if state_file is None:
            hint = f"--seed {sandbox.world.seed} creates the same credentials again."
        else:
            hint = f"--state {state_file.path} continues with the same credentials and environments."
        echo_err(f"The sandbox is running; {hint} Ctrl-C ends it.")
        await stop.wait()
    finally:
        await sandbox.__aexit__(None, None, None)
        if state_file is not None and saving is not None:
            saving.cancel()
            state_file.write_or_report(sandbox)


def _start_pushes(sandbox: Sandbox, target: PushTarget) -> None:
    # The option has a minimum, which infinity and NaN pass.
    if not target.interval < float("inf"):
        raise InvalidArgument(f"--push-every {target.interval}: it must be a finite number of seconds")
    try:
        sandbox.push_to(target.url, every=target.interval, on_result=PushReporter(sandbox, target.url))
    except (ImportError, ValueError) as error:
        raise InvalidArgument(f"--push: {error}") from error
