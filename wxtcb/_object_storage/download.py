"""A download to a file: streamed, resumed after a break, and there as a whole or not at all."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from wxtcb._http.retry import RetryPolicy
from wxtcb._http.transport import Failure
from wxtcb._object_storage.body import Stopped
from wxtcb._object_storage.client import Order, Transfers
from wxtcb._object_storage.landing import Landed, Landing, Reached, landing_at
from wxtcb._object_storage.response import Heard
from wxtcb._object_storage.upload import refused
from wxtcb._object_storage.urls import secrets_of
from wxtcb.errors import SessionClosed, TransferError
from wxtcb.secret import Secret

MOST_BREAKS: Final = 5

_EFFECT: Final = "No file was made of it; one that was there is as it was."


@attrs.frozen
class Downloaded:
    """A file that was downloaded; a path to it can be had from it as from a `Path`. `size` is in bytes."""

    path: Path
    size: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)


async def download(
    transfers: Transfers,
    path: str | os.PathLike[str],
    *,
    what: str,
    ask: Callable[[], Awaitable[Secret]],
    policy: RetryPolicy,
    progress: Reached | None = None,
) -> Downloaded:
    """Store what *ask* gives the URL of; it is asked anew after each break.

    Gives up after so many breaks in a row without another byte, and at once when the URL is refused.
    """
    async with transfers.turn(), landing_at(path, progress) as landing:
        await _fetch(transfers, landing, what=what, ask=ask, policy=policy)
        with suppress(Stopped):
            await landing.finish()
        if landing.trouble is not None:
            raise _troubled(what, landing) from landing.trouble
        return Downloaded(landing.target, landing.size)


async def _fetch(
    transfers: Transfers, landing: Landing, *, what: str, ask: Callable[[], Awaitable[Secret]], policy: RetryPolicy
) -> None:
    furthest, breaks = 0, 0
    while True:
        url = await ask()
        answer = await transfers.send(Order("GET", url, landing.wish()), landing.take)
        if answer is Landed.WHOLE or landing.trouble is not None:
            return
        breaks = breaks + 1 if landing.size <= furthest else 0
        furthest = max(furthest, landing.size)
        if breaks == MOST_BREAKS or _is_final(answer):
            raise _failed(what, answer, landing, url)
        await transfers.gate.rest(policy.backoff(breaks, random.uniform) if breaks else 0)


def _is_final(answer: Heard | Failure | Landed) -> bool:
    """Tell whether another try would end the same."""
    if isinstance(answer, Heard):
        return answer.status < 500 and not answer.expired
    return isinstance(answer, Failure) and answer.closed


def _failed(
    what: str, answer: Heard | Failure | Landed, landing: Landing, url: Secret
) -> TransferError | SessionClosed:
    if isinstance(answer, Failure) and answer.closed:
        return SessionClosed(f"{what}: the session was closed")
    heard = answer if isinstance(answer, Heard) else None
    reason = answer.value if isinstance(answer, Landed) else answer.reason
    return refused(what, heard, reason, secrets_of(url), _EFFECT, stored=None, sent=landing.size)


def _troubled(what: str, landing: Landing) -> TransferError:
    error = landing.trouble
    reason = f"{type(error).__name__}: {error}"
    return refused(what, None, reason, (), _EFFECT, stored=None, sent=landing.size)
