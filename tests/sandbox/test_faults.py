"""Faults: which one applies, and how they are described in JSON."""

from __future__ import annotations

import pytest

from wxtcb.sandbox import Fault, FaultKind, Faults, InvalidFault
from wxtcb.sandbox.faults import parse_fault_option

from .sandbox_harness import CREATE, LIST, PUSH, TOKEN


def test_fault_without_path_skips_calls_without_token() -> None:
    """A fault without a path does not apply to calls that carry no token."""
    faults = Faults()
    busy = faults.busy()
    assert faults.next_fault(CREATE) is busy
    assert faults.next_fault(TOKEN) is faults.next_fault(PUSH) is None
    ticket = faults.reject_ticket()
    assert (ticket.path, ticket.errcode) == (TOKEN, 61006)
    assert faults.next_fault(TOKEN) is ticket
    assert faults.reject_ticket(path=PUSH).path == PUSH


def test_fault_is_used_up_after_times() -> None:
    """After `times` requests the next matching fault applies, and then none."""
    faults = Faults()
    first, second = faults.drop_after(path=CREATE, times=2), faults.busy(times=1)
    assert [faults.next_fault(CREATE) for _ in range(4)] == [first, first, second, None]


def test_draws_follow_from_the_seed() -> None:
    """Equal seeds give equal draws, and about the given share of requests is affected."""
    one, same = Faults(seed=7), Faults(seed=7)
    for faults in (one, same):
        faults.busy(probability=0.3)
    applied = [one.next_fault(LIST) is not None for _ in range(1000)]
    assert applied == [same.next_fault(LIST) is not None for _ in range(1000)]
    assert 250 < sum(applied) < 350


def test_script_comes_before_active_faults() -> None:
    """A script has one entry for each request, None for an undisturbed one; then active faults apply."""
    faults = Faults()
    active = faults.busy()
    drop = Fault(FaultKind.DROP)
    faults.script(LIST, [drop, None])
    faults.script(LIST, [drop])
    assert [faults.next_fault(LIST) for _ in range(4)] == [drop, None, drop, active]


def test_clear_removes_everything() -> None:
    """Clearing removes faults, scripts and the expiration of tokens."""
    faults = Faults(expire_token_every=1)
    faults.busy()
    faults.script(LIST, [Fault(FaultKind.DROP)])
    faults.clear()
    assert faults.next_fault(LIST) is None
    assert not faults.is_expiry_due(10)


def test_expirations_are_due_at_intervals() -> None:
    """The interval starts with the first call, then with each expiration."""
    faults = Faults(expire_token_every=0.2)
    assert [faults.is_expiry_due(now) for now in (5.0, 5.1, 5.25, 5.3, 6.0)] == [False, False, True, False, True]


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf"), True, "1"])
def test_invalid_expiration_interval_is_rejected(seconds: float) -> None:
    """The interval must be a positive, finite number, in the constructor and on assignment."""
    faults = Faults(expire_token_every=2)
    with pytest.raises(ValueError, match="expire_token_every"):
        Faults(expire_token_every=seconds)
    with pytest.raises(ValueError, match="expire_token_every"):
        faults.expire_token_every = seconds
    assert faults.expire_token_every == 2


@pytest.mark.parametrize("kind", [FaultKind.HTTP, FaultKind.HTTP_AFTER, FaultKind.ECHO_PAGE])
@pytest.mark.parametrize("status", [-1, 99, 199, 600, 1000, True, 502.0])
def test_page_status_is_from_200_to_599(kind: FaultKind, status: int) -> None:
    """The status of a page must be one that HTTP allows for a final response."""
    with pytest.raises(ValueError, match="200 to 599"):
        Fault(kind, status=status)


@pytest.mark.parametrize("status", [200, 299, 400, 307.0])
def test_redirect_status_is_from_300_to_399(status: int) -> None:
    """The status of a redirect must be from 300 to 399."""
    with pytest.raises(ValueError, match="300 to 399"):
        Faults().redirect(status)


@pytest.mark.parametrize(
    ("entries", "pattern"),
    [
        ({}, r"\$ must be an array"),
        ([1], r"\$\[0\] must be an object"),
        ([{"kind": "busy", "tims": 1}], r"\$\[0\].tims is unknown"),
        ([{"kind": "bsy"}], r"\$\[0\]: kind 'bsy' is unknown; known are busy, .*drop-after, .*echo-message$"),
        ([{"kind": ["busy"]}], "is unknown"),
        ([{}], "None"),
        ([{"kind": "busy", "times": 0}], "times"),
        ([{"kind": "busy", "times": True}], "times"),
        ([{"kind": "busy", "probability": 2}], "probability"),
        ([{"kind": "busy", "probability": "1"}], "probability"),
        ([{"kind": "errcode", "errcode": "1"}], "errcode"),
        ([{"kind": "http", "status": 1000}], r"\$\[0\]: status"),
        ([{"kind": "redirect", "status": 200}], r"\$\[0\]: status"),
        ([{"kind": "incomplete-list", "envs": "e"}], "envs"),
        ([{"kind": "busy", "path": 1}], "path"),
        (
            [{"kind": "busy", "path": "createenv"}],
            r"\$\[0\]: path 'createenv' .* did you mean /componenttcb/createenv\?",
        ),
    ],
)
def test_invalid_description_is_rejected(entries: object, pattern: str) -> None:
    """The message names the place, and no fault is added."""
    faults = Faults()
    with pytest.raises(InvalidFault, match=pattern):
        faults.load(entries)
    assert faults.next_fault(LIST) is None


def test_list_is_loaded_completely_or_not_at_all() -> None:
    """A valid fault before an invalid one is not added."""
    faults = Faults()
    with pytest.raises(InvalidFault):
        faults.load([{"kind": "busy"}, {}])
    assert faults.next_fault(LIST) is None
    assert faults.load([{"kind": "incomplete-list", "envs": ["e"], "times": 1}]) == 1
    assert faults.next_fault(LIST) == Fault(FaultKind.INCOMPLETE_LIST, envs=("e",), times=1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("busy", Fault(FaultKind.BUSY)),
        ("drop-after:/componenttcb/createenv", Fault(FaultKind.DROP_AFTER, path=CREATE)),
        ("drop-after:/componenttcb/createenv:2", Fault(FaultKind.DROP_AFTER, path=CREATE, times=2)),
        ("drop::2", Fault(FaultKind.DROP, times=2)),
        ("slow,seconds=1.5", Fault(FaultKind.SLOW, seconds=1.5)),
        (
            "missing:/componenttcb/describeenvs:1,name=info_list.status",
            Fault(FaultKind.MISSING, path=LIST, times=1, name="info_list.status"),
        ),
        ("busy,probability=0.5,times=3", Fault(FaultKind.BUSY, probability=0.5, times=3)),
    ],
)
def test_fault_can_be_written_in_one_word(text: str, fault: Fault) -> None:
    """The option of the command has kind, path and number of requests, and the other fields by name."""
    assert parse_fault_option(text) == fault


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "known are busy"),
        ("drp", "drp: kind 'drp' is unknown; known are busy"),
        ("drop:/componenttcb/createenv:0", "times"),
        ("drop:/componenttcb/createenv:many", "times"),
        ("drop:/componenttcb/createenv:", "times"),
        ("drop:/componenttcb/createenvv", r"did you mean /componenttcb/createenv\?"),
        ("drop:/x:1:2", "expected KIND"),
        ("slow,3", "expected KIND"),
        ("slow,second=3", "slow.second is unknown"),
        ("slow,kind=3", "known are"),
    ],
)
def test_invalid_fault_option_is_rejected(text: str, pattern: str) -> None:
    """The message names the error, and for a wrong kind the known ones."""
    with pytest.raises(InvalidFault, match=pattern):
        parse_fault_option(text)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/componenttcb/createenvv", r"did you mean /componenttcb/createenv\?"),
        ("componenttcb/createenv", r"did you mean /componenttcb/createenv\?"),
        ("/_cos/puts", r"did you mean /_cos/put\?"),
        ("/", "expected one such as /componenttcb/createenv"),
    ],
)
def test_path_that_does_not_exist_is_rejected(path: str, pattern: str) -> None:
    """A fault or script of it would never apply; the message has a similar path."""
    faults = Faults()
    with pytest.raises(ValueError, match=pattern):
        faults.busy(path=path)
    with pytest.raises(ValueError, match=pattern):
        faults.script(path, [None])


@pytest.mark.parametrize("path", ["/_cos/post", "/_cos/put", "/_cos/get"])
def test_object_storage_has_paths(path: str) -> None:
    """A fault of them applies to uploads and downloads."""
    faults = Faults()
    assert faults.next_fault(path) is None
    assert faults.drop(path=path) is faults.next_fault(path)


def test_active_faults_have_the_remaining_number() -> None:
    """A fault that is used up is not active any more."""
    faults = Faults()
    faults.busy(path=LIST, times=2)
    faults.drop(path=LIST, times=1)
    faults.next_fault(LIST)
    assert faults.active == [Fault(FaultKind.BUSY, path=LIST, times=1), Fault(FaultKind.DROP, path=LIST, times=1)]
    faults.next_fault(LIST)
    assert [fault.kind for fault in faults.active] == [FaultKind.DROP]
