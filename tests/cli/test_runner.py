"""What a signal cuts off, and what it does not."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from wxtcb.cli.runner import Interrupted, run_until_signal


async def wait_for_a_signal(number: int) -> None:
    """Send a signal to this process and wait for what comes of it."""
    os.kill(os.getpid(), number)
    await asyncio.Event().wait()


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_cuts_work_off(number: int, name: str, code: int) -> None:
    """It is told by the name and the exit code that people know."""
    ended = run_until_signal(wait_for_a_signal(number))
    assert isinstance(ended, Interrupted)
    assert (ended.signal_name, ended.exit_code) == (name, code)


def test_what_comes_to_its_end_all_the_same_is_told() -> None:
    """A reply that was already there is not thrown away."""

    async def finish() -> str:
        try:
            await wait_for_a_signal(signal.SIGTERM)
        except asyncio.CancelledError:
            return "the reply"

    assert run_until_signal(finish()) == "the reply"


def test_without_a_signal_the_result_is_that_of_the_work() -> None:
    """Or its error."""

    async def fail() -> None:
        raise LookupError

    assert run_until_signal(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(LookupError):
        run_until_signal(fail())
