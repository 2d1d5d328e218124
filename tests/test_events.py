"""Events: they reach the log and the hooks, and an exception of a hook changes no result."""

from __future__ import annotations

import asyncio
import functools
import json
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
# Each event with the level of its log line, or None, and what the line contains.
EVERY = [
    (events.CallStarted(PATH, 1), None, []),
    (events.CallFinished(PATH, 1, 2, 0.5, BUSY, cancelled=False), "DEBUG", [PATH, "2 attempt(s)", "-1 system error"]),
    (events.RetryScheduled(PATH, 1, 3, 1.25, BUSY, "busy"), "WARNING", [PATH, "3", "1.25 s", "-1 system error"]),
    (events.RequestResent(PATH, 1, BUSY, "invalid_token"), "DEBUG", [PATH, "invalid_token", "-1 system error"]),
    (events.Abandoned(PATH, 2), "WARNING", [PATH, "cancelled", "2"]),
    (events.PossibleDuplicate(PATH, 2), "WARNING", [PATH, "2 earlier attempt(s)"]),
    (events.EndpointRateLimited(PATH, 42.4), "WARNING", [PATH, "limit", "42 s"]),
    (events.TokenRejected(7, 42001), "DEBUG", ["7", "42001"]),
    (events.TokenRefreshed(8, "advisory", 7200.0, 0.25), "INFO", ["8 fetched", "was to expire", "0.25 s", "7200 s"]),
    (events.TokenRefreshFailed("first", BUSY, 30.0, 0.5), "WARNING", ["there was none", "30 s", "-1 system error"]),
    (events.TokenRefreshed(8, "expired", 7000.0, 0.0, from_store=True), "INFO", ["8 loaded", "had expired", "7000 s"]),
    (events.TokenRefreshed(8, "rejected", 7200.0, 0.1), "INFO", ["because the platform rejected the previous one;"]),
    (events.TokenStoreWriteFailed(2, "failed (OSError in x, line 1)"), "WARNING", ["2", "OSError in x"]),
    (events.TokenStoreRolledBack(5, 7), "WARNING", ["older state", "token is 5", "was 7"]),
    (events.TokenConflictDetected(3, 8.0, "Share it."), "WARNING", ["3 tokens in a row", "8 s", "Share it."]),
    (events.TicketReceived(1413192605, is_newest=True), "INFO", ["1413192605", "newest"]),
    (
        events.TicketWriteFailed(1413192605, "OSError in x, line 1", 8.0),
        "WARNING",
        ["1413192605", "OSError in x", "8 s"],
    ),
    (events.PushRefused("the signature does not match", 403), "WARNING", ["unknown address", "403", "WXTCB_MESSAGE"]),
    (events.PushUndecryptable("192.0.2.1"), "WARNING", ["192.0.2.1", "EncodingAESKey", "someone else knows"]),
    (events.PushMalformed("there must be one CreateTime", "192.0.2.1"), "WARNING", ["192.0.2.1", "one CreateTime"]),
    (events.NotificationDropped("authorized", 100), "WARNING", ["authorized", "100"]),
    (events.NotificationFailed("authorized", "OSError"), "WARNING", ["authorized", "OSError"]),
]


@pytest_asyncio.fixture
async def reported():
    """Collect what is reported to the exception handler of the running loop."""
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


def test_examples_contain_every_event():
    """No event is missing from the examples of this file."""
    assert {type(event) for event, _, _ in EVERY} == set(get_args(events.Event))


@pytest.mark.parametrize(("event", "level", "words"), [row for row in EVERY if row[1]])
def test_event_is_one_log_line_at_its_level(caplog, event, level, words):
    """The line contains the values of the event."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(event)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("wxtcb", level)
    assert [word for word in words if word not in record.getMessage()] == []
    assert "\n" not in record.getMessage()


def test_start_of_a_call_is_not_logged(caplog):
    """Only the end of a call is a log line."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(events.CallStarted(PATH, 1))
    assert caplog.records == []


@pytest.mark.parametrize(("event", "level", "words"), [row for row in EVERY if row[1]])
def test_log_record_has_the_fields_of_the_event(caplog, event, level, words):
    """Each field is an attribute of the log record; the error is the name of its class."""
    caplog.set_level(logging.DEBUG, logger="wxtcb")
    HookDispatcher().emit(event)
    [record] = caplog.records
    assert record.kind == type(event).__name__
    fields = event.to_dict()
    assert len(fields) > 1
    assert {name: getattr(record, name) for name in fields} == json.loads(json.dumps(fields)) == fields


def test_event_fields_contain_class_code_and_rid_of_the_error():
    """Fields that the error does not have are left out."""
    rejected = errors.ApiError(40097, "no", endpoint=PATH, rid="5f-77")
    fields = events.RequestResent(PATH, 1, rejected, "busy").to_dict()
    of_error = {"error": "ApiError", "errcode": 40097, "rid": "5f-77"}
    assert fields == {"kind": "RequestResent", "endpoint": PATH, "call": 1, "reason": "busy", **of_error}
    lost = errors.TransportError("lost", endpoint=PATH, sent=True)
    assert "errcode" not in events.RequestResent(PATH, 1, lost, "lost").to_dict()


@pytest.mark.parametrize(
    ("error", "cancelled", "outcome"), [(None, False, "ok"), (None, True, "cancelled"), (BUSY, False, "PlatformBusy")]
)
def test_outcome_of_a_call_is_one_word(error, cancelled, outcome):
    """The outcome is "ok", "cancelled", or the class of the error."""
    assert events.CallFinished(PATH, 1, 1, 0.5, error, cancelled).outcome == outcome


def test_disabled_log_level_costs_no_formatting(caplog):
    """Below the level of the logger no field of an event is read."""

    class Unreadable(errors.WxtcbError):
        @property
        def rid(self):
            raise AssertionError("was read")

    caplog.set_level(logging.ERROR, logger="quiet")
    dispatch.LoggingHook(logging.getLogger("quiet"))(events.RetryScheduled(PATH, 1, 1, 0.5, Unreadable("no"), "busy"))


def test_equal_refused_push_is_logged_once(caplog):
    """A sender with a wrong token repeats its push every second; other refusals are still logged."""
    hook = dispatch.LoggingHook()
    for reason in ("wrong", "wrong", "late", "wrong"):
        hook(events.PushRefused(reason, 403))
    assert [record.reason for record in caplog.records] == ["wrong", "late"]


def test_repeated_event_is_admitted_again_after_a_minute():
    """The minute begins with the last event that was admitted; events of a hundred kinds are remembered."""
    times = iter([0, 59, 60, 61, *[70] * 100, 71])
    repeats = dispatch.RepeatFilter(lambda: next(times))
    one = events.PushRefused("wrong", 403)
    assert [repeats.admits(one) for _ in range(4)] == [True, False, True, False]
    assert all(repeats.admits(events.PushRefused("wrong", status)) for status in range(100))
    assert repeats.admits(one)


def test_logging_hook_writes_to_its_logger(caplog):
    """The logger is an argument of the hook."""
    with caplog.at_level(logging.INFO):
        dispatch.LoggingHook(logging.getLogger("mine"))(EVERY[-1][0])
    assert [record.name for record in caplog.records] == ["mine"]


@pytest.mark.parametrize(("event", "level", "words"), EVERY)
def test_event_is_frozen(event, level, words):
    """A hook cannot change the event that the next hook receives."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, attrs.fields(type(event))[0].name, None)


def test_hooks_are_called_in_order_and_in_reverse_at_the_end_of_a_call():
    """The reverse order at the end lets hooks nest what they open for a call."""
    calls = []
    dispatcher = HookDispatcher((lambda event: calls.append(("a", event)), lambda event: calls.append(("b", event))))
    first, second = EVERY[0][0], EVERY[1][0]
    dispatcher.emit(first)
    dispatcher.emit(second)
    assert calls == [("a", first), ("b", first), ("b", second), ("a", second)]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug in the hook"), asyncio.CancelledError()])
async def test_exception_of_a_hook_is_reported_to_the_loop(reported, error):
    """The emitter does not see it, and the next hook receives the event.

    A CancelledError is treated alike: a synchronous function cannot be cancelled from outside.
    """
    received = []

    def broken(event):
        raise error

    HookDispatcher((broken, received.append)).emit(EVERY[0][0])
    assert received == [EVERY[0][0]]
    [context] = reported
    assert context["exception"] is error
    assert "broken" in context["message"]


async def test_system_exit_of_a_hook_is_raised(reported):
    """Only exceptions that do not end the program are kept from the call."""

    def exit_program(event):
        raise SystemExit

    with pytest.raises(SystemExit):
        HookDispatcher((exit_program,)).emit(EVERY[0][0])
    assert reported == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_exception_of_on_session_open_is_reported_to_the_loop(reported, error):
    """The session opens nevertheless."""

    class Broken:
        def __call__(self, event):
            """Ignore the event."""

        def bind(self, session):
            return self

        def on_session_open(self, session):
            raise error

    dispatch.notify_open(None, [Broken()])
    assert [context["exception"] for context in reported] == [error]


async def async_hook(event):
    """Receive an event only if awaited."""


@pytest.mark.parametrize("hook", [async_hook, functools.partial(functools.partial(async_hook))])
def test_coroutine_function_is_rejected_as_a_hook(hook):
    """A coroutine function inside of `functools.partial` is found too."""
    with pytest.raises(errors.InvalidArgument, match="coroutine function"):
        dispatch.to_hooks([hook])


@pytest.mark.parametrize(
    ("hooks", "level", "listening"),
    [((), logging.INFO, False), ((), logging.DEBUG, True), ((print,), logging.INFO, True)],
)
def test_events_of_calls_are_observed_by_a_hook_or_a_debug_log(caplog, hooks, level, listening):
    """The two events of every call are built only for a hook or a debug log."""
    caplog.set_level(level, logger="wxtcb")
    assert HookDispatcher(hooks).is_observed is listening


@pytest.mark.parametrize(
    "event",
    [
        events.TicketReceived(1, is_newest=True),
        events.TicketReceived(1, is_newest=True, in_memory_only=True),
        events.TicketReceived(1, is_newest=False),
        events.TicketWriteFailed(1, "OSError in x, line 1", None),
    ],
)
def test_log_distinguishes_what_happened_to_a_ticket(caplog, event):
    """A stored ticket, one in memory only, a repeated one and a lost one have different log lines."""
    caplog.set_level(logging.INFO, logger="wxtcb")
    HookDispatcher().emit(events.TicketReceived(1, is_newest=True))
    HookDispatcher().emit(event)
    stored, other = (record.getMessage() for record in caplog.records)
    assert (stored == other) is (event == events.TicketReceived(1, is_newest=True))
