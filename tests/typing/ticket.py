"""How the receiver of tickets is typed from outside; type-checked, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, assert_type

from aiohttp import web

from wxtcb import Secret, Session
from wxtcb.tokens import MemoryStore
from wxtcb.tokens.ticket import Notification, TicketReceiver

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


async def note(notice: Notification) -> None:
    """Be told of what is no ticket."""
    assert_type(notice.fields["AuthorizationCode"], str)
    assert_type(notice.create_time, int | None)


async def use() -> None:
    """Build a receiver with a store or a URL, and put it where it belongs."""
    store = MemoryStore()
    TicketReceiver(component_appid="wx0", message_token=Secret("t"), encoding_aes_key="k", token_store="sqlite:///t.db")
    async with TicketReceiver(
        component_appid="wx0", message_token="t", encoding_aes_key="k", token_store=store, on_notification=note
    ) as receiver:
        app: AsgiApp = receiver
        web.Application().router.add_post("/wechat/push", receiver.handle)
        Session(component_appid="wx0", component_appsecret="s", ticket=receiver.newest_ticket, token_store=store)
        assert_type(await receiver.newest_ticket(), Secret | None)
        del app


def note_in_vain(notice: Notification) -> None:
    """Return nothing to await."""


TicketReceiver(
    component_appid="wx0",
    message_token="t",
    encoding_aes_key="k",
    token_store=MemoryStore(),
    on_notification=note_in_vain,  # type: ignore[arg-type]
)
TicketReceiver(component_appid="wx0", message_token="t", encoding_aes_key="k")  # type: ignore[call-arg]
