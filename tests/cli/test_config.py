"""Credentials from the environment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from wxtcb.cli.config import Settings, read_settings
from wxtcb.errors import InvalidArgument, TicketError, TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.shared_state import SharedState

GIVEN = {
    "WXTCB_COMPONENT_APPID": " wx1 ",
    "WXTCB_COMPONENT_APPSECRET": "hush",
    "WXTCB_TICKET": "ticket@@@1",
}


def test_credentials_are_read_without_stray_spaces() -> None:
    """And the platform is the real one unless another is named; nothing secret is shown."""
    settings = read_settings(GIVEN)
    assert (settings.component_appid, settings.base_url) == ("wx1", "https://api.weixin.qq.com")
    assert not settings.on_loopback
    assert "hush" not in repr(settings)
    assert "ticket@@@1" not in repr(settings)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:80", "http://[::1]:9", "https://127.0.0.1"])
def test_loopback_is_known(url: str) -> None:
    """By address and by name."""
    assert read_settings({**GIVEN, "WXTCB_BASE_URL": url}).on_loopback


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"WXTCB_COMPONENT_APPID": ""}, "not set in the environment: WXTCB_COMPONENT_APPID;"),
        ({"WXTCB_TICKET": " "}, "not set in the environment: WXTCB_TICKET or WXTCB_TICKET_FILE or WXTCB_TOKEN_STORE;"),
        ({"WXTCB_TICKET_FILE": __file__}, "WXTCB_TICKET and WXTCB_TICKET_FILE are both set: unset one"),
        ({"WXTCB_TICKET": "", "WXTCB_TICKET_FILE": "/no/such"}, "WXTCB_TICKET_FILE: there is no file /no/such"),
        ({"WXTCB_TOKEN_STORE_KEY": "k"}, "WXTCB_TOKEN_STORE_KEY is set, but not WXTCB_TOKEN_STORE"),
        ({"WXTCB_TOKEN_STORE": "redis://\udcff"}, "WXTCB_TOKEN_STORE: it is not UTF-8"),
        ({"WXTCB_COMPONENT_APPID": "wx\udcff"}, "WXTCB_COMPONENT_APPID: it is not UTF-8"),
        ({"WXTCB_COMPONENT_APPSECRET": "\udcff"}, "WXTCB_COMPONENT_APPSECRET: it is not UTF-8"),
        ({"WXTCB_TICKET": "ticket@@@\udce9"}, "WXTCB_TICKET: it is not UTF-8"),
        ({"WXTCB_BASE_URL": "http://127.0.0.1/\udcff"}, "WXTCB_BASE_URL: it is not UTF-8"),
        ({"WXTCB_BASE_URL": "ftp://x"}, "WXTCB_BASE_URL: base_url must be http"),
        ({"WXTCB_BASE_URL": "http://example.com"}, "WXTCB_BASE_URL: base_url: plain http to example.com"),
    ],
)
def test_what_is_wrong_is_told_by_variable(more: dict[str, str], message: str) -> None:
    """And that nothing was sent."""
    with pytest.raises(InvalidArgument) as caught:
        read_settings({**GIVEN, **more})
    assert message in str(caught.value)
    assert str(caught.value).endswith("nothing was sent")


async def test_a_ticket_file_is_read_anew(tmp_path: Path) -> None:
    """Something else keeps the newest ticket in it."""
    path = tmp_path / "ticket"
    path.write_text("one\n")
    settings = read_settings({**GIVEN, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    assert (await settings.newest_ticket()).reveal() == "one"
    path.write_text("two\n")
    assert (await settings.newest_ticket()).reveal() == "two"
    async with settings.session() as session:
        assert (await session.ticket()) == "two"


@pytest.mark.parametrize(
    ("data", "reason"), [(b" \n", "it is empty"), (b"\xff", "it is not UTF-8"), (None, "No such file")]
)
async def test_a_ticket_file_that_fails_is_named(tmp_path: Path, data: bytes | None, reason: str) -> None:
    """With the reason, and without what is in it."""
    path = tmp_path / "ticket"
    path.write_bytes(data or b"x")
    settings = read_settings({**GIVEN, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    if data is None:
        path.unlink()
    with pytest.raises(TicketError, match=reason) as caught:
        await settings.newest_ticket()
    assert str(path) in str(caught.value)


async def test_a_ticket_that_is_given_is_the_newest() -> None:
    """There is no other."""
    assert (await read_settings(GIVEN).newest_ticket()).reveal() == "ticket@@@1"


async def test_a_ticket_is_asked_for_only_where_one_is_needed() -> None:
    """Without one there is none in the session either."""
    settings = read_settings({**GIVEN, "WXTCB_TICKET": ""}, needs_ticket=False)
    assert not settings.ticket
    async with settings.session() as session:
        assert (session.component_appid, session.ticket) == ("wx1", None)


async def test_a_store_takes_the_place_of_a_ticket(tmp_path: Path) -> None:
    """The receiver keeps tickets in it, and whoever shares it needs no leave to fetch; its URL is shown nowhere."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    settings = read_settings({**GIVEN, "WXTCB_TICKET": "", "WXTCB_TOKEN_STORE": url})
    settings.require_fetch_permission("plan", own_token=False)
    assert url not in repr(settings)
    async with settings.session() as session:
        assert [type(problem) for problem in (await session.health()).problems] == [TicketMissing]
    assert (tmp_path / "tokens.db").exists()


async def test_a_key_seals_what_the_store_keeps(tmp_path: Path) -> None:
    """Nobody who has the file alone can read it."""
    key = Fernet.generate_key().decode()
    env = {**GIVEN, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db", "WXTCB_TOKEN_STORE_KEY": key}
    store = read_settings(env).store
    assert key not in repr(store)
    async with store.open() as opened:
        assert await opened.compare_and_set("wx1", "T0KEN", version="")
        assert (await opened.load("wx1")).document == "T0KEN"
    assert b"T0KEN" not in await asyncio.to_thread((tmp_path / "tokens.db").read_bytes)


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("mysql://u:S3CRET@host", "", "^WXTCB_TOKEN_STORE: the URL of a token store must begin with sqlite"),
        ("sqlite:///{}/x.db", "S3CRET", "^WXTCB_TOKEN_STORE_KEY: key must be .* Fernet"),
        ("sqlite:///{}/no/x.db", "", "^WXTCB_TOKEN_STORE: there is no directory .*/no$"),
    ],
)
async def test_a_store_that_cannot_be_is_refused(tmp_path: Path, url: str, key: str, message: str) -> None:
    """Without a word of what may hold a password."""
    env = {**GIVEN, "WXTCB_TOKEN_STORE": url.format(tmp_path), "WXTCB_TOKEN_STORE_KEY": key}
    with pytest.raises(InvalidArgument, match=message) as caught:
        async with read_settings(env).session():
            pass
    assert "S3CRET" not in str(caught.value)


async def _keep(settings: Settings, ticket: str, *, age: float = 0.0) -> None:
    async with settings.store.open() as store:
        await SharedState(store, "wx1").update(lambda record, now: record.with_ticket(Secret(ticket), 1, now - age))


@pytest.mark.parametrize(("age", "used"), [(0.0, "kept"), (13 * 3600.0, "ticket@@@1")])
async def test_a_ticket_that_is_given_stands_in_for_one_in_the_store(tmp_path: Path, age: float, used: str) -> None:
    """The one in the store is the newest there is, unless it is too old."""
    settings = read_settings({**GIVEN, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"})
    await _keep(settings, "kept", age=age)
    async with settings.session() as session:
        assert (await session.ticket()).reveal() == used
    assert (await settings.newest_ticket()).reveal() == used


async def test_a_ticket_that_is_given_stands_in_while_the_store_is_down(tmp_path: Path) -> None:
    """Without one, what is wrong with the store is told."""
    (tmp_path / "tokens.db").mkdir()
    env = {**GIVEN, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"}
    assert (await read_settings(env).newest_ticket()).reveal() == "ticket@@@1"
    with pytest.raises(TokenStoreError):
        await read_settings({**env, "WXTCB_TICKET": ""}).newest_ticket()


async def test_without_any_ticket_that_is_told(tmp_path: Path) -> None:
    """Rather than to send an empty one."""
    env = {**GIVEN, "WXTCB_TICKET": "", "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"}
    with pytest.raises(TicketMissing):
        await read_settings(env).newest_ticket()


def test_only_a_foreign_platform_demands_own_token() -> None:
    """A token of the sandbox voids nobody's."""
    foreign = read_settings(GIVEN)
    with pytest.raises(InvalidArgument, match=r"^plan: a new token of https://api.weixin.qq.com may void"):
        foreign.require_fetch_permission("plan", own_token=False)
    foreign.require_fetch_permission("plan", own_token=True)
    read_settings({**GIVEN, "WXTCB_BASE_URL": "http://127.0.0.1:1"}).require_fetch_permission("plan", own_token=False)
