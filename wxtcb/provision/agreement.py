"""Who has agreed to a share: mini programs are looked up together, as far as that can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import attrs

from wxtcb.api.environment import batch_get_env_id
from wxtcb.errors import WxtcbError
from wxtcb.provision.auditor import ShareQuery
from wxtcb.provision.error_policy import is_fatal
from wxtcb.session import Session

MAX_APPIDS_PER_CALL: Final = 20

LookupBatch = tuple[int | None, tuple[str, ...]]


@attrs.define(eq=False)
class ShareLookup:
    """Looks mini programs up, at most `concurrency` batches at a time.

    A look-up that fails is no failure of the whole: `results` has the reason in the place of environments. After an error
    that every other would meet nothing more is asked.
    """

    session: Session
    concurrency: int
    results: dict[ShareQuery, frozenset[str] | str] = attrs.field(
        init=False, factory=dict[ShareQuery, "frozenset[str] | str"]
    )
    _fatal_reason: str | None = attrs.field(init=False, default=None)

    async def fetch(self, queries: Iterable[ShareQuery]) -> Mapping[ShareQuery, frozenset[str] | str]:
        """Look all of them up and return what is `results`; who is not in it may use no environment."""
        batches = batch_queries(queries)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._run_worker(batches))
        return self.results

    async def _run_worker(self, batches: Iterator[LookupBatch]) -> None:
        session = self.session.with_options(partial="return")
        for source_type, appids in batches:
            reason = self._fatal_reason
            try:
                if reason is None:
                    await self._fetch_batch(session, source_type, appids)
            except WxtcbError as error:
                reason = str(error)
                if is_fatal(error):
                    self._fatal_reason = reason
            if reason is not None:
                self.results |= {(source_type, appid): reason for appid in appids}

    async def _fetch_batch(self, session: Session, source_type: int | None, appids: tuple[str, ...]) -> None:
        reply = await batch_get_env_id(session, appids, source_type=source_type)
        self.results |= {(source_type, each.appid): frozenset(each.env_list) for each in reply.relation_data}
        self.results |= {(source_type, each.appid): each.errmsg for each in reply.err_list}


def batch_queries(queries: Iterable[ShareQuery]) -> Iterator[LookupBatch]:
    """Put those of a source type together, each once."""
    by_type: dict[int | None, dict[str, None]] = {}
    for source_type, appid in queries:
        by_type.setdefault(source_type, {})[appid] = None
    for source_type, appids in by_type.items():
        left = iter(appids)
        while batch := tuple(islice(left, MAX_APPIDS_PER_CALL)):
            yield source_type, batch
