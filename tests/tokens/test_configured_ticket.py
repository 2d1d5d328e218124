"""The ticket of the environment variables, next to the tickets in a token store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import wxtcb
from wxtcb.errors import TicketError
from wxtcb.secret import Secret
from wxtcb.tokens import MemoryStore, TokenStore
from wxtcb.tokens.configured_ticket import ConfiguredTicket
from wxtcb.tokens.state_repository import StateRepository

APPID = "wx0123456789abcdef"


async def make_store(ticket: str = "", age: float = 0.0) -> TokenStore:
    """Return a store, with a ticket that it received *age* seconds ago."""
    store = MemoryStore(lambda: 100_000.0)
    if ticket:
        await StateRepository(store, APPID).update(lambda state, now: state.with_ticket(Secret(ticket), 1, now - age))
    return store


async def test_file_is_read_for_each_token(tmp_path: Path) -> None:
    """Another program updates it with the newest ticket."""
    path = tmp_path / "ticket"
    source = ConfiguredTicket(path, "WXTCB_TICKET_FILE")
    for ticket in ("one", "two"):
        path.write_text(f"{ticket}\n")
        path.chmod(0o600)
        assert await source() == Secret(ticket)


@pytest.mark.parametrize(
    ("data", "mode", "reason"),
    [
        (b" \n", 0o600, "is empty"),
        (b"ticket\xff", 0o600, "is not UTF-8"),
        (None, 0o600, "No such file"),
        (b"ticket", 0o644, "other users can read"),
    ],
)
async def test_unusable_file_is_reported(tmp_path: Path, data: bytes | None, mode: int, reason: str) -> None:
    """The message has variable, path and reason, and neither it nor its cause has the content."""
    path = tmp_path / "ticket"
    if data is not None:
        path.write_bytes(data)
        path.chmod(mode)
    with pytest.raises(TicketError, match=reason) as caught:
        await ConfiguredTicket(path, "WXTCB_TICKET_FILE")()
    assert str(caught.value).startswith("WXTCB_TICKET_FILE: ")
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value.__cause__.__cause__, UnicodeError)


@pytest.mark.parametrize(("age", "used"), [(0.0, "stored"), (13 * 3600.0, "variable")])
async def test_ticket_in_the_store_is_preferred_unless_expired(age: float, used: str) -> None:
    """The variable is used if the ticket in the store is older than 12 hours."""
    source = ConfiguredTicket(Secret("variable"), "WXTCB_TICKET_FILE").with_store(
        await make_store("stored", age), APPID
    )
    assert await source() == Secret(used)


async def test_variable_is_used_if_the_store_has_no_ticket_or_is_down(tmp_path: Path) -> None:
    """No error of the store is raised then."""
    source = ConfiguredTicket(Secret("variable"), "WXTCB_TICKET_FILE")
    assert await source.with_store(await make_store(), APPID)() == Secret("variable")
    (tmp_path / "tokens.db").mkdir()
    broken = wxtcb.tokens.SqliteStore(tmp_path / "tokens.db")
    assert await source.with_store(broken, APPID)() == Secret("variable")


async def test_session_prefers_the_ticket_in_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Session.from_env` combines both; a ticket that is passed as an argument is always used."""
    async with wxtcb.sandbox.Sandbox() as sandbox:
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", sandbox.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", sandbox.component_appsecret)
        monkeypatch.setenv("WXTCB_BASE_URL", sandbox.url)
        monkeypatch.setenv("WXTCB_TICKET", "ticket@@@wrong")
        store = MemoryStore()
        async with wxtcb.Session.from_env(token_store=store) as session:
            with pytest.raises(wxtcb.InvalidTicket):
                await session.token()
        ticket = Secret(sandbox.ticket)
        await StateRepository(store, sandbox.component_appid).update(
            lambda state, now: state.with_ticket(ticket, 1, now)
        )
        async with wxtcb.Session.from_env(token_store=store) as session:
            assert await session.token()


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
    path.chmod(0o600)
    assert await ConfiguredTicket(path, "WXTCB_TICKET_FILE")() == Secret("T1CKET")
    assert [repr(future.result()) for future in futures] == ["***"]
