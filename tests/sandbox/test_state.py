"""State of a world that survives a restart."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import ReadyPolicy, World
from wxtcb.sandbox.errors import PlatformError
from wxtcb.sandbox.state import InvalidState, WorldState

from .sandbox_harness import Clock

BODY = {"env_id": "e", "es_info": {"password": "p"}, "numbers": [1, None, 2.5]}


def restart(world: World, clock: Clock, seconds: float = 0.0) -> World:
    """Return a new world with the state of *world*, under a monotonic clock that starts again, so much later."""
    raw = WorldState.of(world, 1).dump()
    started_at_unix = world.unix_time() + seconds
    clock.now = 5.0
    other = World(clock=clock, started_at_unix=started_at_unix, seed=world.seed + 1)
    WorldState.parse(raw).restore(other)
    return other


def test_world_is_the_same_after_a_restart(world: World, clock: Clock) -> None:
    """Credentials, tickets, token, environments, shares and services are restored, with their times."""
    world.issue_token()
    world.message_settings.rotate_key()
    clock.advance(60)
    env = world.add("a")
    world.add("b", status="HALTED")
    world.share(env, "wx1", 1)
    world.share(env, "wx2", None)
    world.confirm(env, "wx1")
    world.establish(env, "s", BODY)
    before = WorldState.of(world, 1)
    assert WorldState.of(restart(world, clock), 1) == before
    assert before.tickets == {world.ticket: 1_600_000_000}


def test_token_is_valid_until_its_time(world: World, clock: Clock) -> None:
    """The time while the sandbox was not running counts."""
    token = world.issue_token()
    again = restart(world, clock, world.token_ttl - 1)
    again.credentials.check_token(token, clock.now)
    clock.advance(1)
    with pytest.raises(PlatformError) as caught:
        again.credentials.check_token(token, clock.now)
    assert caught.value.errcode == 42001


def test_next_token_differs(world: World, clock: Clock) -> None:
    """The token after a restart is not one of those before it, which is invalid from then on."""
    token = world.issue_token()
    again = restart(world, clock)
    assert again.issue_token().startswith("2_")
    with pytest.raises(PlatformError):
        again.credentials.check_token(token, clock.now)


@pytest.mark.parametrize(("hours", "is_same"), [(5, True), (7, False), (100, False)])
def test_old_ticket_is_replaced(world: World, clock: Clock, hours: int, *, is_same: bool) -> None:
    """A ticket that would soon expire is followed by a new one; it stays valid for its 12 hours."""
    again = restart(world, clock, hours * 3600)
    assert (again.ticket == world.ticket) is is_same
    again.credentials.check_ticket(again.ticket, clock.now)
    assert (world.ticket in again.credentials.valid_tickets(clock.now)) is (hours < 12)


def test_unfinished_environment_starts_again(world: World, clock: Clock) -> None:
    """An environment that was not NORMAL yet becomes so after the restart, as the new settings say."""
    world.ready_after = ReadyPolicy.after_seconds(10)
    tranid, env = world.create("a")
    world.poll_environments()
    again = restart(world, clock)
    again.ready_after = ReadyPolicy.after_polls(1)
    assert again.environments[env].status == "UNAVAILABLE"
    again.poll_environments()
    again.poll_environments()
    assert again.environments[env].status == "NORMAL"
    assert again.create("b")[0] > tranid


def test_restored_service_can_be_deleted(world: World, clock: Clock) -> None:
    """A restored service is complete: it has no versions, and can get some."""
    env = world.add("a")
    world.establish(env, "s", BODY)
    again = restart(world, clock)
    assert again.cloudrun.versions(env, "s") == {}
    with pytest.raises(PlatformError, match="exists"):
        again.establish(env, "s", BODY)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b"null", b'{"version": 1, "secret": "the-secret"}'])
def test_invalid_state_is_rejected(raw: bytes) -> None:
    """The error does not lead to the content, which may be secret."""
    with pytest.raises(InvalidState, match="not a state") as caught:
        WorldState.parse(raw)
    assert caught.value.__context__ is None


def test_other_version_is_rejected(world: World) -> None:
    """A state of another version is not read."""
    raw = orjson.dumps({**orjson.loads(WorldState.of(world, 1).dump()), "version": 2})
    with pytest.raises(InvalidState, match="version 2"):
        WorldState.parse(raw)


def test_repr_has_no_secret(world: World) -> None:
    """The repr has neither secret nor ticket nor token."""
    token, state = world.issue_token(), WorldState.of(world, 1)
    secrets = (token, world.ticket, state.secret, state.message_token, state.encoding_aes_key)
    assert not any(secret in repr(state) for secret in secrets)
