"""State of the platform under a clock that a test advances."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import Environment, ReadyPolicy, World
from wxtcb.sandbox.credentials import TICKET_TTL
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.world import is_valid_appid

from .sandbox_harness import CREATE, LIST, Clock


def poll(world: World) -> list[dict[str, str]]:
    """Poll once and return the rows."""
    rows: list[dict[str, str]] = orjson.loads(world.poll_environments())
    return rows


def statuses(world: World) -> list[str]:
    """Poll once and return the statuses."""
    return [row["status"] for row in poll(world)]


def token_errcode(world: World, token: str | None) -> int:
    """Return the errcode that rejects a token."""
    with pytest.raises(PlatformError) as caught:
        world.credentials.check_token(token, world.clock())
    return caught.value.errcode


def test_equal_seeds_make_equal_worlds(clock: Clock) -> None:
    """Credentials, tokens and environment ids follow from the seed."""
    one, same, other = World(clock=clock), World(clock=clock), World(clock=clock, seed=1)
    assert (one.ticket, one.issue_token(), one.create("a")[1]) == (same.ticket, same.issue_token(), same.create("a")[1])
    assert one.credentials.secret != other.credentials.secret


def test_repr_has_no_secret(world: World) -> None:
    """The repr of a world has neither secret nor ticket nor token."""
    token = world.issue_token()
    text = repr(world) + repr(world.credentials)
    assert not any(secret in text for secret in (token, world.ticket, world.credentials.secret))


def test_earlier_token_can_live_beyond_a_newer_one(world: World, clock: Clock) -> None:
    """With an overlap, an earlier token is accepted for so many seconds after the newer one was issued."""
    world.token_overlap = 300
    first, second = world.issue_token(), world.issue_token()
    clock.advance(299)
    for token in (first, second):
        world.credentials.check_token(token, world.clock())
    clock.advance(1)
    assert token_errcode(world, first) == 40001
    world.credentials.check_token(second, world.clock())


def test_overlap_does_not_extend_the_life_of_a_token(world: World, clock: Clock) -> None:
    """An earlier token is invalid from its own expiry on."""
    world.token_overlap = 300
    first = world.issue_token()
    clock.advance(world.token_ttl - 1)
    world.issue_token()
    world.credentials.check_token(first, world.clock())
    clock.advance(1)
    assert token_errcode(world, first) == 40001


def test_forced_expiry_ends_the_overlap(world: World) -> None:
    """Forced expiry invalidates every token."""
    world.token_overlap = 300
    first, second = world.issue_token(), world.issue_token()
    world.expire_token()
    assert (token_errcode(world, first), token_errcode(world, second)) == (40001, 42001)


def test_ready_immediately_needs_the_first_poll(world: World) -> None:
    """An environment stays UNAVAILABLE until the first poll, which shows it NORMAL."""
    _, env = world.create("a")
    assert world.environments[env].status == "UNAVAILABLE"
    assert statuses(world) == ["NORMAL"]


def test_seconds_count_from_the_first_poll(world: World, clock: Clock) -> None:
    """The time before the first poll does not count, and no further poll is needed."""
    world.ready_after = ReadyPolicy.after_seconds(10)
    _, env = world.create("a")
    clock.advance(100)
    assert statuses(world) == ["UNAVAILABLE"]
    clock.advance(9.9)
    assert world.environments[env].status == "UNAVAILABLE"
    clock.advance(0.1)
    assert world.environments[env].status == "NORMAL"
    assert world.environments[env].update_time > world.environments[env].create_time


def test_polls_are_counted_per_environment(world: World) -> None:
    """Each environment is shown UNAVAILABLE by so many polls, no matter when it was created."""
    world.ready_after = ReadyPolicy.after_polls(2)
    world.create("a")
    assert statuses(world) == ["UNAVAILABLE"]
    world.create("b")
    assert statuses(world) == ["UNAVAILABLE", "UNAVAILABLE"]
    assert statuses(world) == ["NORMAL", "UNAVAILABLE"]
    assert statuses(world) == ["NORMAL", "NORMAL"]


def test_both_bounds_must_be_met(world: World, clock: Clock) -> None:
    """A policy with seconds and polls waits for the later of the two."""
    world.ready_after = ReadyPolicy(seconds=5, polls=1)
    world.create("a")
    assert statuses(world) == ["UNAVAILABLE"]
    assert statuses(world) == ["UNAVAILABLE"]
    clock.advance(5)
    assert statuses(world) == ["NORMAL"]


def test_new_environment_can_be_listed_late(world: World, clock: Clock) -> None:
    """With visible_after a new environment exists before describeenvs lists it."""
    world.visible_after = 3
    _, env = world.create("a")
    assert poll(world) == []
    assert env in world.environments
    clock.advance(3)
    assert [row["env"] for row in poll(world)] == [env]


def test_unchanged_list_is_not_encoded_again(world: World) -> None:
    """The list of 10,000 environments is the same object until something changes."""
    for number in range(10_000):
        world.add(f"e{number}")
    page = world.poll_environments()
    assert world.poll_environments() is page
    world.create("one-more")
    assert world.poll_environments() is not page


def test_halted_is_permanent(world: World, clock: Clock) -> None:
    """A halted environment does not become NORMAL, and one not yet listed stays unlisted."""
    world.ready_after = ReadyPolicy.after_seconds(5)
    _, env = world.create("a")
    world.halt(env)
    clock.advance(9)
    assert statuses(world) == ["HALTED"]
    clock.advance(9)
    assert statuses(world) == ["HALTED"]


def test_removed_environment_is_gone(world: World) -> None:
    """An environment can be removed before the first poll, while UNAVAILABLE, and later."""
    world.ready_after = ReadyPolicy.after_polls(1)
    _, hidden = world.create("a")
    world.remove(hidden)
    _, unavailable = world.create("b")
    assert statuses(world) == ["UNAVAILABLE"]
    world.remove(unavailable)
    assert statuses(world) == []
    assert statuses(world) == []
    with pytest.raises(KeyError):
        world.remove(hidden)


def test_environment_can_be_added(world: World) -> None:
    """An added environment exists at once, with the given id and status, and keeps them."""
    env = world.add("a", env="a-1", status="UNAVAILABLE")
    assert world.environments[env] == Environment(
        "a-1", "a", "UNAVAILABLE", "2020-09-13 20:26:40", "2020-09-13 20:26:40"
    )
    assert statuses(world) == statuses(world) == ["UNAVAILABLE"]


def test_service_needs_a_normal_environment_and_a_new_name(world: World) -> None:
    """An unknown or unavailable environment is -501005; only an existing name is 40097."""
    env = world.add("a")
    halted = world.add("b", status="HALTED")
    service = world.establish(env, "s", {"service_name": "s"})
    assert world.services[env, "s"] is service
    for where, errcode in ((env, 40097), (halted, -501005), ("nowhere", -501005)):
        with pytest.raises(PlatformError) as caught:
            world.establish(where, "s", {})
        assert caught.value.errcode == errcode


def test_each_kind_of_invalid_token_has_its_errcode(world: World, clock: Clock) -> None:
    """Missing, unknown, replaced and expired tokens have different errcodes."""
    assert token_errcode(world, None) == token_errcode(world, "") == 41001
    assert token_errcode(world, "nonsense") == 40014
    first, second = world.issue_token(), world.issue_token()
    assert token_errcode(world, first) == 40001
    world.credentials.check_token(second, clock())
    clock.advance(7200)
    assert token_errcode(world, second) == 42001
    assert world.tokens_issued == 2


def test_only_a_valid_token_can_be_expired(world: World, clock: Clock) -> None:
    """An expiration counts only if a token was valid: not before the first one, twice, or later."""
    assert not world.expire_token()
    token = world.issue_token()
    assert world.expire_token()
    assert not world.expire_token()
    assert token_errcode(world, token) == 42001
    world.issue_token()
    clock.advance(7200)
    assert not world.expire_token()
    assert world.forced_expirations == 1


def test_tickets_are_valid_for_twelve_hours(world: World, clock: Clock) -> None:
    """An older ticket stays valid for its 12 hours next to a newer one."""
    old = world.ticket
    clock.advance(60)
    new = world.issue_ticket()
    clock.advance(TICKET_TTL - 60)
    world.credentials.check_ticket(new, clock())
    for ticket, errcode in ((old, 61005), ("ticket@@@no", 61006)):
        with pytest.raises(PlatformError) as caught:
            world.credentials.check_ticket(ticket, clock())
        assert caught.value.errcode == errcode


def test_limits_apply_per_path_and_window(world: World, clock: Clock) -> None:
    """The minute limit ends with the clock minute, the daily limit with the clock day."""
    world.minute_limit, world.daily_limit = {CREATE: 1}, {CREATE: 2}
    world.acquire(CREATE)
    world.acquire(LIST)
    for errcode, pause in ((45011, 60), (45009, 86_400)):
        with pytest.raises(PlatformError) as caught:
            world.acquire(CREATE)
        assert caught.value.errcode == errcode
        clock.advance(pause)
        world.acquire(CREATE)
        clock.advance(60 if errcode == 45011 else 0)


def test_number_of_tokens_can_be_limited(world: World) -> None:
    """A token above max_tokens_per_day is rejected with 45009."""
    world.max_tokens_per_day = 1
    world.issue_token()
    with pytest.raises(PlatformError) as caught:
        world.issue_token()
    assert caught.value.errcode == 45009


def test_confirmed_share_stays_confirmed(world: World) -> None:
    """A repeated offer has another link and stays confirmed; an unknown offer cannot be confirmed."""
    env = world.add("a")
    first = world.share(env, "wx1", None)
    assert list(world.confirmed_shares()) == []
    world.confirm(env, "wx1")
    again = world.share(env, "wx1", None)
    assert (again.confirmed, again.url != first.url) == (True, True)
    assert list(world.confirmed_shares()) == [again]
    with pytest.raises(KeyError):
        world.confirm(env, "wx2")


@pytest.mark.parametrize(
    ("appid", "valid"), [("wx5fe6bb43205e9e07", True), ("wx5fe6bb43205e9e7", False), ("wx5fe6bb43205e9e07\n", False)]
)
def test_appid_format(appid: str, *, valid: bool) -> None:
    """An appid is wx and 16 characters of 0-9a-z."""
    assert is_valid_appid(appid) is valid
