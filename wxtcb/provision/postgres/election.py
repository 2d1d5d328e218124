"""Election in PostgreSQL: one row, with a lease by the clock of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from wxtcb.provision.election import Leader, Term
from wxtcb.provision.postgres.connection import Lane
from wxtcb.provision.postgres.schema import DURABLE, NOTIFY, decode_text, encode_text

# An epoch is at least the Unix time in seconds. So a database that goes on from an older copy does not give the epoch
# of a process that is still alive to another one.
_ACQUIRE: Final = f"""\
INSERT INTO wxtcb_leader AS l (only_row, epoch, holder, until)
VALUES (true, extract(epoch FROM clock_timestamp())::bigint, $1::text, clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (only_row) DO UPDATE SET
    epoch = CASE WHEN l.holder = excluded.holder AND l.until > clock_timestamp() THEN l.epoch
        ELSE greatest(l.epoch + 1, excluded.epoch) END,
    holder = excluded.holder, until = excluded.until
WHERE l.holder IS NULL OR l.holder = excluded.holder OR l.until <= clock_timestamp()
RETURNING epoch, {DURABLE}, {NOTIFY}"""
_RENEW: Final = (
    "UPDATE wxtcb_leader SET until = clock_timestamp() + $2 * interval '1 second'"
    " WHERE epoch = $1 AND holder IS NOT NULL RETURNING epoch"
)
_RELEASE: Final = (
    f"UPDATE wxtcb_leader SET holder = NULL, until = '-infinity' WHERE epoch = $1 AND holder IS NOT NULL"
    f" RETURNING {NOTIFY}"
)
_READ_LEADER: Final = (
    "SELECT holder, epoch, extract(epoch FROM until - clock_timestamp())::float8 FROM wxtcb_leader"
    " WHERE holder IS NOT NULL AND until > clock_timestamp()"
)


@attrs.define(eq=False)
class PostgresElection:
    """Election among the processes that use a `PostgresJournal` on the same database and schema."""

    _lane: Lane
    _on_change: Callable[[], None]

    async def acquire(self, holder: str, lease: float) -> Term | None:
        rows = await self._lane.fetch(_ACQUIRE, (encode_text(holder), float(lease)))
        if not rows:
            return None
        self._on_change()
        return Term(rows[0][0], lease)

    async def renew(self, term: Term) -> bool:
        return bool(await self._lane.fetch(_RENEW, (term.epoch, float(term.lease or 0.0))))

    async def release(self, term: Term) -> None:
        if await self._lane.fetch(_RELEASE, (term.epoch,)):
            self._on_change()

    async def leader(self) -> Leader | None:
        rows = await self._lane.fetch(_READ_LEADER)
        return Leader(decode_text(rows[0][0]), *rows[0][1:]) if rows else None
