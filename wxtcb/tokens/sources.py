"""Where a new component_access_token comes from, and the two calls of the layer below the token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

import attrs

from wxtcb._protocol.endpoint import Credential, Done, Endpoint, Repeat, Reply
from wxtcb.secret import Secret


def _to_secret(value: str | Secret) -> Secret:
    return Secret.of(value)


@attrs.frozen
class ComponentToken(Reply):
    """A component_access_token and the seconds it lives, counted from when the platform made it."""

    keeps_raw: ClassVar[bool] = False

    component_access_token: Secret = attrs.field(converter=_to_secret)
    expires_in: int


TicketSource = Callable[[], Awaitable[str | Secret | None]]
TokenSource = Callable[[], Awaitable[ComponentToken]]

API_COMPONENT_TOKEN: Final = Endpoint(
    "/cgi-bin/component/api_component_token",
    ComponentToken,
    Repeat.ONCE,
    Credential.NONE,
    name="api_component_token",
    official="getComponentAccessToken",
)
API_START_PUSH_TICKET: Final = Endpoint(
    "/cgi-bin/component/api_start_push_ticket",
    Done,
    Repeat.SET,
    Credential.NONE,
    name="api_start_push_ticket",
    official="startPushTicket",
)


@attrs.frozen
class ReadOnly:
    """A token source for processes that never fetch: they take the token that others keep in the shared store."""
