"""The ticket of the environment variables: a fixed one, or a file that another program updates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb.errors import InvalidArgument, TicketError, TicketExpired, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens.env_vars import read_private_file
from wxtcb.tokens.providers import StoredTicketSource
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import TokenStore


@attrs.frozen(eq=False)
class ConfiguredTicket:
    """Ticket source: `ticket` or the content of its file, if the token store has no valid ticket or is unavailable.

    `variable` is the name of the variable with the path. It is for errors.
    """

    ticket: Secret | Path
    variable: str
    _stored: StoredTicketSource | None = None

    def with_store(self, store: TokenStore, component_appid: str) -> ConfiguredTicket:
        """Return a source that prefers the ticket in *store*."""
        return attrs.evolve(self, stored=StoredTicketSource(StateRepository(store, component_appid)))

    async def __call__(self) -> Secret:
        """Return the ticket; raise `TicketError` if its file cannot be read."""
        if self._stored is not None:
            try:
                if stored := await self._stored():
                    return stored
            except (TicketExpired, TokenStoreError):
                pass
        if isinstance(self.ticket, Secret):
            return self.ticket
        try:
            # A Secret in the thread already: in debug mode asyncio logs the repr of the thread's result.
            return await run_in_thread(partial(_read_ticket, self.ticket))
        except InvalidArgument as error:
            raise TicketError(f"{self.variable}: {error}; no token was requested") from error


def _read_ticket(path: Path) -> Secret:
    return Secret(read_private_file(path).strip())
