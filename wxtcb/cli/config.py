"""Use of the settings in the environment: sessions, permission to fetch a token, and credentials in a body.

Nothing secret is accepted as a command line argument, because every program of the machine can read arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wxtcb._protocol.endpoint import Credential, Endpoint, Reply
from wxtcb.errors import InvalidArgument, TicketMissing
from wxtcb.secret import Secret
from wxtcb.tokens.configured_ticket import ConfiguredTicket
from wxtcb.tokens.env_vars import PlatformSettings
from wxtcb.tokens.providers import StoredTicketSource, TicketSource
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.store_urls import StoreURL
from wxtcb.validation import is_loopback

_TICKET_FIELD: Final = "component_verify_ticket"
# The three calls without a token carry credentials in their bodies; the platform names the app secret differently.
_CREDENTIAL_FIELDS: Final = {
    "api_component_token": ("component_appid", "component_appsecret", _TICKET_FIELD),
    "api_start_push_ticket": ("component_appid", "component_secret"),
    "clear_component_quota_by_app_secret": ("component_appid", "appsecret"),
}


def require_fetch_permission(settings: PlatformSettings, label: str, *, own_token: bool) -> None:
    """Raise `InvalidArgument` unless on loopback, with a shared token store, or with the option --own-token."""
    if settings.store is None and not is_loopback(settings.base_url) and not own_token:
        raise InvalidArgument(
            f"{label}: fetching a token from {settings.base_url} may invalidate the one that your backend uses; no "
            f"request was sent. Set {settings.prefix}TOKEN_STORE to the token store of your backend, or add "
            "--own-token if no other program uses this platform"
        )


async def newest_ticket(settings: PlatformSettings) -> Secret:
    """Return the current ticket; raise `TicketError` or `TokenStoreError` if none can be read."""
    source: TicketSource | None = None
    if settings.ticket is not None:
        source = ConfiguredTicket(settings.ticket, f"{settings.prefix}TICKET_FILE")
    if settings.store is not None:
        store = StoreURL.from_settings(settings.store).open()
        try:
            if isinstance(source, ConfiguredTicket):
                source = source.with_store(store, settings.component_appid)
            else:
                source = StoredTicketSource(StateRepository(store, settings.component_appid))
            ticket: str | Secret | None = await source()
        finally:
            await store.aclose()
    else:
        ticket = None if source is None else await source()
    if not ticket:
        raise TicketMissing
    return Secret.of(ticket)


def credential_fields(endpoint: Endpoint[Reply]) -> tuple[str, ...]:
    """Return the body fields of a call that are filled in from the environment."""
    return _CREDENTIAL_FIELDS[endpoint.name] if endpoint.credential is Credential.NONE else ()


def needs_ticket(endpoint: Endpoint[Reply]) -> bool:
    """Return whether a call may use a ticket: in its body, or to fetch the token that it carries."""
    return endpoint.credential is Credential.COMPONENT or _TICKET_FIELD in credential_fields(endpoint)


async def with_credentials(
    endpoint: Endpoint[Reply], settings: PlatformSettings, body: Mapping[str, object]
) -> Mapping[str, object]:
    """Return *body* with the credential fields that it lacks."""
    filled: dict[str, object] = dict.fromkeys(credential_fields(endpoint), settings.component_appsecret)
    if "component_appid" in filled:
        filled["component_appid"] = settings.component_appid
    if _TICKET_FIELD in filled and _TICKET_FIELD not in body:
        filled[_TICKET_FIELD] = await newest_ticket(settings)
    return {**filled, **body}
