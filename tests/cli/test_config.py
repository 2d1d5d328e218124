"""Permission to fetch a token, and the ticket of a call that carries credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from wxtcb.cli.config import newest_ticket, require_fetch_permission
from wxtcb.errors import InvalidArgument, TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.env_vars import PlatformSettings, StoreSettings
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.store_urls import StoreURL

APPID = "wx0123456789abcdef"


def make_settings(
    store: Path | None = None, *, ticket: str = "", base_url: str = "https://api.weixin.qq.com"
) -> PlatformSettings:
    """Return settings with a store in a file."""
    store_settings = None if store is None else StoreSettings(Secret(f"sqlite:///{store}"), None, "WXTCB_")
    return PlatformSettings(APPID, Secret("hush"), Secret(ticket) if ticket else None, base_url, store_settings)


async def test_ticket_variable_is_the_newest_ticket() -> None:
    """Without a store there is no other; an empty ticket is never sent."""
    assert (await newest_ticket(make_settings(ticket="ticket@@@1"))).reveal() == "ticket@@@1"
    with pytest.raises(TicketMissing):
        await newest_ticket(make_settings())


async def test_ticket_in_the_store_is_the_newest_ticket(tmp_path: Path) -> None:
    """With and without a variable; it is missing if neither exists."""
    path = tmp_path / "tokens.db"
    with pytest.raises(TicketMissing):
        await newest_ticket(make_settings(path))
    store = StoreURL(Secret(f"sqlite:///{path}")).open()
    await StateRepository(store, APPID).update(lambda state, now: state.with_ticket(Secret("stored"), 1, now))
    await store.aclose()
    for ticket in ("", "ticket@@@1"):
        assert (await newest_ticket(make_settings(path, ticket=ticket))).reveal() == "stored"


async def test_store_that_is_down_is_reported_without_a_variable(tmp_path: Path) -> None:
    """With the variable, its ticket is used."""
    (tmp_path / "tokens.db").mkdir()
    assert (await newest_ticket(make_settings(tmp_path / "tokens.db", ticket="one"))).reveal() == "one"
    with pytest.raises(TokenStoreError):
        await newest_ticket(make_settings(tmp_path / "tokens.db"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:80", "http://[::1]:9", "https://127.0.0.1"])
def test_token_of_a_platform_on_loopback_may_be_fetched(url: str) -> None:
    """It may be an address or a name."""
    require_fetch_permission(make_settings(base_url=url), "plan", own_token=False)


def test_remote_platform_requires_own_token_or_a_store(tmp_path: Path) -> None:
    """The message names both."""
    with pytest.raises(InvalidArgument, match=r"^plan: .*https://api.weixin.qq.com.*WXTCB_TOKEN_STORE.*--own-token"):
        require_fetch_permission(make_settings(), "plan", own_token=False)
    require_fetch_permission(make_settings(), "plan", own_token=True)
    require_fetch_permission(make_settings(tmp_path / "t.db"), "plan", own_token=False)
