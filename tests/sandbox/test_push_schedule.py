"""What is pushed, and when, without a socket."""

from __future__ import annotations

import pytest
from attrs import evolve

from wxtcb.sandbox import Push, Pushes, Receipt, World
from wxtcb.sandbox.errors import Refused
from wxtcb.sandbox.push.schedule import GIVES_UP_AFTER, Pace

from .receiver import read_push
from .sandbox_harness import Clock

ACCEPTED = Receipt(200, b"success")
FAILED = Receipt(500)
UNHEARD = Receipt(trouble="nobody there")
WEEK = 7 * 86_400


@pytest.fixture
def pushes(world: World) -> Pushes:
    """Begin with a receiver that has answered before."""
    made = Pushes(world)
    made.aim(Pace(every=600))
    made.answered = True
    return made


def read(pushes: Pushes, push: Push) -> dict[str, str]:
    """Open a push with the present key."""
    return read_push(push.query, push.body, pushes.world.console)


def test_a_push_brings_the_newest_ticket(pushes: Pushes, world: World) -> None:
    """With the appid, and the platform's time of day, inside and outside."""
    [push] = pushes.round()
    assert read(pushes, push) == {
        "AppId": world.tokens.appid,
        "CreateTime": "1600000000",
        "InfoType": "component_verify_ticket",
        "ComponentVerifyTicket": world.ticket,
    }
    assert (push.info_type, push.created, push.query["timestamp"]) == (
        "component_verify_ticket",
        1_600_000_000,
        "1600000000",
    )


def test_a_week_of_tickets(pushes: Pushes, world: World, clock: Clock) -> None:
    """One every ten minutes, each newer than all before; those of the last twelve hours buy tokens."""
    tickets, created = [], []
    while clock.now < 1_200_000 + WEEK:
        [push] = pushes.round()
        pushes.judge(ACCEPTED)
        tickets.append(read(pushes, push)["ComponentVerifyTicket"])
        created.append(push.created)
        clock.pass_(pushes.pause or 0)
    assert (len(set(tickets)), pushes.sent, pushes.failed) == (1008, 1008, 0)
    assert created == list(range(1_600_000_000, 1_600_000_000 + WEEK, 600))
    world.tokens.check_ticket(tickets[-71], clock.now)
    with pytest.raises(Refused):
        world.tokens.check_ticket(tickets[-72], clock.now)


def test_no_two_tickets_have_the_same_time(pushes: Pushes) -> None:
    """Of two within a second the second is the newer one."""
    assert [pushes.ticket().created for _ in range(3)] == [1_600_000_000, 1_600_000_001, 1_600_000_002]


def test_a_push_can_come_twice(pushes: Pushes) -> None:
    """The very same message."""
    pushes.pace = Pace(every=600, repeated=1)
    first, again = pushes.round()
    assert first is again
    assert pushes.round()[0] != first


def test_an_older_push_can_come_late(pushes: Pushes) -> None:
    """Behind the newer one; the first has none before it."""
    pushes.pace = Pace(every=600, late=1)
    [first] = pushes.round()
    second, late = pushes.round()
    assert late is first
    assert second.created > late.created


def test_repetitions_come_from_the_seed(clock: Clock) -> None:
    """Equal seeds repeat the same pushes; the messages are equal to the byte."""

    def rounds(seed: int) -> list[list[Push]]:
        pushes = Pushes(World(clock=clock, epoch=0, seed=seed), Pace(every=600, repeated=0.5, late=0.5))
        pushes.answered = True
        return [pushes.round() for _ in range(20)]

    assert rounds(1) == rounds(1)
    assert [*map(len, rounds(1))] != [*map(len, rounds(2))]
    assert {1, 2, 3} == {*map(len, rounds(1))}


def test_pushing_stops_after_failures_in_a_row(pushes: Pushes) -> None:
    """One success starts the count anew; at the last failure the platform gives up."""
    for receipt in [FAILED] * (GIVES_UP_AFTER - 1) + [ACCEPTED] + [FAILED] * (GIVES_UP_AFTER - 1):
        pushes.judge(receipt)
    assert not pushes.stopped
    pushes.judge(UNHEARD)
    assert pushes.stopped
    assert (pushes.sent, pushes.failed) == (2 * GIVES_UP_AFTER, 2 * GIVES_UP_AFTER - 1)
    pushes.start()
    pushes.judge(FAILED)
    assert not pushes.stopped


def test_a_receiver_that_never_was_there_is_waited_for(pushes: Pushes) -> None:
    """The first push is kept for it, and tried every second; nothing counts until something answers."""
    pushes.aim(Pace(every=600))
    [first] = pushes.round()
    for _ in range(2 * GIVES_UP_AFTER):
        pushes.judge(UNHEARD)
        assert pushes.pause == 1
        assert pushes.round() == [first]
    assert (pushes.sent, pushes.failed, pushes.stopped) == (0, 0, False)
    pushes.judge(FAILED)
    assert (pushes.sent, pushes.failed, pushes.pause) == (1, 1, 600)
    assert pushes.round() != [first]


@pytest.mark.parametrize(("every", "pause"), [(0.5, 0.5), (None, None)])
def test_waiting_is_no_slower_than_the_pace(pushes: Pushes, every: float | None, pause: float | None) -> None:
    """Nor does it happen where nothing is pushed by itself."""
    pushes.aim(Pace(every=every))
    assert pushes.pause == pause


def test_the_key_can_be_changed(pushes: Pushes, world: World) -> None:
    """What is pushed afterwards opens with the new key; the old one opens what was pushed before."""
    console = world.console
    before, old = pushes.ticket(), console.encoding_aes_key
    new = console.rotate_key()
    assert (console.encoding_aes_key, console.previous_encoding_aes_key) == (new, old)
    assert read(pushes, pushes.ticket())["ComponentVerifyTicket"] == world.ticket
    assert read_push(before.query, before.body, console, key=old)["CreateTime"] == str(before.created)


def test_the_credentials_look_like_the_console_s(clock: Clock) -> None:
    """43 letters and digits are the key; both follow from the seed, and no repr shows them."""
    one, same, other = World(clock=clock).console, World(clock=clock).console, World(clock=clock, seed=1).console
    assert one.encoding_aes_key == same.encoding_aes_key != other.encoding_aes_key
    assert one.message_token == same.message_token != other.message_token
    assert (len(one.encoding_aes_key), one.encoding_aes_key.isalnum()) == (43, True)
    assert (len(one.message_token), one.message_token.isalnum()) == (32, True)
    old = one.encoding_aes_key
    one.rotate_key()
    assert not any(secret in repr(one) for secret in (old, one.encoding_aes_key, one.message_token))


def test_a_notice_carries_its_own_fields(pushes: Pushes, world: World) -> None:
    """Behind AppId, CreateTime and InfoType; it issues no ticket."""
    ticket = world.ticket
    push = pushes.notice("authorized", {"AuthorizerAppid": "wx1", "AuthorizationCodeExpiredTime": 600})
    assert read(pushes, push) == {
        "AppId": world.tokens.appid,
        "CreateTime": "1600000000",
        "InfoType": "authorized",
        "AuthorizerAppid": "wx1",
        "AuthorizationCodeExpiredTime": "600",
    }
    assert world.ticket == ticket


def test_a_forgery_is_signed_with_another_token(pushes: Pushes) -> None:
    """And encrypted with another key, so that nothing but its form is right."""
    forged, honest = pushes.forgery(), pushes.ticket()
    with pytest.raises(AssertionError):
        read(pushes, forged)
    assert forged.query.keys() == honest.query.keys()
    assert read(pushes, honest)


@pytest.mark.parametrize(
    ("receipt", "accepted", "told"),
    [
        (ACCEPTED, True, "HTTP 200 'success'"),
        (Receipt(200, b"success\n"), False, "HTTP 200 'success\\n'"),
        (Receipt(200, b""), False, "HTTP 200 ''"),
        (Receipt(201, b"success"), False, "HTTP 201 'success'"),
        (UNHEARD, False, "nobody there"),
    ],
)
def test_success_alone_is_accepted(receipt: Receipt, told: str, *, accepted: bool) -> None:
    """Exactly that word, under exactly that status."""
    assert (receipt.accepted, str(receipt)) == (accepted, told)


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_pace_is_a_number_of_seconds(every: float) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="every must be a positive, finite number of seconds"):
        Pace(every=every)


@pytest.mark.parametrize("name", ["repeated", "late"])
@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "1", True])
def test_a_fraction_is_from_0_to_1(name: str, fraction: float) -> None:
    """Anything else is refused, by name."""
    with pytest.raises(ValueError, match=f"{name} must be a fraction from 0 to 1"):
        evolve(Pace(every=None), **{name: fraction})


def test_a_push_shows_nothing_of_what_it_holds(pushes: Pushes) -> None:
    """Its repr has the kind and the time."""
    assert repr(pushes.ticket()) == "Push(info_type='component_verify_ticket', created=1600000000)"
