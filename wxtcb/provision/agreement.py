"""Who has agreed to a share: mini programs are looked up together, as far as that can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import attrs

from wxtcb.api.environment import batch_get_env_id
from wxtcb.errors import WxtcbError
from wxtcb.provision.auditor import Asked
from wxtcb.provision.error_policy import hits_everybody
from wxtcb.session import Session

TOGETHER: Final = 20

Batch = tuple[int | None, tuple[str, ...]]


@attrs.define(eq=False)
class Agreements:
    """Looks mini programs up, at most `concurrency` batches at a time.

    A look-up that fails is no failure of the whole: `known` has the reason in the place of environments. After an error
    that every other would meet nothing more is asked.
    """

    session: Session
    concurrency: int
    known: dict[Asked, frozenset[str] | str] = attrs.field(init=False, factory=dict[Asked, "frozenset[str] | str"])
    _hopeless: str | None = attrs.field(init=False, default=None)

    async def learn(self, asked: Iterable[Asked]) -> Mapping[Asked, frozenset[str] | str]:
        """Look all of them up and return what is `known`; who is not in it may use no environment."""
        batches = in_batches(asked)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._serve(batches))
        return self.known

    async def _serve(self, batches: Iterator[Batch]) -> None:
        session = self.session.with_options(partial="return")
        for source_type, appids in batches:
            reason = self._hopeless
            try:
                if reason is None:
                    await self._ask(session, source_type, appids)
            except WxtcbError as error:
                reason = str(error)
                if hits_everybody(error):
                    self._hopeless = reason
            if reason is not None:
                self.known |= {(source_type, appid): reason for appid in appids}

    async def _ask(self, session: Session, source_type: int | None, appids: tuple[str, ...]) -> None:
        reply = await batch_get_env_id(session, appids, source_type=source_type)
        self.known |= {(source_type, each.appid): frozenset(each.env_list) for each in reply.relation_data}
        self.known |= {(source_type, each.appid): each.errmsg for each in reply.err_list}


def in_batches(asked: Iterable[Asked]) -> Iterator[Batch]:
    """Put those of a source type together, each once."""
    by_type: dict[int | None, dict[str, None]] = {}
    for source_type, appid in asked:
        by_type.setdefault(source_type, {})[appid] = None
    for source_type, appids in by_type.items():
        left = iter(appids)
        while batch := tuple(islice(left, TOGETHER)):
            yield source_type, batch
