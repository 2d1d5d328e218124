"""What is pushed, and when, without a socket."""

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
UNHEARD = PushResult(error="nobody there")
WEEK = 7 * 86_400


@pytest.fixture
def pushes(world: World) -> PushSchedule:
    """Begin with a receiver that has answered before."""
    made = PushSchedule(world)
    made.configure(PushSettings(every=600))
    made.receiver_responded = True
    return made


def read(pushes: PushSchedule, push: Push) -> dict[str, str]:
    """Open a push with the present key."""
    return read_push(push.query, push.body, pushes.world.message_settings)


def test_a_push_brings_the_newest_ticket(pushes: PushSchedule, world: World) -> None:
    """With the appid, and the platform's time of day, inside and outside."""
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


def test_a_week_of_tickets(pushes: PushSchedule, world: World, clock: Clock) -> None:
    """One every ten minutes, each newer than all before; those of the last twelve hours buy tokens."""
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


def test_no_two_tickets_have_the_same_time(pushes: PushSchedule) -> None:
    """Of two within a second the second is the newer one."""
    assert [pushes.make_ticket_push().create_time for _ in range(3)] == [1_600_000_000, 1_600_000_001, 1_600_000_002]


def test_a_push_can_come_twice(pushes: PushSchedule) -> None:
    """The very same message."""
    pushes.settings = PushSettings(every=600, repeated=1)
    first, again = pushes.due_pushes()
    assert first is again
    assert pushes.due_pushes()[0] != first


def test_an_older_push_can_come_late(pushes: PushSchedule) -> None:
    """Behind the newer one; the first has none before it."""
    pushes.settings = PushSettings(every=600, late=1)
    [first] = pushes.due_pushes()
    second, late = pushes.due_pushes()
    assert late is first
    assert second.create_time > late.create_time


def test_repetitions_come_from_the_seed(clock: Clock) -> None:
    """Equal seeds repeat the same pushes; the messages are equal to the byte."""

    def rounds(seed: int) -> list[list[Push]]:
        pushes = PushSchedule(
            World(clock=clock, started_at_unix=0, seed=seed), PushSettings(every=600, repeated=0.5, late=0.5)
        )
        pushes.receiver_responded = True
        return [pushes.due_pushes() for _ in range(20)]

    assert rounds(1) == rounds(1)
    assert [*map(len, rounds(1))] != [*map(len, rounds(2))]
    assert {1, 2, 3} == {*map(len, rounds(1))}


def test_pushing_stops_after_failures_in_a_row(pushes: PushSchedule) -> None:
    """One success starts the count anew; at the last failure the platform gives up."""
    for result in [FAILED] * (MAX_CONSECUTIVE_FAILURES - 1) + [ACCEPTED] + [FAILED] * (MAX_CONSECUTIVE_FAILURES - 1):
        pushes.record_result(result)
    assert not pushes.stopped
    pushes.record_result(UNHEARD)
    assert pushes.stopped
    assert (pushes.sent, pushes.failed) == (2 * MAX_CONSECUTIVE_FAILURES, 2 * MAX_CONSECUTIVE_FAILURES - 1)
    pushes.start()
    pushes.record_result(FAILED)
    assert not pushes.stopped


def test_a_receiver_that_never_was_there_is_waited_for(pushes: PushSchedule) -> None:
    """The first push is kept for it, and tried every second; nothing counts until something answers."""
    pushes.configure(PushSettings(every=600))
    [first] = pushes.due_pushes()
    for _ in range(2 * MAX_CONSECUTIVE_FAILURES):
        pushes.record_result(UNHEARD)
        assert pushes.next_delay == 1
        assert pushes.due_pushes() == [first]
    assert (pushes.sent, pushes.failed, pushes.stopped) == (0, 0, False)
    pushes.record_result(FAILED)
    assert (pushes.sent, pushes.failed, pushes.next_delay) == (1, 1, 600)
    assert pushes.due_pushes() != [first]


@pytest.mark.parametrize(("every", "pause"), [(0.5, 0.5), (None, None)])
def test_waiting_is_no_slower_than_the_pace(pushes: PushSchedule, every: float | None, pause: float | None) -> None:
    """Nor does it happen where nothing is pushed by itself."""
    pushes.configure(PushSettings(every=every))
    assert pushes.next_delay == pause


def test_the_key_can_be_changed(pushes: PushSchedule, world: World) -> None:
    """What is pushed afterwards opens with the new key; the old one opens what was pushed before."""
    console = world.message_settings
    before, old = pushes.make_ticket_push(), console.encoding_aes_key
    new = console.rotate_key()
    assert (console.encoding_aes_key, console.previous_encoding_aes_key) == (new, old)
    assert read(pushes, pushes.make_ticket_push())["ComponentVerifyTicket"] == world.ticket
    assert read_push(before.query, before.body, console, key=old)["CreateTime"] == str(before.create_time)


def test_the_credentials_look_like_the_console_s(clock: Clock) -> None:
    """43 letters and digits are the key; both follow from the seed, and no repr shows them."""
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


def test_a_notice_carries_its_own_fields(pushes: PushSchedule, world: World) -> None:
    """Behind AppId, CreateTime and InfoType; it issues no ticket."""
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


def test_a_forgery_is_signed_with_another_token(pushes: PushSchedule) -> None:
    """And encrypted with another key, so that nothing but its form is right."""
    forged, honest = pushes.make_forged_push(), pushes.make_ticket_push()
    with pytest.raises(AssertionError):
        read(pushes, forged)
    assert forged.query.keys() == honest.query.keys()
    assert read(pushes, honest)


@pytest.mark.parametrize(
    ("result", "accepted", "told"),
    [
        (ACCEPTED, True, "HTTP 200 'success'"),
        (PushResult(200, b"success\n"), False, "HTTP 200 'success\\n'"),
        (PushResult(200, b""), False, "HTTP 200 ''"),
        (PushResult(201, b"success"), False, "HTTP 201 'success'"),
        (UNHEARD, False, "nobody there"),
    ],
)
def test_success_alone_is_accepted(result: PushResult, told: str, *, accepted: bool) -> None:
    """Exactly that word, under exactly that status."""
    assert (result.accepted, str(result)) == (accepted, told)


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_pace_is_a_number_of_seconds(every: float) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="every must be a positive, finite number of seconds"):
        PushSettings(every=every)


@pytest.mark.parametrize("name", ["repeated", "late"])
@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "1", True])
def test_a_fraction_is_from_0_to_1(name: str, fraction: float) -> None:
    """Anything else is refused, by name."""
    with pytest.raises(ValueError, match=f"{name} must be a fraction from 0 to 1"):
        evolve(PushSettings(every=None), **{name: fraction})


def test_a_push_shows_nothing_of_what_it_holds(pushes: PushSchedule) -> None:
    """Its repr has the kind and the time."""
    assert repr(pushes.make_ticket_push()) == "Push(info_type='component_verify_ticket', create_time=1600000000)"
