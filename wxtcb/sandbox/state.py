"""State of a world that survives a restart of `wxtcb sandbox`, as JSON.

It has the credentials, the valid tickets, the token, and the environments with their shares and cloud-run services.
Databases, files, websites, functions, versions, faults and counters are not in it.
"""

from __future__ import annotations

import contextlib
from typing import Final

import cattrs
import orjson
from attrs import define, field

from wxtcb.sandbox.credentials import TICKET_TTL
from wxtcb.sandbox.services.cloudrun import CloudRunService
from wxtcb.sandbox.services.environment import Environment
from wxtcb.sandbox.world import EnvironmentShare, World

_VERSION: Final = 1
# An older ticket would expire within hours of the restart; the platform has long pushed newer ones.
_MAX_TICKET_AGE: Final = TICKET_TTL / 2


class InvalidState(ValueError):
    """The JSON is not a state of this version."""


@define(kw_only=True)
class WorldState:
    """State of a world; all times are Unix seconds. `port` is that of the sandbox, so that its URL stays."""

    version: int = _VERSION
    port: int
    appid: str
    secret: str = field(repr=False)
    message_token: str = field(repr=False)
    encoding_aes_key: str = field(repr=False)
    previous_encoding_aes_key: str | None = field(repr=False)
    tickets: dict[str, float] = field(repr=False)
    token: str = field(repr=False)
    token_expires_at: float
    tokens_issued: int
    order_count: int
    environments: list[Environment]
    shares: list[EnvironmentShare]
    services: list[CloudRunService] = field(repr=False)

    @classmethod
    def of(cls, world: World, port: int) -> WorldState:
        """Return the state of a world."""
        credentials, messages = world.credentials, world.message_settings
        return cls(
            port=port,
            appid=credentials.appid,
            secret=credentials.secret,
            message_token=messages.message_token,
            encoding_aes_key=messages.encoding_aes_key,
            previous_encoding_aes_key=messages.previous_encoding_aes_key,
            tickets={ticket: at + world.unix_offset for ticket, at in credentials.valid_tickets(world.clock()).items()},
            token=credentials.token,
            token_expires_at=credentials.token_expires_at + world.unix_offset,
            tokens_issued=credentials.tokens_issued,
            order_count=world.order_count,
            environments=[*world.environments.values()],
            shares=[*world.shares.values()],
            services=[*world.services.values()],
        )

    @classmethod
    def parse(cls, raw: bytes) -> WorldState:
        """Return the state in a file. Raises `InvalidState`."""
        state = None
        # Raised outside of `except`: the errors of cattrs may contain secrets, also as the context of another one.
        with contextlib.suppress(cattrs.BaseValidationError, ValueError, TypeError, KeyError, AttributeError):
            state = _CONVERTER.structure(orjson.loads(raw), cls)
        if state is None:
            raise InvalidState("the content is not a state of the sandbox")
        if state.version != _VERSION:
            raise InvalidState(f"the state has version {state.version}; this wxtcb reads version {_VERSION}")
        return state

    def dump(self) -> bytes:
        """Return the JSON to write to a file that only this user can read."""
        return orjson.dumps(_CONVERTER.unstructure(self), option=orjson.OPT_INDENT_2)

    def restore(self, world: World) -> None:
        """Set a new world to this state. The world's seed must not be that of the earlier one.

        An environment that was not ready yet starts again when it is listed. If the newest ticket is too old, a new one
        is issued.
        """
        credentials, messages = world.credentials, world.message_settings
        credentials.appid, credentials.secret = self.appid, self.secret
        messages.message_token, messages.encoding_aes_key = self.message_token, self.encoding_aes_key
        messages.previous_encoding_aes_key = self.previous_encoding_aes_key
        tickets = {ticket: at - world.unix_offset for ticket, at in self.tickets.items()}
        credentials.restore_tickets(tickets)
        credentials.token, credentials.token_expires_at = self.token, self.token_expires_at - world.unix_offset
        credentials.tokens_issued = self.tokens_issued
        newest = max(tickets, key=tickets.__getitem__, default=None)
        if newest is None or world.clock() - tickets[newest] > _MAX_TICKET_AGE:
            world.issue_ticket()
        else:
            world.ticket = newest
        world.order_count = self.order_count
        for environment in self.environments:
            world.restore(environment)
        for share in self.shares:
            world.shares[share.env, share.appid] = share
        for service in self.services:
            world.cloudrun.put(service)


_CONVERTER: Final = cattrs.Converter(forbid_extra_keys=True)
# The source type of a share, and the fields of a service's body, are any JSON.
_CONVERTER.register_structure_hook_func(lambda kind: kind is object, lambda value, _kind: value)
