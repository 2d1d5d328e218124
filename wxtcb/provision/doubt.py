"""Calls that add something and may have acted though no answer said so; services are sent again then."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import attrs

from wxtcb.api.cloudrun import Server, establish_cloudbaserun_server
from wxtcb.errors import OutcomeUnknown, RequestRefused, WxtcbError
from wxtcb.events import Abandoned, Event
from wxtcb.session import Session

MOST_SENDS: Final = 3
_EXISTS: Final = 40097


@attrs.define(eq=False)
class Doubt:
    """Whether a send of one call may have acted without an answer that says so; as a hook it hears of cancelled ones.

    What is cancelled before its body can have left emits no `Abandoned`, and leaves no doubt.
    """

    there: bool = False

    def __call__(self, event: Event) -> None:
        self.there |= isinstance(event, Abandoned)

    def heed(self, error: WxtcbError) -> None:
        self.there |= is_doubtful(error)


def is_doubtful(error: WxtcbError) -> bool:
    """Tell whether the call that raised *error* may have acted."""
    return isinstance(error, OutcomeUnknown) or error.maybe_acted > 0


async def establish(session: Session, server: Server, doubt: Doubt, halted: Callable[[], bool]) -> bool:
    """Establish a service, sent again while its outcome is unknown; return False where it is done, but unconfirmed.

    That is when the platform refuses the name as one that exists after a send in doubt: probably that one's.
    """
    view = session.with_options(hooks=[doubt])
    sends = 0
    while True:
        sends += 1
        try:
            await establish_cloudbaserun_server(view, server)
        except WxtcbError as error:
            doubt.heed(error)
            if isinstance(error, RequestRefused) and error.errcode == _EXISTS and doubt.there:
                return False
            if not isinstance(error, OutcomeUnknown) or sends == MOST_SENDS:
                raise
            await asyncio.sleep(session.retry.backoff(sends, random.uniform))
            if halted():
                raise
        else:
            return True
