"""Lifecycle of a command: standard streams, Ctrl-C and SIGTERM, error messages and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO, TypeVar

import attrs
import typer

from wxtcb.errors import ApiError, InvalidArgument, TicketError, WxtcbError

T = TypeVar("T")

EXIT_OUTPUT_FAILED: Final = 1
EXIT_REJECTED: Final = 2
EXIT_FAILED: Final = 3
EXIT_INTERRUPTED: Final = 130
TERMINATION_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def prepare_standard_streams() -> None:
    """Replace closed standard streams, and escape characters that a stream cannot encode."""
    # Python sets a stream to None if its descriptor is closed at start, as by `wxtcb endpoints >&-`.
    sys.stdout = sys.stdout or open_devnull()
    sys.stderr = sys.stderr or open_devnull()
    for stream in (sys.stdout, sys.stderr):
        # A Chinese tenant name must not end a run by UnicodeEncodeError where the locale is ASCII.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_devnull() -> TextIO:
    """Open a text stream that discards what is written to it."""
    return Path(os.devnull).open("w", encoding="utf-8")


def discard_output(stream: TextIO) -> None:
    """Point the descriptor of *stream* at the null device, where its buffered data goes as well."""
    # Python flushes both standard streams at exit. A second failure there would change the exit code to 120.
    with open_devnull() as devnull:
        os.dup2(devnull.fileno(), stream.fileno())


def run_and_exit(command: Callable[[], int]) -> NoReturn:
    """Run *command* and raise `typer.Exit` with its exit code; report a `WxtcbError` on standard error."""
    try:
        code = command()
    except WxtcbError as error:
        code = _report_error(error)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    # A failed flush is an error of the command here. At exit, Python would only write "Exception ignored".
    sys.stdout.flush()
    raise typer.Exit(code)


def _report_error(error: WxtcbError) -> int:
    """Print *error* with its notes, and return the exit code: 2 if no request was sent, 3 if a call failed."""
    from wxtcb.cli.console import as_command, echo_err, escape_unprintable
    from wxtcb.provision.journal import JournalError

    for line in (*f"wxtcb: {error}".splitlines(), *getattr(error, "__notes__", ())):
        echo_err(as_command(escape_unprintable(line)))
    # InvalidTicket is a TicketError as well as an ApiError: the platform rejected the ticket, so a request was sent.
    rejected = isinstance(error, InvalidArgument | TicketError | JournalError) and not isinstance(error, ApiError)
    return EXIT_REJECTED if rejected else EXIT_FAILED


def report_output_error(error: OSError) -> int:
    """Report that standard output cannot be written, and return the exit code; raise any other *error*.

    A closed pipe does not get here: typer ends the process with exit code 1 and without a message.
    """
    from wxtcb.cli.console import echo_err

    # What a write reports for a full disk, an exceeded quota or size limit, and a terminal that is gone. An error with
    # a file name comes from a file. Errors of connections and of the journal are no OSError here.
    output_errnos = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    if error.errno not in output_errnos or error.filename is not None:
        raise error
    discard_output(sys.stdout)
    for line in (f"wxtcb: cannot write to standard output ({error.strerror})", *getattr(error, "__notes__", ())):
        echo_err(line)
    return EXIT_OUTPUT_FAILED


@attrs.frozen
class Interrupted:
    """Result of work that was ended by the signal `signum`."""

    signum: int

    @property
    def signal_name(self) -> str:
        return "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name

    @property
    def exit_code(self) -> int:
        # The convention of shells for a process that a signal has ended.
        return 128 + self.signum


def _cancel(_: int, task: asyncio.Task[Any]) -> None:
    task.cancel()


# The parameter is Any because a handler is called for work of every result type.
SignalHandler = Callable[[int, asyncio.Task[Any]], None]


def run_until_signal(
    work: Coroutine[Any, Any, T], on_signal: SignalHandler = _cancel, *, runner: asyncio.Runner | None = None
) -> T | Interrupted:
    """Run *work* with *runner*, or in an event loop of its own, and handle Ctrl-C and SIGTERM until it has ended.

    Each signal calls *on_signal* in the event loop, with the number of the signal and the task of *work*. By default
    it cancels the task. Return `Interrupted` if the task was cancelled after a signal, else the result of *work*: a
    reply that has arrived is not discarded because of a late signal. Raise what *work* raises.
    """
    run = asyncio.run if runner is None else runner.run
    return run(_run_with_signal_handlers(work, on_signal))


async def _run_with_signal_handlers(work: Coroutine[Any, Any, T], on_signal: SignalHandler) -> T | Interrupted:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    received: list[int] = []

    def handle(signum: int) -> None:
        received.append(signum)
        on_signal(signum, task)

    with contextlib.ExitStack() as stack:
        for number in TERMINATION_SIGNALS:
            try:
                loop.add_signal_handler(number, handle, number)
            except NotImplementedError:
                # The event loops of Windows have no signal handlers. A handler of the `signal` module runs between
                # two bytecodes of the main thread, so it may only use the thread-safe entrance of the loop.
                previous = signal.signal(number, lambda signum, _: loop.call_soon_threadsafe(handle, signum))
                stack.callback(signal.signal, number, previous)
            else:
                stack.callback(loop.remove_signal_handler, number)
        await asyncio.wait([task])
    return Interrupted(received[0]) if task.cancelled() and received else task.result()


@attrs.define(eq=False)
class GracefulStop:
    """Signal handler of a server: the first signal asks it to stop, each later one cancels its task."""

    exit_code: int = attrs.field(init=False, default=0)
    _requested: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __call__(self, signum: int, task: asyncio.Task[Any]) -> None:
        if self._requested.is_set():
            task.cancel()
            return
        self.exit_code = Interrupted(signum).exit_code
        self._requested.set()

    async def wait(self) -> None:
        """Wait for the first signal, which sets `exit_code`."""
        await self._requested.wait()
