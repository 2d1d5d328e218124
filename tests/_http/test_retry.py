"""Retry policy: the decision table, the classification of errors, the backoff and the quota."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from wxtcb import errors
from wxtcb._http.retry import AMBIGUOUS_FAILURES, FailureKind, RetryDecision, RetryPolicy, RetryQuota, classify, decide
from wxtcb._protocol import errcodes
from wxtcb._protocol.endpoint import Repeat

SOURCE_FAILED = errors.TicketError("the ticket source failed")
SOURCE_FAILED.transient = True
PATH = "/x"
RETRY, RENEW, PAUSE, RAISE, UNKNOWN = RetryDecision
LOST = errors.TransportError("reset", endpoint=PATH, sent=True)
LATE = errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True)
ERRORS = st.sampled_from([LOST, LATE, errors.PlatformBusy(-1, "", endpoint=PATH)])

# What went wrong, could it have taken effect, and what becomes of READ, SET and ONCE: the rows of the design's table.
TABLE = [
    ("never connected", FailureKind.NOT_SENT, False, RETRY, RETRY),
    ("the token is rejected", FailureKind.INVALID_TOKEN, False, RENEW, RENEW),
    ("-1", FailureKind.BUSY, True, RETRY, RETRY),
    ("-1000 and passing cloud codes", FailureKind.CLOUD_UNAVAILABLE, True, RETRY, UNKNOWN),
    ("45011", FailureKind.RATE_LIMITED, False, PAUSE, PAUSE),
    ("sent, then timeout, reset, 5xx or unreadable", FailureKind.REPLY_LOST, True, RETRY, UNKNOWN),
    ("sent, then 3xx or another shape", FailureKind.INVALID_REPLY, True, RAISE, UNKNOWN),
    ("other 4xx, quotas, addresses, tickets, secrets", FailureKind.REJECTED, False, RAISE, RAISE),
    ("unknown codes", FailureKind.UNCERTAIN, True, RAISE, RAISE),
]


def _cell(cause, repeat, other, once):
    """Return the expected decision; NEVER differs from ONCE only after -1."""
    if not repeat.is_unsafe_to_repeat:
        return other
    return UNKNOWN if (repeat, cause) == (Repeat.NEVER, FailureKind.BUSY) else once


CASES = [
    pytest.param(cause, repeat, _cell(cause, repeat, other, once), id=f"{words}, {repeat.name}")
    for words, cause, _, other, once in TABLE
    for repeat in Repeat
]
SORTED = [
    (errors.TransportError("refused", endpoint=PATH, sent=False), FailureKind.NOT_SENT),
    (errors.TransportError("slow TLS", endpoint=PATH, sent=False, timeout=True), FailureKind.NOT_SENT),
    (errors.TransportError("KeyError", endpoint=PATH, sent=False, permanent=True), FailureKind.REJECTED),
    (errors.TransportError("KeyError", endpoint=PATH, sent=True, permanent=True), FailureKind.INVALID_REPLY),
    (LOST, FailureKind.REPLY_LOST),
    (LATE, FailureKind.REPLY_LOST),
    (errors.BadReply("page", endpoint=PATH, status=500), FailureKind.REPLY_LOST),
    (errors.BadReply("page", endpoint=PATH, status=502), FailureKind.REPLY_LOST),
    (errors.BadReply("page", endpoint=PATH, status=200), FailureKind.REPLY_LOST),
    (errors.BadReply("a redirect", endpoint=PATH, status=302, permanent=True), FailureKind.INVALID_REPLY),
    (errors.BadReply("another shape", endpoint=PATH, status=200, permanent=True), FailureKind.INVALID_REPLY),
    (errors.BadReply("page", endpoint=PATH, status=400), FailureKind.REJECTED),
    (errors.BadReply("page", endpoint=PATH, status=404), FailureKind.REJECTED),
    (errors.BadReply("page", endpoint=PATH, status=429), FailureKind.REJECTED),
    (errors.BadReply("too large", endpoint=PATH, status=413, permanent=True), FailureKind.REJECTED),
    (errors.TicketError("none yet"), FailureKind.REJECTED),
    (SOURCE_FAILED, FailureKind.NOT_SENT),
    (errors.TokenFetchLimit(30, 5.0), FailureKind.REJECTED),
    (errors.SessionClosed("closed"), FailureKind.REJECTED),
]
CODES = {
    FailureKind.BUSY: [-1],
    FailureKind.CLOUD_UNAVAILABLE: [-1000, -501001, -501002, -502011, -601001, -601003],
    FailureKind.INVALID_TOKEN: [40001, 40014, 40094, 42001, 42006],
    FailureKind.RATE_LIMITED: [45011],
    FailureKind.REJECTED: [
        *(45009, 45040, 48006, 61004, 40164, 61005, 61006, 40125, 85088, 48001, 40097, 40101, 41021, -501005, 12345)
    ],
}


@pytest.mark.parametrize(("cause", "repeat", "verdict"), CASES)
def test_decision_table(cause, repeat, verdict):
    """Each kind of failure leads to the decision of the table for each repeat rule."""
    assert decide(repeat, cause) is verdict


def test_decision_table_is_complete():
    """Every kind of failure has one row."""
    assert [row[1] for row in TABLE] == list(FailureKind)


@pytest.mark.parametrize(("cause", "acted"), [row[1:3] for row in TABLE], ids=str)
def test_ambiguous_failures_are_those_of_the_table(cause, acted):
    """The second column says which failures may have taken effect."""
    assert (cause in AMBIGUOUS_FAILURES) is acted


def test_busy_create_is_not_retried_with_busy_creates_false():
    """Its outcome is unknown, while READ and SET calls are retried."""
    verdicts = [decide(repeat, FailureKind.BUSY, busy_creates=False) for repeat in Repeat]
    assert verdicts == [RETRY, RETRY, UNKNOWN, UNKNOWN]


@given(
    st.sampled_from([FailureKind.REPLY_LOST, FailureKind.CLOUD_UNAVAILABLE, FailureKind.INVALID_REPLY]), st.booleans()
)
def test_ambiguous_create_is_never_retried(cause, busy_creates):
    """Under every policy the outcome of a ONCE call without a usable reply is unknown."""
    assert decide(Repeat.ONCE, cause, busy_creates=busy_creates) is UNKNOWN


@given(st.sampled_from(sorted(AMBIGUOUS_FAILURES, key=lambda cause: cause.name)), st.booleans())
def test_ambiguous_call_with_repeat_never_is_never_retried(cause, busy_creates):
    """Its outcome is unknown under every policy, also after -1; an uncertain errcode is raised as it is."""
    expected = RAISE if cause is FailureKind.UNCERTAIN else UNKNOWN
    assert decide(Repeat.NEVER, cause, busy_creates=busy_creates) is expected


@given(st.sampled_from(Repeat), st.sampled_from(FailureKind))
def test_busy_creates_changes_one_cell_of_the_table(repeat, cause):
    """The option affects only ONCE calls after -1."""
    same = decide(repeat, cause) is decide(repeat, cause, busy_creates=False)
    assert same is ((repeat, cause) != (Repeat.ONCE, FailureKind.BUSY))


@pytest.mark.parametrize(
    ("error", "cause"), SORTED, ids=[f"{type(e).__name__}-{n}-{c.name}" for n, (e, c) in enumerate(SORTED)]
)
def test_classify_error(error, cause):
    """The attributes of an error determine its kind of failure."""
    assert classify(error) is cause


@pytest.mark.parametrize(
    ("code", "cause"), [(code, cause) for cause, codes in CODES.items() for code in codes], ids=str
)
def test_classify_errcode(code, cause):
    """Known errcodes have their kinds, all others are rejections of a read."""
    assert classify(errcodes.api_error(code, "", endpoint=PATH)) is cause


@pytest.mark.parametrize("code", [9300999, 88888, -999999, -501000, -504001, -504002])
@pytest.mark.parametrize("repeat", [Repeat.SET, Repeat.ONCE, Repeat.NEVER])
def test_code_that_may_follow_an_effect_is_uncertain(code, repeat):
    """An unknown code, and a failure of an invoked function, does not say that the call had no effect."""
    error = errcodes.api_error(code, "", endpoint=PATH, repeat=repeat)
    assert classify(error) is FailureKind.UNCERTAIN
    assert "may have taken effect" in str(error)
    assert "had no effect" not in str(error)


@pytest.mark.parametrize(("repeat", "most"), [(Repeat.READ, 8), (Repeat.SET, 8), (Repeat.ONCE, 5), (Repeat.NEVER, 5)])
def test_default_policy_attempts(repeat, most):
    """READ and SET calls get 8 attempts, creates 5."""
    assert RetryPolicy().max_attempts(repeat) == most


def test_default_policy_delays():
    """The delay doubles from 0.5 s to 8 s with full jitter, within 60 s."""
    policy = RetryPolicy()
    ceilings = [policy.backoff(attempt, lambda _, most: most) for attempt in range(1, 9)]
    assert ceilings == [0.5, 1, 2, 4, 8, 8, 8, 8]
    assert policy.backoff(3, lambda least, _: least) == 0
    assert (policy.window, policy.busy_creates) == (60.0, True)


@given(
    st.integers(1, 10**9),
    st.floats(1e-9, 1e300),
    st.floats(1e-9, 1e300),
    st.randoms(use_true_random=False),
)
def test_delay_is_between_zero_and_the_cap(attempt, base, cap, chance: random.Random):
    """No number of attempts and no base causes a negative, longer or overflowing delay."""
    assert 0 <= RetryPolicy(base=base, cap=cap).backoff(attempt, chance.uniform) <= cap


@pytest.mark.parametrize("field", ["attempts", "once_attempts", "base", "cap", "window"])
@pytest.mark.parametrize("value", [0, -1, True, "3", None, float("nan"), float("inf")], ids=str)
def test_invalid_policy_is_rejected(field, value):
    """Numbers must be positive, and the message names the field."""
    with pytest.raises(errors.InvalidArgument, match=f"RetryPolicy: {field} "):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("value", [None, 0, "no"])
def test_busy_creates_must_be_a_bool(value):
    """A string such as "no" must not count as true, because a create may be billed twice."""
    with pytest.raises(errors.InvalidArgument, match="RetryPolicy: busy_creates must be bool"):
        RetryPolicy(busy_creates=value)


@given(st.integers(1, 600), st.lists(ERRORS | st.none()))
def test_quota_stays_between_zero_and_capacity(full, course):
    """No sequence of failures and successes leaves that range."""
    quota = RetryQuota(full)
    for error in course:
        before = quota.available
        allowed = quota.acquire_retry(error) if error else quota.record_success()
        assert 0 <= quota.available <= full
        assert allowed is not False or quota.available == before


@pytest.mark.parametrize(
    ("error", "retries"), [(LOST, 100), (errors.PlatformBusy(-1, "", endpoint=PATH), 100), (LATE, 50)]
)
def test_quota_limits_the_retries_of_a_session(error, retries):
    """It allows 100 retries, or 50 after timeouts."""
    quota = RetryQuota()
    assert sum(quota.acquire_retry(error) for _ in range(1000)) == retries


def test_success_returns_the_cost_of_a_retry():
    """One success allows one retry; a retry after a timeout takes two."""
    quota = RetryQuota()
    while quota.acquire_retry(LOST):
        pass
    quota.record_success()
    assert [quota.acquire_retry(LATE), quota.acquire_retry(LOST), quota.acquire_retry(LOST)] == [False, True, False]
    for _ in range(4):
        quota.record_success()
    assert [quota.acquire_retry(LATE), quota.acquire_retry(LATE), quota.acquire_retry(LOST)] == [True, True, False]
