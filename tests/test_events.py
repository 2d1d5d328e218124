"""Events reach the hooks and the log, and a hook's failure reaches nobody's result."""

from __future__ import annotations

import asyncio
import logging
from typing import get_args

import attrs
import pytest
import pytest_asyncio

from wxtcb import errors, events
from wxtcb.events import Observers

PATH = "/componenttcb/createenv"
BUSY = errors.Busy(-1, "system error", endpoint=PATH)
EVERY = [
    (events.CallStarted(PATH, 1), "DEBUG", [PATH]),
    (events.CallFinished(PATH, 1, 2, 0.5, BUSY, cancelled=False), "DEBUG", [PATH, "-1 system error"]),
    (events.Retrying(PATH, 3, 1.25, BUSY), "WARNING", [PATH, "attempt 3", "1.25 s", "-1 system error"]),
    (events.Abandoned(PATH, 2), "WARNING", [PATH, "cancelled", "2 attempts"]),
    (events.MayHaveActed(PATH, 2), "WARNING", [PATH, "succeeded", "2 earlier attempts"]),
    (events.PathPaused(PATH, 42.4), "WARNING", [PATH, "minute limit", "42 s"]),
    (events.TokenExpired(7, 42001), "DEBUG", ["7", "42001"]),
    (events.TokenRenewed(8, "advisory", 7200.0, 0.25), "INFO", ["token 8", "advisory", "0.25 s", "7200 s"]),
    (events.RenewalFailed("first", BUSY, 30.0), "WARNING", ["first", "30 s", "-1 system error"]),
    (events.StoreFailed(2, "OSError in x, line 1"), "WARNING", ["token 2", "OSError in x"]),
]


@pytest_asyncio.fixture
async def complaints():
    """Collect what reaches the exception handler of the running loop."""
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


def test_every_kind_of_event_is_looked_at_here():
    """The table above misses no event."""
    assert {type(event) for event, _, _ in EVERY} == set(get_args(events.Event))


@pytest.mark.parametrize(("event", "level", "words"), EVERY)
def test_an_event_is_logged_in_one_line_at_the_level_of_its_weight(caplog, event, level, words):
    """What needs a look is a warning, a renewal is news, the rest is for debugging; the line holds the facts."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    Observers().emit(event)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("wxtcb", level)
    assert all(word in record.getMessage() for word in words)
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(("event", "level", "words"), EVERY)
def test_an_event_is_frozen(event, level, words):
    """No hook can change what the next hook sees."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, attrs.fields(type(event))[0].name, None)


def test_each_hook_gets_each_event_in_order():
    """Hooks are called in the order given, with the event itself."""
    got = []
    observers = Observers((lambda event: got.append(("a", event)), lambda event: got.append(("b", event))))
    first, second = EVERY[0][0], EVERY[1][0]
    observers.emit(first)
    observers.emit(second)
    assert got == [("a", first), ("b", first), ("a", second), ("b", second)]


async def test_a_hook_that_raises_is_reported_and_the_next_one_called(complaints):
    """The loop's exception handler hears of it; the emitter does not, and the other hooks get their event."""
    got, mistake = [], ZeroDivisionError("a bug of the hook's")

    def careless(event):
        raise mistake

    Observers((careless, got.append)).emit(EVERY[0][0])
    assert got == [EVERY[0][0]]
    [context] = complaints
    assert context["exception"] is mistake
    assert "careless" in context["message"]


async def test_a_cancellation_out_of_a_hook_is_not_swallowed(complaints):
    """Only a hook's errors are kept from the call, not what asks the whole task to end."""

    def cancelled(event):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Observers((cancelled,)).emit(EVERY[0][0])
    assert complaints == []


@pytest.mark.parametrize(
    ("hooks", "level", "listened"),
    [((), logging.INFO, False), ((), logging.DEBUG, True), ((print,), logging.INFO, True)],
)
def test_observers_are_true_when_somebody_listens_to_every_call(caplog, hooks, level, listened):
    """The two events of every call are made only for a hook or a debug log."""
    caplog.set_level(level, logger="wxtcb")
    assert bool(Observers(hooks)) is listened
