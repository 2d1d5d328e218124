"""The state of the platform under a clock that a test moves."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import Environment, ReadyPolicy, World
from wxtcb.sandbox.credentials import TICKET_TTL
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.world import is_valid_appid

from .sandbox_harness import CREATE, LIST, Clock


def listed(world: World) -> list[dict[str, str]]:
    """Look once."""
    rows: list[dict[str, str]] = orjson.loads(world.poll_environments())
    return rows


def status(world: World) -> list[str]:
    """Look once, at statuses only."""
    return [row["status"] for row in listed(world)]


def refused(world: World, token: str | None) -> int:
    """Return the errcode that a token draws."""
    with pytest.raises(PlatformError) as no:
        world.credentials.check_token(token, world.clock())
    return no.value.errcode


def test_equal_seeds_make_equal_worlds(clock: Clock) -> None:
    """Credentials, tokens and environment ids follow from the seed."""
    one, same, other = World(clock=clock), World(clock=clock), World(clock=clock, seed=1)
    assert (one.ticket, one.issue_token(), one.create("a")[1]) == (same.ticket, same.issue_token(), same.create("a")[1])
    assert one.credentials.secret != other.credentials.secret


def test_no_secret_is_printed(world: World) -> None:
    """The repr of a world holds neither secret nor ticket nor token."""
    token = world.issue_token()
    shown = repr(world) + repr(world.credentials)
    assert not any(secret in shown for secret in (token, world.ticket, world.credentials.secret))


def test_at_once_still_needs_the_first_look(world: World) -> None:
    """An environment that nobody has looked at stays UNAVAILABLE; its first look shows it NORMAL."""
    _, env = world.create("a")
    assert world.environments[env].status == "UNAVAILABLE"
    assert status(world) == ["NORMAL"]


def test_seconds_count_from_the_first_look(world: World, clock: Clock) -> None:
    """The time before the first look does not count, and no further look is needed."""
    world.ready_after = ReadyPolicy.after_seconds(10)
    _, env = world.create("a")
    clock.advance(100)
    assert status(world) == ["UNAVAILABLE"]
    clock.advance(9.9)
    assert world.environments[env].status == "UNAVAILABLE"
    clock.advance(0.1)
    assert world.environments[env].status == "NORMAL"
    assert world.environments[env].update_time > world.environments[env].create_time


def test_looks_are_counted_per_environment(world: World) -> None:
    """So many looks show each environment UNAVAILABLE, whenever it was opened."""
    world.ready_after = ReadyPolicy.after_polls(2)
    world.create("a")
    assert status(world) == ["UNAVAILABLE"]
    world.create("b")
    assert status(world) == ["UNAVAILABLE", "UNAVAILABLE"]
    assert status(world) == ["NORMAL", "UNAVAILABLE"]
    assert status(world) == ["NORMAL", "NORMAL"]


def test_both_bounds_must_be_met(world: World, clock: Clock) -> None:
    """A policy with seconds and looks waits for the later of the two."""
    world.ready_after = ReadyPolicy(seconds=5, polls=1)
    world.create("a")
    assert status(world) == ["UNAVAILABLE"]
    assert status(world) == ["UNAVAILABLE"]
    clock.advance(5)
    assert status(world) == ["NORMAL"]


def test_a_new_environment_can_be_listed_late(world: World, clock: Clock) -> None:
    """Under visible_after a new environment exists, but describeenvs shows it only later."""
    world.visible_after = 3
    _, env = world.create("a")
    assert listed(world) == []
    assert env in world.environments
    clock.advance(3)
    assert [row["env"] for row in listed(world)] == [env]


def test_an_unchanged_list_is_not_built_again(world: World) -> None:
    """Ten thousand environments are served as the very same bytes until something changes."""
    for number in range(10_000):
        world.add(f"e{number}")
    page = world.poll_environments()
    assert world.poll_environments() is page
    world.create("one-more")
    assert world.poll_environments() is not page


def test_halted_is_for_good(world: World, clock: Clock) -> None:
    """A halted environment does not turn NORMAL when its time comes, and one not listed yet stays unlisted."""
    world.ready_after = ReadyPolicy.after_seconds(5)
    _, env = world.create("a")
    world.halt(env)
    clock.advance(9)
    assert status(world) == ["HALTED"]
    clock.advance(9)
    assert status(world) == ["HALTED"]


def test_a_removed_environment_is_gone(world: World) -> None:
    """Removal works before the first look, while it ripens, and after."""
    world.ready_after = ReadyPolicy.after_polls(1)
    _, hidden = world.create("a")
    world.remove(hidden)
    _, ripening = world.create("b")
    assert status(world) == ["UNAVAILABLE"]
    world.remove(ripening)
    assert status(world) == []
    assert status(world) == []
    with pytest.raises(KeyError):
        world.remove(hidden)


def test_a_scene_can_be_set(world: World) -> None:
    """An added environment is there at once, with the id and status given, and stays so."""
    env = world.add("a", env="a-1", status="UNAVAILABLE")
    assert world.environments[env] == Environment(
        "a-1", "a", "UNAVAILABLE", "2020-09-13 20:26:40", "2020-09-13 20:26:40"
    )
    assert status(world) == status(world) == ["UNAVAILABLE"]


def test_a_service_needs_a_normal_environment_and_a_new_name(world: World) -> None:
    """Unknown and unfit environments are -501005; only a name that exists is 40097."""
    env = world.add("a")
    halted = world.add("b", status="HALTED")
    service = world.establish(env, "s", {"service_name": "s"})
    assert world.services[env, "s"] is service
    for where, errcode in ((env, 40097), (halted, -501005), ("nowhere", -501005)):
        with pytest.raises(PlatformError) as no:
            world.establish(where, "s", {})
        assert no.value.errcode == errcode


def test_a_token_has_one_life(world: World, clock: Clock) -> None:
    """Missing, unknown, replaced and expired tokens are told apart."""
    assert refused(world, None) == refused(world, "") == 41001
    assert refused(world, "nonsense") == 40014
    first, second = world.issue_token(), world.issue_token()
    assert refused(world, first) == 40001
    world.credentials.check_token(second, clock())
    clock.advance(7200)
    assert refused(world, second) == 42001
    assert world.tokens_issued == 2


def test_only_a_living_token_can_be_killed(world: World, clock: Clock) -> None:
    """A kill is counted when it ended something: not before a mint, not twice, not after expiry."""
    assert not world.expire_token()
    token = world.issue_token()
    assert world.expire_token()
    assert not world.expire_token()
    assert refused(world, token) == 42001
    world.issue_token()
    clock.advance(7200)
    assert not world.expire_token()
    assert world.forced_expirations == 1


def test_tickets_live_twelve_hours(world: World, clock: Clock) -> None:
    """An older ticket stays good for its twelve hours beside a newer one."""
    old = world.ticket
    clock.advance(60)
    new = world.issue_ticket()
    clock.advance(TICKET_TTL - 60)
    world.credentials.check_ticket(new, clock())
    for ticket, errcode in ((old, 61005), ("ticket@@@no", 61006)):
        with pytest.raises(PlatformError) as no:
            world.credentials.check_ticket(ticket, clock())
        assert no.value.errcode == errcode


def test_limits_hold_per_path_and_window(world: World, clock: Clock) -> None:
    """The minute limit opens again with the next clock minute, the daily one with the next day."""
    world.minute_limit, world.daily_limit = {CREATE: 1}, {CREATE: 2}
    world.acquire(CREATE)
    world.acquire(LIST)
    for errcode, pause in ((45011, 60), (45009, 86_400)):
        with pytest.raises(PlatformError) as no:
            world.acquire(CREATE)
        assert no.value.errcode == errcode
        clock.advance(pause)
        world.acquire(CREATE)
        clock.advance(60 if errcode == 45011 else 0)


def test_mints_can_be_limited(world: World) -> None:
    """Beyond max_tokens of a clock day a mint is refused with 45009."""
    world.max_tokens_per_day = 1
    world.issue_token()
    with pytest.raises(PlatformError) as no:
        world.issue_token()
    assert no.value.errcode == 45009


def test_what_was_confirmed_stays_confirmed(world: World) -> None:
    """Another offer gives another link, and the mini program can go on; what was not offered cannot be confirmed."""
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
    ("appid", "fits"), [("wx5fe6bb43205e9e07", True), ("wx5fe6bb43205e9e7", False), ("wx5fe6bb43205e9e07\n", False)]
)
def test_an_appid_has_a_shape(appid: str, *, fits: bool) -> None:
    """The letters wx and sixteen of 0-9a-z, nothing more."""
    assert is_valid_appid(appid) is fits
