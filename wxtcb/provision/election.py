"""Election: which process provisions with a journal. One is elected at a time; the others wait until it ends.

An election only decides who works. What is safe rests on the journal: every commit compares versions, and one of a
process that was deposed is rejected by its epoch.
"""

from __future__ import annotations

from typing import Protocol

import attrs

__all__ = ["Election", "Leader", "Term"]


@attrs.frozen
class Term:
    """Term of office of one process.

    `epoch` is greater than that of every earlier term. `lease` is the number of seconds after which the term ends
    unless it is renewed; None if it ends only with the process, such as by a lock of the operating system.
    """

    epoch: int
    lease: float | None


@attrs.frozen
class Leader:
    """The process that is elected: its `holder` name, its `epoch`, and for how many `seconds` from now at least.

    `seconds` is None if the term has no end.
    """

    holder: str
    epoch: int
    seconds: float | None


class Election(Protocol):
    """Election of the process that provisions with a journal. All methods raise `JournalError` if storage fails."""

    async def acquire(self, holder: str, lease: float) -> Term | None:
        """Return a new term for *lease* seconds, by the clock of the storage, or None if another process is elected.

        Every term of this journal has a higher epoch than all earlier ones, also after a crash. If a response was lost
        and the same *holder* asks again, it gets its term.
        """
        ...

    async def renew(self, term: Term) -> bool:
        """Extend *term* by its lease from now; return False if another epoch has begun, or the term was released."""
        ...

    async def release(self, term: Term) -> None:
        """End *term*, so that another process is elected at once; do nothing if it has ended."""
        ...

    async def leader(self) -> Leader | None:
        """Return the process that is elected, or None."""
        ...
