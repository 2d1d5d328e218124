"""Schedule of pushes, without a socket."""

from __future__ import annotations

import pytest
from attrs import evolve

from wxtcb.sandbox import Push, PushResult, PushSchedule, World
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.push.schedule import MAX_CONSECUTIVE_FAILURES, PushSettings

from .receiver import read_push
from .sandbox_harness import Clock

ACCEPTED = PushResult(200, b"success")
FAILED = PushResult(500)
NO_RESPONSE = PushResult(error="connection refused")
WEEK = 7 * 86_400


@pytest.fixture
def pushes(world: World) -> PushSchedule:
    """Return a schedule whose receiver has accepted a push before."""
    schedule = PushSchedule(world)
    schedule.configure(PushSettings(every=600))
    schedule.receiver_accepted = True
    return schedule


def read(pushes: PushSchedule, push: Push) -> dict[str, str]:
    """Decrypt a push with the current key."""
    return read_push(push.query, push.body, pushes.world.message_settings)


def test_push_has_the_newest_ticket(pushes: PushSchedule, world: World) -> None:
    """A push has the appid, the newest ticket and the platform's time, in the message and in the query."""
    [push] = pushes.due_pushes()
    assert read(pushes, push) == {
        "AppId": world.credentials.appid,
        "CreateTime": "1600000000",
        "InfoType": "component_verify_ticket",
        "ComponentVerifyTicket": world.ticket,
    }
    assert (push.info_type, push.create_time, push.query["timestamp"]) == (
        "component_verify_ticket",
        1_600_000_000,
        "1600000000",
    )


def test_week_of_tickets(pushes: PushSchedule, world: World, clock: Clock) -> None:
    """Tickets come every ten minutes, each newer than the last; those of the last 12 hours are valid."""
    tickets, created = [], []
    while clock.now < 1_200_000 + WEEK:
        [push] = pushes.due_pushes()
        pushes.record_result(ACCEPTED)
        tickets.append(read(pushes, push)["ComponentVerifyTicket"])
        created.append(push.create_time)
        clock.advance(pushes.next_delay or 0)
    assert (len(set(tickets)), pushes.sent, pushes.failed) == (1008, 1008, 0)
    assert created == list(range(1_600_000_000, 1_600_000_000 + WEEK, 600))
    world.credentials.check_ticket(tickets[-71], clock.now)
    with pytest.raises(PlatformError):
        world.credentials.check_ticket(tickets[-72], clock.now)


def test_tickets_have_distinct_create_times(pushes: PushSchedule) -> None:
    """The later one of two tickets of the same second has the later CreateTime."""
    assert [pushes.make_ticket_push().create_time for _ in range(3)] == [1_600_000_000, 1_600_000_001, 1_600_000_002]


def test_push_can_be_repeated(pushes: PushSchedule) -> None:
    """A repeated push is the same message."""
    pushes.settings = PushSettings(every=600, repeated=1)
    first, again = pushes.due_pushes()
    assert first is again
    assert pushes.due_pushes()[0] != first


def test_previous_push_can_come_late(pushes: PushSchedule) -> None:
    """A late push follows the newer one; the first push has none before it."""
    pushes.settings = PushSettings(every=600, late=1)
    [first] = pushes.due_pushes()
    second, late = pushes.due_pushes()
    assert late is first
    assert second.create_time > late.create_time


@pytest.mark.parametrize("accepted", [False, True])
def test_old_push_is_signed_anew(world: World, clock: Clock, *, accepted: bool) -> None:
    """A late push, or the first one to a receiver that starts late, is the same message with a new signature."""
    pushes = PushSchedule(world, PushSettings(every=600, late=1))
    [first] = pushes.due_pushes()
    pushes.receiver_accepted = accepted
    clock.advance(601)
    again = pushes.due_pushes()[-1]
    settings = world.message_settings
    assert read_push(again.query, again.body, settings) == read_push(first.query, first.body, settings)
    assert int(again.query["timestamp"]) - int(first.query["timestamp"]) == 601


def test_repetitions_follow_from_the_seed(clock: Clock) -> None:
    """Equal seeds repeat the same pushes, with messages equal to the byte."""

    def rounds(seed: int) -> list[list[Push]]:
        pushes = PushSchedule(
            World(clock=clock, started_at_unix=0, seed=seed), PushSettings(every=600, repeated=0.5, late=0.5)
        )
        pushes.receiver_accepted = True
        return [pushes.due_pushes() for _ in range(20)]

    assert rounds(1) == rounds(1)
    assert [*map(len, rounds(1))] != [*map(len, rounds(2))]
    assert {1, 2, 3} == {*map(len, rounds(1))}


def test_pushing_stops_after_failures_in_a_row(pushes: PushSchedule) -> None:
    """A success resets the count of failures; the last failure in a row stops pushing."""
    for result in [FAILED] * (MAX_CONSECUTIVE_FAILURES - 1) + [ACCEPTED] + [FAILED] * (MAX_CONSECUTIVE_FAILURES - 1):
        pushes.record_result(result)
    assert not pushes.stopped
    pushes.record_result(NO_RESPONSE)
    assert pushes.stopped
    assert (pushes.sent, pushes.failed) == (2 * MAX_CONSECUTIVE_FAILURES, 2 * MAX_CONSECUTIVE_FAILURES - 1)
    pushes.start()
    pushes.record_result(FAILED)
    assert not pushes.stopped


@pytest.mark.parametrize("result", [NO_RESPONSE, FAILED])
def test_first_ticket_is_pushed_again_until_it_is_accepted(
    pushes: PushSchedule, clock: Clock, result: PushResult
) -> None:
    """A receiver that is not running yet, or rejects the first push, gets the ticket again every second."""
    pushes.configure(PushSettings(every=600))
    [first] = pushes.due_pushes()
    for _ in range(2 * MAX_CONSECUTIVE_FAILURES):
        pushes.record_result(result)
        assert (pushes.next_delay, pushes.stopped) == (1, False)
        clock.advance(1)
        assert pushes.due_pushes() == [first]
    pushes.record_result(ACCEPTED)
    assert pushes.next_delay == 600
    assert pushes.due_pushes() != [first]


def test_failures_before_the_first_acceptance_do_not_stop_pushing(pushes: PushSchedule) -> None:
    """Rejected pushes count as failed, but in a row only after an accepted one; without a response none counts."""
    pushes.configure(PushSettings(every=600))
    for result in [NO_RESPONSE, *[FAILED] * MAX_CONSECUTIVE_FAILURES, ACCEPTED, *[FAILED] * MAX_CONSECUTIVE_FAILURES]:
        assert not pushes.stopped
        pushes.record_result(result)
    assert pushes.stopped
    assert (pushes.sent, pushes.failed) == (2 * MAX_CONSECUTIVE_FAILURES + 1, 2 * MAX_CONSECUTIVE_FAILURES)


def test_old_first_ticket_is_replaced(pushes: PushSchedule, world: World, clock: Clock) -> None:
    """A ticket that was not accepted for hours is followed by a new one, before it expires."""
    pushes.configure(PushSettings(every=600))
    [first] = pushes.due_pushes()
    clock.advance(6 * 3600)
    [second] = pushes.due_pushes()
    assert read(pushes, second)["ComponentVerifyTicket"] == world.ticket
    assert read(pushes, first)["ComponentVerifyTicket"] != world.ticket


@pytest.mark.parametrize(("every", "delay"), [(0.5, 0.5), (None, None)])
def test_first_contact_is_not_slower_than_the_interval(
    pushes: PushSchedule, every: float | None, delay: float | None
) -> None:
    """A shorter interval applies to the first contact too; without an interval there is no next round."""
    pushes.configure(PushSettings(every=every))
    assert pushes.next_delay == delay


def test_key_can_be_rotated(pushes: PushSchedule, world: World) -> None:
    """Later pushes decrypt with the new key, earlier ones with the previous key."""
    settings = world.message_settings
    before, old = pushes.make_ticket_push(), settings.encoding_aes_key
    new = settings.rotate_key()
    assert (settings.encoding_aes_key, settings.previous_encoding_aes_key) == (new, old)
    assert read(pushes, pushes.make_ticket_push())["ComponentVerifyTicket"] == world.ticket
    assert read_push(before.query, before.body, settings, key=old)["CreateTime"] == str(before.create_time)


def test_message_settings_have_the_format_of_the_console(clock: Clock) -> None:
    """The key has 43 letters and digits; key and token follow from the seed and are in no repr."""
    one, same, other = (
        World(clock=clock).message_settings,
        World(clock=clock).message_settings,
        World(clock=clock, seed=1).message_settings,
    )
    assert one.encoding_aes_key == same.encoding_aes_key != other.encoding_aes_key
    assert one.message_token == same.message_token != other.message_token
    assert (len(one.encoding_aes_key), one.encoding_aes_key.isalnum()) == (43, True)
    assert (len(one.message_token), one.message_token.isalnum()) == (32, True)
    old = one.encoding_aes_key
    one.rotate_key()
    assert not any(secret in repr(one) for secret in (old, one.encoding_aes_key, one.message_token))


def test_notification_has_its_own_fields(pushes: PushSchedule, world: World) -> None:
    """The fields follow AppId, CreateTime and InfoType, and no ticket is issued."""
    ticket = world.ticket
    push = pushes.make_notification("authorized", {"AuthorizerAppid": "wx1", "AuthorizationCodeExpiredTime": 600})
    assert read(pushes, push) == {
        "AppId": world.credentials.appid,
        "CreateTime": "1600000000",
        "InfoType": "authorized",
        "AuthorizerAppid": "wx1",
        "AuthorizationCodeExpiredTime": "600",
    }
    assert world.ticket == ticket


def test_forged_push_has_another_token_and_key(pushes: PushSchedule) -> None:
    """A forged push does not verify, although its form is right."""
    forged, honest = pushes.make_forged_push(), pushes.make_ticket_push()
    with pytest.raises(AssertionError):
        read(pushes, forged)
    assert forged.query.keys() == honest.query.keys()
    assert read(pushes, honest)


@pytest.mark.parametrize(
    ("result", "accepted", "text"),
    [
        (ACCEPTED, True, "HTTP 200 'success'"),
        (PushResult(200, b"success\n"), False, "HTTP 200 'success\\n'"),
        (PushResult(200, b""), False, "HTTP 200 ''"),
        (PushResult(201, b"success"), False, "HTTP 201 'success'"),
        (NO_RESPONSE, False, "connection refused"),
    ],
)
def test_only_exact_success_is_accepted(result: PushResult, text: str, *, accepted: bool) -> None:
    """Only status 200 with exactly `success` is accepted."""
    assert (result.accepted, str(result)) == (accepted, text)


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "1", True])
def test_invalid_interval_is_rejected(every: float) -> None:
    """The interval must be a positive, finite number."""
    with pytest.raises(ValueError, match="every"):
        PushSettings(every=every)


@pytest.mark.parametrize("name", ["repeated", "late"])
@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "1", True])
def test_invalid_fraction_is_rejected(name: str, fraction: float) -> None:
    """A fraction must be a number from 0 to 1; the message has its name."""
    with pytest.raises(ValueError, match=name):
        evolve(PushSettings(every=None), **{name: fraction})


def test_repr_of_a_push_has_no_content(pushes: PushSchedule) -> None:
    """The repr of a push has type and time only."""
    assert repr(pushes.make_ticket_push()) == "Push(info_type='component_verify_ticket', create_time=1600000000)"
