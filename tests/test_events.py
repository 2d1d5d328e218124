"""Events reach the hooks and the log, and a hook's failure reaches nobody's result."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import get_args

import attrs
import pytest
import pytest_asyncio

from wxtcb import errors, events
from wxtcb.telemetry import dispatch
from wxtcb.telemetry.dispatch import HookDispatcher

PATH = "/componenttcb/createenv"
BUSY = errors.PlatformBusy(-1, "system error", endpoint=PATH)
EVERY = [
    (events.CallStarted(PATH, 1), None, []),
    (events.CallFinished(PATH, 1, 2, 0.5, BUSY, cancelled=False), "DEBUG", [PATH, "2 times", "-1 system error"]),
    (
        events.RetryScheduled(PATH, 1, 3, 1.25, BUSY, "busy"),
        "WARNING",
        [PATH, "attempt 3", "1.25 s", "-1 system error"],
    ),
    (events.RequestResent(PATH, 1, BUSY, "token_dead"), "DEBUG", [PATH, "again (token_dead)", "-1 system error"]),
    (events.Abandoned(PATH, 2), "WARNING", [PATH, "cancelled", "2 attempts"]),
    (events.PossibleDuplicate(PATH, 2), "WARNING", [PATH, "succeeded", "2 earlier attempts"]),
    (events.EndpointRateLimited(PATH, 42.4), "WARNING", [PATH, "minute limit", "42 s"]),
    (events.TokenRejected(7, 42001), "DEBUG", ["7", "42001"]),
    (events.TokenRefreshed(8, "advisory", 7200.0, 0.25), "INFO", ["token 8", "advisory", "0.25 s", "7200 s"]),
    (events.TokenRefreshFailed("first", BUSY, 30.0, 0.5), "WARNING", ["first", "30 s", "-1 system error"]),
    (events.TokenRefreshed(8, "dead", 7000.0, 0.0, from_store=True), "INFO", ["token 8 adopted", "dead", "7000 s"]),
    (events.TokenStoreWriteFailed(2, "failed (OSError in x, line 1)"), "WARNING", ["token 2", "OSError in x"]),
    (events.TokenConflictDetected(3, 8.0, "Share it."), "WARNING", ["3 tokens in a row", "8 s", "Share it."]),
    (events.TicketReceived(1413192605, is_newest=True), "INFO", ["1413192605", "the newest"]),
    (
        events.TicketWriteFailed(1413192605, "OSError in x, line 1", 8.0),
        "WARNING",
        ["1413192605", "OSError in x", "8 s"],
    ),
    (events.PushRefused("the signature does not match", 403), "WARNING", ["403", "signature"]),
    (events.PushMalformed("there must be one CreateTime"), "WARNING", ["answered", "one CreateTime"]),
    (events.NotificationDropped("authorized", 100), "WARNING", ["authorized", "100"]),
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


@pytest.mark.parametrize(("event", "level", "words"), [row for row in EVERY if row[1]])
def test_an_event_is_logged_in_one_line_at_the_level_of_its_weight(caplog, event, level, words):
    """What needs a look is a warning, a renewal is news, the rest is for debugging; the line holds the facts."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(event)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("wxtcb", level)
    assert all(word in record.getMessage() for word in words)
    assert "\n" not in record.getMessage()


def test_a_call_is_one_line(caplog):
    """The end of a call is logged, its start is not."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(events.CallStarted(PATH, 1))
    assert caplog.records == []


@pytest.mark.parametrize(("event", "level", "words"), [row for row in EVERY if row[1]])
def test_a_log_record_carries_the_facts_as_fields(caplog, event, level, words):
    """Each field of the event stands on the record under its name, the error as the name of its class."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(event)
    [record] = caplog.records
    assert record.kind == type(event).__name__
    expected = dispatch.event_fields(event)
    assert expected
    assert {name: getattr(record, name) for name in expected} == expected


def test_the_facts_of_an_event_name_its_error():
    """The class, the errcode and the rid of an error are facts; what an error lacks is left out."""
    refused = errors.ApiError(40097, "no", endpoint=PATH, rid="5f-77")
    told = dispatch.event_fields(events.RequestResent(PATH, 1, refused, "busy"))
    named = {"error": "ApiError", "errcode": 40097, "rid": "5f-77"}
    assert told == {"endpoint": PATH, "call": 1, "reason": "busy", **named}
    lost = errors.TransportError("lost", endpoint=PATH, sent=True)
    assert "errcode" not in dispatch.event_fields(events.RequestResent(PATH, 1, lost, "lost"))


@pytest.mark.parametrize(
    ("error", "cancelled", "outcome"), [(None, False, "ok"), (None, True, "cancelled"), (BUSY, False, "PlatformBusy")]
)
def test_the_outcome_of_a_call_is_one_word(error, cancelled, outcome):
    """Good, cancelled, or the class of the error."""
    assert events.CallFinished(PATH, 1, 1, 0.5, error, cancelled).outcome == outcome


def test_nothing_is_formatted_for_a_logger_that_does_not_listen(caplog):
    """Below the level of the logger no line is made, and no fact is collected."""

    class Touchy(errors.WxtcbError):
        @property
        def rid(self):
            raise AssertionError("asked for nobody")

    caplog.set_level(logging.ERROR, logger="quiet")
    dispatch.LoggingHook(logging.getLogger("quiet"))(events.RetryScheduled(PATH, 1, 1, 0.5, Touchy("no"), "busy"))


def test_a_logging_hook_writes_to_the_logger_it_was_given(caplog):
    """Another logger gets the same lines."""
    with caplog.at_level(logging.INFO):
        dispatch.LoggingHook(logging.getLogger("mine"))(EVERY[-1][0])
    assert [record.name for record in caplog.records] == ["mine"]


@pytest.mark.parametrize(("event", "level", "words"), EVERY)
def test_an_event_is_frozen(event, level, words):
    """No hook can change what the next hook sees."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, attrs.fields(type(event))[0].name, None)


def test_each_hook_gets_each_event_in_order():
    """Hooks are called in the order given, with the event itself; at the end of a call in reverse."""
    got = []
    observers = HookDispatcher((lambda event: got.append(("a", event)), lambda event: got.append(("b", event))))
    first, second = EVERY[0][0], EVERY[1][0]
    observers.emit(first)
    observers.emit(second)
    assert got == [("a", first), ("b", first), ("b", second), ("a", second)]


@pytest.mark.parametrize("mistake", [ZeroDivisionError("a bug of the hook's"), asyncio.CancelledError()])
async def test_a_hook_that_raises_is_reported_and_the_next_one_called(complaints, mistake):
    """The loop's exception handler hears of it; the emitter does not, and the other hooks get their event.

    A cancellation is the hook's own as well, for a function that awaits nothing cannot be cancelled.
    """
    got = []

    def careless(event):
        raise mistake

    HookDispatcher((careless, got.append)).emit(EVERY[0][0])
    assert got == [EVERY[0][0]]
    [context] = complaints
    assert context["exception"] is mistake
    assert "careless" in context["message"]


async def test_what_ends_the_program_is_not_swallowed(complaints):
    """Only a hook's errors are kept from the call."""

    def ended(event):
        raise SystemExit

    with pytest.raises(SystemExit):
        HookDispatcher((ended,)).emit(EVERY[0][0])
    assert complaints == []


@pytest.mark.parametrize("mistake", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_a_hook_that_raises_when_it_is_told_of_a_session_is_reported(complaints, mistake):
    """The session opens all the same."""

    class Careless:
        def __call__(self, event):
            """Hear nothing."""

        def bind(self, session):
            return self

        def on_session_open(self, session):
            raise mistake

    dispatch.notify_open(None, [Careless()])
    assert [context["exception"] for context in complaints] == [mistake]


async def listen(event):
    """Hear an event when awaited, which nobody does."""


@pytest.mark.parametrize("hook", [listen, functools.partial(functools.partial(listen))])
def test_a_hook_that_would_have_to_be_awaited_is_refused(hook):
    """Also where it is hidden in what stands for it."""
    with pytest.raises(errors.InvalidArgument, match="none of them a coroutine function"):
        dispatch.to_hooks([hook])


@pytest.mark.parametrize(
    ("hooks", "level", "listened"),
    [((), logging.INFO, False), ((), logging.DEBUG, True), ((print,), logging.INFO, True)],
)
def test_observers_are_true_when_somebody_listens_to_every_call(caplog, hooks, level, listened):
    """The two events of every call are made only for a hook or a debug log."""
    caplog.set_level(level, logger="wxtcb")
    assert bool(HookDispatcher(hooks)) is listened


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (events.TicketReceived(1, is_newest=True), "received, the newest\n"),
        (events.TicketReceived(1, is_newest=True, in_memory_only=True), "in memory until the store takes it"),
        (events.TicketReceived(1, is_newest=False), "nothing changed"),
        (events.TicketWriteFailed(1, "OSError in x, line 1", None), "lost"),
    ],
)
def test_the_log_says_what_became_of_a_ticket(caplog, event, word):
    """A repeat, and a ticket that the end of the receiver loses, are told apart from what is kept."""
    caplog.set_level(logging.INFO, logger="wxtcb")
    HookDispatcher().emit(event)
    assert word in caplog.text
