"""Signals during the work of a command."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.unix_events import _UnixSelectorEventLoop
from typing import Any, NoReturn

import pytest

from wxtcb.cli.runner import GracefulStop, Interrupted, run_until_signal


@pytest.fixture(params=["with loop handlers", "without loop handlers"])
def _event_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with an event loop of Unix, and with one that has no signal handlers, like those of Windows."""

    def raise_not_implemented(*_: object) -> NoReturn:
        raise NotImplementedError

    if request.param == "without loop handlers":
        monkeypatch.setattr(_UnixSelectorEventLoop, "add_signal_handler", raise_not_implemented)


pytestmark = pytest.mark.usefixtures("_event_loop")


async def send_signal_and_wait(number: int) -> None:
    """Send a signal to this process, and wait indefinitely."""
    os.kill(os.getpid(), number)
    await asyncio.Event().wait()


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_signal_cancels_the_work(number: int, name: str, code: int) -> None:
    """The result has the name and the exit code of the signal."""
    result = run_until_signal(send_signal_and_wait(number))
    assert isinstance(result, Interrupted)
    assert (result.signal_name, result.exit_code) == (name, code)


def test_result_that_is_complete_is_returned_after_a_signal() -> None:
    """A reply that has arrived is not discarded."""

    async def finish() -> str:
        try:
            await send_signal_and_wait(signal.SIGTERM)
        except asyncio.CancelledError:
            return "the reply"

    assert run_until_signal(finish()) == "the reply"


def test_result_of_the_work_is_returned() -> None:
    """Without a signal, the work returns its result or raises its error."""

    async def fail() -> None:
        raise LookupError

    assert run_until_signal(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(LookupError):
        run_until_signal(fail())


def test_cancellation_without_a_signal_is_raised() -> None:
    """Work that was cancelled by other code was not interrupted by a signal."""

    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_signal(cancel_itself())


def test_signal_handlers_are_restored() -> None:
    """Ctrl-C raises KeyboardInterrupt again when the work has ended."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_until_signal(asyncio.sleep(0))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_each_signal_calls_the_handler() -> None:
    """A handler of the caller gets the number of each signal, and the work goes on."""
    received: list[int] = []
    both = asyncio.Event()

    def handle(number: int, _: asyncio.Task[Any]) -> None:
        received.append(number)
        if len(received) == 2:
            both.set()
        else:
            os.kill(os.getpid(), signal.SIGINT)

    async def work() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        await both.wait()
        return "done"

    assert run_until_signal(work(), handle) == "done"
    assert received == [signal.SIGTERM, signal.SIGINT]


def test_server_stops_at_the_first_signal() -> None:
    """The exit code is that of the signal."""
    stop = GracefulStop()

    async def serve() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

    assert run_until_signal(serve(), stop) is None
    assert stop.exit_code == 143


def test_server_is_cancelled_at_the_second_signal() -> None:
    """The exit code is that of the first signal."""
    stop = GracefulStop()

    async def serve() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        await send_signal_and_wait(signal.SIGINT)

    assert isinstance(run_until_signal(serve(), stop), Interrupted)
    assert stop.exit_code == 143
