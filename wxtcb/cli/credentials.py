"""What the calls below the token hold in their bodies of the environment's credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wxtcb._protocol.endpoint import Credential, Endpoint, Reply
from wxtcb.cli.config import Settings

_TICKET_FIELD: Final = "component_verify_ticket"
_CREDENTIAL_FIELDS: Final = {
    "api_component_token": ("component_appid", "component_appsecret", _TICKET_FIELD),
    "api_start_push_ticket": ("component_appid", "component_secret"),
    "clear_component_quota_by_app_secret": ("component_appid", "appsecret"),
}


def credential_fields(endpoint: Endpoint[Reply]) -> tuple[str, ...]:
    """Return the fields of the body that come from the environment where they are not given."""
    return _CREDENTIAL_FIELDS[endpoint.name] if endpoint.credential is Credential.NONE else ()


def needs_ticket(endpoint: Endpoint[Reply]) -> bool:
    """Tell whether a ticket may be spent on the call: for itself, or for the token that it carries."""
    return endpoint.credential is Credential.COMPONENT or _TICKET_FIELD in credential_fields(endpoint)


async def with_credentials(
    endpoint: Endpoint[Reply], settings: Settings, body: Mapping[str, object]
) -> Mapping[str, object]:
    """Return *body* with the credentials that it lacks."""
    missing = [name for name in credential_fields(endpoint) if name not in body]
    return {**{name: await _read_credential(name, settings) for name in missing}, **body}


async def _read_credential(name: str, settings: Settings) -> object:
    if name == "component_appid":
        return settings.component_appid
    return await settings.newest_ticket() if name == _TICKET_FIELD else settings.component_appsecret
