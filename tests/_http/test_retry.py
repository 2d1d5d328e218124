"""The rules of trying again, as the design's table gives them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from wxtcb import errors
from wxtcb._http.retry import AMBIGUOUS_FAILURES, FailureKind, RetryDecision, RetryPolicy, RetryQuota, classify, decide
from wxtcb._protocol import errcodes
from wxtcb._protocol.endpoint import Repeat

PATH = "/x"
RETRY, RENEW, PAUSE, RAISE, UNKNOWN = RetryDecision
LOST = errors.TransportError("reset", endpoint=PATH, sent=True)
LATE = errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True)
ERRORS = st.sampled_from([LOST, LATE, errors.PlatformBusy(-1, "", endpoint=PATH)])

# What went wrong, could it have taken effect, and what becomes of READ, SET and ONCE: the rows of the design's table.
TABLE = [
    ("never connected", FailureKind.NOT_SENT, False, RETRY, RETRY),
    ("the token is dead", FailureKind.INVALID_TOKEN, False, RENEW, RENEW),
    ("-1", FailureKind.BUSY, True, RETRY, RETRY),
    ("-1000 and passing cloud codes", FailureKind.CLOUD_UNAVAILABLE, True, RETRY, UNKNOWN),
    ("45011", FailureKind.RATE_LIMITED, False, PAUSE, PAUSE),
    ("sent, then timeout, reset, 5xx or unreadable", FailureKind.REPLY_LOST, True, RETRY, UNKNOWN),
    ("sent, then 3xx or another shape", FailureKind.INVALID_REPLY, True, RAISE, UNKNOWN),
    ("other 4xx, quotas, addresses, tickets, secrets", FailureKind.REJECTED, False, RAISE, RAISE),
]


def _cell(cause, repeat, other, once):
    """Return what the table says of a kind of call; what is never repeated differs from ONCE at -1 alone."""
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
    (errors.TokenFetchLimit(30, 5.0), FailureKind.REJECTED),
    (errors.SessionClosed("closed"), FailureKind.REJECTED),
]
CODES = {
    FailureKind.BUSY: [-1],
    FailureKind.CLOUD_UNAVAILABLE: [-1000, -501001, -501002, -502011, -601001, -601003],
    FailureKind.INVALID_TOKEN: [40001, 40014, 40094, 42001],
    FailureKind.RATE_LIMITED: [45011],
    FailureKind.REJECTED: [45009, 48006, 61004, 40164, 61005, 61006, 40125, 85088, 48001, 40097, 40101, -501005, 12345],
}


@pytest.mark.parametrize(("cause", "repeat", "verdict"), CASES)
def test_the_design_table_holds(cause, repeat, verdict):
    """Each cause leads, for each kind of call, to what the design's table says."""
    assert decide(repeat, cause) is verdict


def test_the_table_has_every_cause_once():
    """No cause is without a row."""
    assert [row[1] for row in TABLE] == list(FailureKind)


@pytest.mark.parametrize(("cause", "acted"), [row[1:3] for row in TABLE], ids=str)
def test_what_may_have_acted_is_what_the_table_says(cause, acted):
    """Exactly the causes whose second column does not say no are counted as perhaps acted."""
    assert (cause in AMBIGUOUS_FAILURES) is acted


def test_a_busy_create_is_not_repeated_when_the_policy_says_so():
    """With `busy_creates` False a create that met -1 ends as unknown; reads and sets go on."""
    verdicts = [decide(repeat, FailureKind.BUSY, busy_creates=False) for repeat in Repeat]
    assert verdicts == [RETRY, RETRY, UNKNOWN, UNKNOWN]


@given(
    st.sampled_from([FailureKind.REPLY_LOST, FailureKind.CLOUD_UNAVAILABLE, FailureKind.INVALID_REPLY]), st.booleans()
)
def test_a_create_that_may_have_acted_is_never_repeated_silently(cause, busy_creates):
    """Whatever the policy, ONCE calls without a clear answer end as unknown, never in another send."""
    assert decide(Repeat.ONCE, cause, busy_creates=busy_creates) is UNKNOWN


@given(st.sampled_from(sorted(AMBIGUOUS_FAILURES, key=lambda cause: cause.name)), st.booleans())
def test_what_is_never_to_be_repeated_is_not_even_when_the_platform_asks(cause, busy_creates):
    """NEVER calls that may have acted, -1 included, end as unknown under every policy."""
    assert decide(Repeat.NEVER, cause, busy_creates=busy_creates) is UNKNOWN


@given(st.sampled_from(Repeat), st.sampled_from(FailureKind))
def test_busy_creates_touches_nothing_but_busy_creates(repeat, cause):
    """The option changes no other cell of the table."""
    same = decide(repeat, cause) is decide(repeat, cause, busy_creates=False)
    assert same is ((repeat, cause) != (Repeat.ONCE, FailureKind.BUSY))


@pytest.mark.parametrize(
    ("error", "cause"), SORTED, ids=[f"{type(e).__name__}-{n}-{c.name}" for n, (e, c) in enumerate(SORTED)]
)
def test_an_error_is_sorted_by_what_it_means_for_repeating(error, cause):
    """Never sent, lost, of no use, refused: told apart by the facts on the error."""
    assert classify(error) is cause


@pytest.mark.parametrize(
    ("code", "cause"), [(code, cause) for cause, codes in CODES.items() for code in codes], ids=str
)
def test_an_errcode_is_sorted_as_the_design_says(code, cause):
    """The design's codes stand for their causes; all others are refusals."""
    assert classify(errcodes.api_error(code, "", endpoint=PATH)) is cause


@pytest.mark.parametrize(("repeat", "most"), [(Repeat.READ, 8), (Repeat.SET, 8), (Repeat.ONCE, 5), (Repeat.NEVER, 5)])
def test_the_default_policy_makes_the_attempts_of_the_design(repeat, most):
    """8 attempts for reads and sets, 5 for creates."""
    assert RetryPolicy().max_attempts(repeat) == most


def test_the_default_policy_waits_as_the_design_says():
    """Full jitter from 0.5 s, doubled to at most 8 s, within 60 s; busy creates are repeated."""
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
def test_the_wait_lies_between_nothing_and_the_cap(attempt, base, cap, chance: random.Random):
    """However many attempts and whatever the base, no wait is negative or longer than `cap`, and none overflows."""
    assert 0 <= RetryPolicy(base=base, cap=cap).backoff(attempt, chance.uniform) <= cap


@pytest.mark.parametrize("field", ["attempts", "once_attempts", "base", "cap", "window"])
@pytest.mark.parametrize("value", [0, -1, True, "3", None, float("nan"), float("inf")], ids=str)
def test_a_policy_that_cannot_work_is_refused(field, value):
    """Numbers must be numbers above 0, and the message names the field."""
    with pytest.raises(errors.InvalidArgument, match=f"RetryPolicy: {field} "):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("value", [None, 0, "no"])
def test_busy_creates_must_be_a_bool(value):
    """A text such as "no" is not taken for yes where creates may be billed twice."""
    with pytest.raises(errors.InvalidArgument, match="RetryPolicy: busy_creates must be bool"):
        RetryPolicy(busy_creates=value)


@given(st.integers(1, 600), st.lists(ERRORS | st.none()))
def test_the_quota_stays_between_nothing_and_full(full, course):
    """Whatever fails and succeeds, it is never negative and never above `full`."""
    quota = RetryQuota(full)
    for error in course:
        before = quota.available
        allowed = quota.acquire(error) if error else quota.release()
        assert 0 <= quota.available <= full
        assert allowed is not False or quota.available == before


@pytest.mark.parametrize(
    ("error", "retries"), [(LOST, 100), (errors.PlatformBusy(-1, "", endpoint=PATH), 100), (LATE, 50)]
)
def test_a_dead_platform_gets_few_retries(error, retries):
    """A session's quota is 100 retries, or 50 after timeouts."""
    quota = RetryQuota()
    assert sum(quota.acquire(error) for _ in range(1000)) == retries


def test_a_success_pays_for_a_retry():
    """Every success pays for one retry, and two for one after a timeout."""
    quota = RetryQuota()
    while quota.acquire(LOST):
        pass
    quota.release()
    assert [quota.acquire(LATE), quota.acquire(LOST), quota.acquire(LOST)] == [False, True, False]
    for _ in range(4):
        quota.release()
    assert [quota.acquire(LATE), quota.acquire(LATE), quota.acquire(LOST)] == [True, True, False]
