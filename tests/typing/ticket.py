"""Types of the ticket receiver; checked by type checkers, never run."""

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


async def handle(notification: Notification) -> None:
    """Handle a notification."""
    assert_type(notification.fields["AuthorizationCode"], str)
    assert_type(notification.create_time, int | None)


async def use_receiver() -> None:
    """Create a receiver with a store or a URL, and use it in an application."""
    store = MemoryStore()
    TicketReceiver(component_appid="wx0", message_token=Secret("t"), encoding_aes_key="k", token_store="sqlite:///t.db")
    TicketReceiver(
        component_appid="wx0", message_token="t", encoding_aes_key="k", token_store=store, store_required=False
    )
    async with TicketReceiver(
        component_appid="wx0", message_token="t", encoding_aes_key="k", token_store=store, on_notification=handle
    ) as receiver:
        assert_type(receiver.plain_push_key, Secret | None)
        app: AsgiApp = receiver
        web.Application().router.add_post("/wechat/push", receiver.handle)
        Session(component_appid="wx0", component_appsecret="s", ticket=receiver.newest_ticket, token_store=store)
        assert_type(await receiver.newest_ticket(), Secret | None)
        del app


def handle_without_await(notification: Notification) -> None:
    """Return nothing that can be awaited, which is an error."""


TicketReceiver(
    component_appid="wx0",
    message_token="t",
    encoding_aes_key="k",
    token_store=MemoryStore(),
    on_notification=handle_without_await,  # type: ignore[arg-type]
)
TicketReceiver(component_appid="wx0", message_token="t", encoding_aes_key="k")  # type: ignore[call-arg]
