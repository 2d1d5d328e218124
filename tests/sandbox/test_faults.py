"""Which fault strikes, and how faults are described."""

from __future__ import annotations

import pytest

from wxtcb.sandbox import Fault, FaultKind, Faults, InvalidFault

from .sandbox_harness import CREATE, LIST, PUSH, TOKEN


def test_a_fault_without_a_path_spares_the_token_layer() -> None:
    """Calls that carry no token are struck only by faults that name them."""
    faults = Faults()
    busy = faults.busy()
    assert faults.next_fault(CREATE) is busy
    assert faults.next_fault(TOKEN) is faults.next_fault(PUSH) is None
    ticket = faults.reject_ticket()
    assert (ticket.path, ticket.errcode) == (TOKEN, 61006)
    assert faults.next_fault(TOKEN) is ticket
    assert faults.reject_ticket(path=PUSH).path == PUSH


def test_a_fault_is_used_up() -> None:
    """After `times` plays the next fault in order takes over, and then none."""
    faults = Faults()
    first, second = faults.drop_after(path=CREATE, times=2), faults.busy(times=1)
    assert [faults.next_fault(CREATE) for _ in range(4)] == [first, first, second, None]


def test_probability_is_seeded() -> None:
    """Equal seeds toss alike; about the stated share is struck."""
    one, same = Faults(seed=7), Faults(seed=7)
    for faults in (one, same):
        faults.busy(probability=0.3)
    struck = [one.next_fault(LIST) is not None for _ in range(1000)]
    assert struck == [same.next_fault(LIST) is not None for _ in range(1000)]
    assert 250 < sum(struck) < 350


def test_a_script_is_played_in_order_before_anything_else() -> None:
    """One entry a request, None for an undisturbed one; then the standing faults count again."""
    faults = Faults()
    standing = faults.busy()
    drop = Fault(FaultKind.DROP)
    faults.script(LIST, [drop, None])
    faults.script(LIST, [drop])
    assert [faults.next_fault(LIST) for _ in range(4)] == [drop, None, drop, standing]


def test_clear_lifts_everything() -> None:
    """Faults, scripts and the killing of tokens all end."""
    faults = Faults(expire_token_every=1)
    faults.busy()
    faults.script(LIST, [Fault(FaultKind.DROP)])
    faults.clear()
    assert faults.next_fault(LIST) is None
    assert not faults.is_expiry_due(10)


def test_kills_are_due_at_intervals() -> None:
    """The interval counts from the first call, then from each kill."""
    faults = Faults(expire_token_every=0.2)
    assert [faults.is_expiry_due(now) for now in (5.0, 5.1, 5.25, 5.3, 6.0)] == [False, False, True, False, True]


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf"), True, "1"])
def test_an_interval_of_kills_is_a_time(seconds: float) -> None:
    """What is no positive, finite number is refused, at making the faults and at setting it later."""
    faults = Faults(expire_token_every=2)
    with pytest.raises(ValueError, match="expire_token_every must be a positive"):
        Faults(expire_token_every=seconds)
    with pytest.raises(ValueError, match="expire_token_every must be a positive"):
        faults.expire_token_every = seconds
    assert faults.expire_token_every == 2


@pytest.mark.parametrize("trouble", [FaultKind.HTTP, FaultKind.HTTP_AFTER, FaultKind.ECHO_PAGE])
@pytest.mark.parametrize("status", [-1, 99, 199, 600, 1000, True, 502.0])
def test_a_page_has_a_status_that_can_be_final(trouble: FaultKind, status: int) -> None:
    """Below 200 and above 599 there is nothing that HTTP could answer with."""
    with pytest.raises(ValueError, match="status must be an integer from 200 to 599"):
        Fault(trouble, status=status)


@pytest.mark.parametrize("status", [200, 299, 400, 307.0])
def test_a_redirect_has_a_status_that_redirects(status: int) -> None:
    """Outside of 300 to 399 it would be none."""
    with pytest.raises(ValueError, match="status must be an integer from 300 to 399"):
        Faults().redirect(status)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, r"\$ must be an array"),
        ([1], r"\$\[0\] must be an object"),
        ([{"trouble": "busy", "tims": 1}], r"\$\[0\].tims is unknown"),
        ([{"trouble": "bsy"}], "bsy"),
        ([{}], "None"),
        ([{"trouble": "busy", "times": 0}], "times"),
        ([{"trouble": "busy", "times": True}], "times"),
        ([{"trouble": "busy", "probability": 2}], "probability"),
        ([{"trouble": "busy", "probability": "1"}], "probability"),
        ([{"trouble": "errcode", "errcode": "1"}], "errcode must be an integer"),
        ([{"trouble": "http", "status": 1000}], r"\$\[0\]: status must be"),
        ([{"trouble": "redirect", "status": 200}], r"\$\[0\]: status must be"),
        ([{"trouble": "hiccup", "envs": "e"}], "envs must be a list"),
        ([{"trouble": "busy", "path": 1}], "path"),
    ],
)
def test_a_misdescribed_fault_is_refused(entries: object, words: str) -> None:
    """The message names the place, and nothing of the list is taken."""
    faults = Faults()
    with pytest.raises(InvalidFault, match=words):
        faults.load(entries)
    assert faults.next_fault(LIST) is None


def test_all_or_none_of_a_list_is_loaded() -> None:
    """A good entry before a bad one is not left in force."""
    faults = Faults()
    with pytest.raises(InvalidFault):
        faults.load([{"trouble": "busy"}, {}])
    assert faults.next_fault(LIST) is None
    assert faults.load([{"trouble": "hiccup", "envs": ["e"], "times": 1}]) == 1
    assert faults.next_fault(LIST) == Fault(FaultKind.INCOMPLETE_LIST, envs=("e",), times=1)
