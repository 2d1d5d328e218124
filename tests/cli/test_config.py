"""Configuration from environment variables."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from wxtcb.cli.config import Settings, TicketFile, read_settings
from wxtcb.errors import InvalidArgument, TicketError, TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.state_repository import StateRepository

ENV = {
    "WXTCB_COMPONENT_APPID": " wx1 ",
    "WXTCB_COMPONENT_APPSECRET": "hush",
    "WXTCB_TICKET": "ticket@@@1",
}


def test_values_are_stripped() -> None:
    """The default platform is the real one, and the repr shows no secret."""
    settings = read_settings(ENV)
    assert (settings.component_appid, settings.base_url) == ("wx1", "https://api.weixin.qq.com")
    assert not settings.on_loopback
    assert "hush" not in repr(settings)
    assert "ticket@@@1" not in repr(settings)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:80", "http://[::1]:9", "https://127.0.0.1"])
def test_loopback_is_recognised(url: str) -> None:
    """It may be an address or a name."""
    assert read_settings({**ENV, "WXTCB_BASE_URL": url}).on_loopback


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WXTCB_COMPONENT_APPID": ""}, "not set in the environment: WXTCB_COMPONENT_APPID;"),
        ({"WXTCB_TICKET": " "}, "not set in the environment: WXTCB_TICKET or WXTCB_TICKET_FILE or WXTCB_TOKEN_STORE;"),
        ({"WXTCB_TICKET_FILE": __file__}, "WXTCB_TICKET and WXTCB_TICKET_FILE are both set"),
        ({"WXTCB_TICKET": "", "WXTCB_TICKET_FILE": "/no/such"}, "WXTCB_TICKET_FILE: file /no/such does not exist"),
        ({"WXTCB_TOKEN_STORE_KEY": "k"}, "WXTCB_TOKEN_STORE_KEY is set, but WXTCB_TOKEN_STORE is not"),
        ({"WXTCB_TOKEN_STORE": "redis://\udcff"}, "WXTCB_TOKEN_STORE: the value is not UTF-8"),
        ({"WXTCB_COMPONENT_APPID": "wx\udcff"}, "WXTCB_COMPONENT_APPID: the value is not UTF-8"),
        ({"WXTCB_COMPONENT_APPSECRET": "\udcff"}, "WXTCB_COMPONENT_APPSECRET: the value is not UTF-8"),
        ({"WXTCB_TICKET": "ticket@@@\udce9"}, "WXTCB_TICKET: the value is not UTF-8"),
        ({"WXTCB_BASE_URL": "http://127.0.0.1/\udcff"}, "WXTCB_BASE_URL: the value is not UTF-8"),
        ({"WXTCB_BASE_URL": "ftp://x"}, "WXTCB_BASE_URL: base_url"),
        ({"WXTCB_BASE_URL": "http://example.com"}, "WXTCB_BASE_URL: base_url"),
    ],
)
def test_error_names_the_variable(variables: dict[str, str], message: str) -> None:
    """Missing, contradictory and invalid variables are rejected."""
    with pytest.raises(InvalidArgument) as caught:
        read_settings({**ENV, **variables})
    assert message in str(caught.value)


async def test_ticket_file_is_read_for_each_token(tmp_path: Path) -> None:
    """Another program updates it with the newest ticket."""
    path = tmp_path / "ticket"
    path.write_text("one\n")
    settings = read_settings({**ENV, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    assert (await settings.newest_ticket()).reveal() == "one"
    path.write_text("two\n")
    assert (await settings.newest_ticket()).reveal() == "two"
    async with settings.session() as session:
        assert (await session.ticket()) == Secret("two")


@pytest.mark.parametrize(("data", "reason"), [(b" \n", "is empty"), (b"\xff", "is not UTF-8"), (None, "No such file")])
async def test_unreadable_ticket_file_is_reported(tmp_path: Path, data: bytes | None, reason: str) -> None:
    """The message has the path and the reason, and not the content."""
    path = tmp_path / "ticket"
    path.write_bytes(data or b"x")
    settings = read_settings({**ENV, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    if data is None:
        path.unlink()
    with pytest.raises(TicketError, match=reason) as caught:
        await settings.newest_ticket()
    assert str(path) in str(caught.value)


async def test_error_of_a_ticket_file_has_no_cause_with_its_content(tmp_path: Path) -> None:
    """A decoding error would contain the bytes of the file."""
    path = tmp_path / "ticket"
    path.write_bytes(b"ticket\xff")
    settings = read_settings({**ENV, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    with pytest.raises(TicketError) as caught:
        await settings.newest_ticket()
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_ticket_variable_is_the_newest_ticket() -> None:
    """Without a file and a store there is no other."""
    assert (await read_settings(ENV).newest_ticket()).reveal() == "ticket@@@1"


async def test_ticket_may_be_missing_if_it_is_not_needed() -> None:
    """The session has no ticket then."""
    settings = read_settings({**ENV, "WXTCB_TICKET": ""}, needs_ticket=False)
    assert not settings.ticket
    async with settings.session() as session:
        assert (session.component_appid, session.ticket) == ("wx1", None)


async def test_no_thread_returns_the_ticket_in_the_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In debug mode, asyncio logs what a thread returned."""
    loop, futures = asyncio.get_running_loop(), list[asyncio.Future[object]]()
    run_in_executor = loop.run_in_executor

    def record(*args: Any) -> asyncio.Future[object]:
        futures.append(run_in_executor(*args))
        return futures[-1]

    monkeypatch.setattr(loop, "run_in_executor", record)
    path = tmp_path / "ticket"
    path.write_text("T1CKET\n")
    assert await TicketFile(path)() == Secret("T1CKET")
    assert [repr(future.result()) for future in futures] == ["***"]


async def test_store_replaces_the_ticket(tmp_path: Path) -> None:
    """With a shared store, no ticket and no --own-token is needed; the repr does not show the URL."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    settings = read_settings({**ENV, "WXTCB_TICKET": "", "WXTCB_TOKEN_STORE": url})
    settings.require_fetch_permission("plan", own_token=False)
    assert url not in repr(settings)
    async with settings.session() as session:
        assert [type(problem) for problem in (await session.health()).problems] == [TicketMissing]
    assert (tmp_path / "tokens.db").exists()


async def test_store_key_encrypts_the_store(tmp_path: Path) -> None:
    """The file does not contain the token in clear."""
    key = Fernet.generate_key().decode()
    env = {**ENV, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db", "WXTCB_TOKEN_STORE_KEY": key}
    store = read_settings(env).store
    assert key not in repr(store)
    async with store.open() as opened:
        assert await opened.compare_and_set("wx1", "T0KEN", version="")
        assert (await opened.load("wx1")).document == "T0KEN"
    assert b"T0KEN" not in await asyncio.to_thread((tmp_path / "tokens.db").read_bytes)


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("mysql://u:S3CRET@host", "", "^WXTCB_TOKEN_STORE: .*sqlite"),
        ("sqlite:///{}/x.db", "S3CRET", "^WXTCB_TOKEN_STORE_KEY: .*Fernet"),
        ("sqlite:///{}/no/x.db", "", "^WXTCB_TOKEN_STORE: directory .*/no does not exist"),
    ],
)
async def test_invalid_store_is_rejected(tmp_path: Path, url: str, key: str, message: str) -> None:
    """The message does not contain URL or key, which may contain a password."""
    env = {**ENV, "WXTCB_TOKEN_STORE": url.format(tmp_path), "WXTCB_TOKEN_STORE_KEY": key}
    with pytest.raises(InvalidArgument, match=message) as caught:
        async with read_settings(env).session():
            pass
    assert "S3CRET" not in str(caught.value)


async def _store_ticket(settings: Settings, ticket: str, *, age: float = 0.0) -> None:
    async with settings.store.open() as store:
        await StateRepository(store, "wx1").update(lambda state, now: state.with_ticket(Secret(ticket), 1, now - age))


@pytest.mark.parametrize(("age", "used"), [(0.0, "stored"), (13 * 3600.0, "ticket@@@1")])
async def test_ticket_in_the_store_is_preferred_unless_expired(tmp_path: Path, age: float, used: str) -> None:
    """The variable is used if the ticket in the store is older than 12 hours."""
    settings = read_settings({**ENV, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"})
    await _store_ticket(settings, "stored", age=age)
    async with settings.session() as session:
        assert (await session.ticket()).reveal() == used
    assert (await settings.newest_ticket()).reveal() == used


async def test_ticket_variable_is_used_while_the_store_is_unavailable(tmp_path: Path) -> None:
    """Without the variable, the error of the store is raised."""
    (tmp_path / "tokens.db").mkdir()
    env = {**ENV, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"}
    assert (await read_settings(env).newest_ticket()).reveal() == "ticket@@@1"
    with pytest.raises(TokenStoreError):
        await read_settings({**env, "WXTCB_TICKET": ""}).newest_ticket()


async def test_missing_ticket_is_reported(tmp_path: Path) -> None:
    """An empty ticket is never sent."""
    env = {**ENV, "WXTCB_TICKET": "", "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db"}
    with pytest.raises(TicketMissing):
        await read_settings(env).newest_ticket()


def test_remote_platform_requires_own_token() -> None:
    """A token of a platform on loopback can be fetched without --own-token."""
    remote = read_settings(ENV)
    with pytest.raises(InvalidArgument, match=r"^plan: .*https://api.weixin.qq.com.*--own-token"):
        remote.require_fetch_permission("plan", own_token=False)
    remote.require_fetch_permission("plan", own_token=True)
    read_settings({**ENV, "WXTCB_BASE_URL": "http://127.0.0.1:1"}).require_fetch_permission("plan", own_token=False)
