"""What came of it: one entry per tenant, in the order in which they were given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final

import attrs
import orjson

from wxtcb.api.environment import ShareLink
from wxtcb.errors import ApiError, WxtcbError
from wxtcb.provision.journal import EMPTY_MAPPING, HistoryEntry

_NO_HISTORIES: Final[Mapping[str, tuple[HistoryEntry, ...]]] = MappingProxyType({})


class Outcome(Enum):
    """How a tenant ended."""

    DONE = "done"
    UNCONFIRMED = "done (unconfirmed)"
    AWAITING = "awaiting confirmation"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    UNFINISHED = "unfinished"

    @property
    def is_done(self) -> bool:
        """Whether all was done, even if a confirmation is awaited or lacking."""
        return self in (Outcome.DONE, Outcome.UNCONFIRMED, Outcome.AWAITING)


OUTCOME_ADVICE: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        Outcome.UNCONFIRMED: "Done, but a service was there after a send in doubt: see that it is as you want it.",
        Outcome.AWAITING: "Let each mini program's administrator open its link and agree; all else is done.",
        Outcome.FAILED: "Mend what the error says. Where an environment is named it was opened, and may be billed.",
        Outcome.UNKNOWN: "Start it again later: it goes on looking, and never just sends.",
        Outcome.CONFLICT: "Nothing is done for them until a person has decided; each line says what is in the way.",
        Outcome.DUPLICATE: "Several environments have the alias, each of them billed; nothing is done meanwhile.",
        Outcome.UNFINISHED: "Not wrong, only not ended. Where an environment is named it was opened, and is billed.",
    }
)


@attrs.frozen(kw_only=True)
class Problem:
    """What did not end well at one step: of the whole tenant, of one mini program, or of one service.

    `outcome_unknown` when it may have taken effect. `error` is what was raised, None where nothing was: the call was cancelled,
    or the platform said errcode 0 and told of the failure inside the reply.
    """

    step: str
    message: str
    appid: str | None = None
    service: str | None = None
    outcome_unknown: bool = False
    error: WxtcbError | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def subject(self) -> str:
        """The step, and the service or the mini program if it is about one."""
        return " ".join(filter(None, (self.step, self.service, self.appid)))

    def to_dict(self) -> dict[str, object]:
        """Return what goes into the JSON."""
        facts: dict[str, object] = {"step": self.step, "message": self.message, "unknown": self.outcome_unknown}
        facts |= {name: value for name in ("appid", "service") if (value := getattr(self, name))}
        if isinstance(self.error, ApiError):
            facts |= {"errcode": self.error.errcode, "rid": self.error.rid}
        return facts


@attrs.frozen(kw_only=True)
class TenantReport:
    """What came of one tenant.

    `env` is the id of its environment, `tranid` the order number if this namespace opened it. `step` is where an
    unfinished tenant stood, None if it never started. `link_count` are the pages on which administrators must agree,
    `services` those established, `unconfirmed_count` those of them that were refused as existing after an earlier send in
    doubt, and so are done, but perhaps by somebody else. `existing` are the environments that had the alias before, in
    a conflict, and `reason` says what is in the way. `done_count` are the steps taken in this run, `metadata` what steps of
    your own have noted (`Record.metadata`).
    """

    tenant: str
    alias: str
    outcome: Outcome
    env: str | None = None
    tranid: str | None = None
    step: str | None = None
    done: tuple[str, ...] = ()
    links: tuple[ShareLink, ...] = ()
    services: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    reason: str = ""
    problems: tuple[Problem, ...] = ()
    metadata: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, hash=False)

    @property
    def not_started(self) -> bool:
        """Whether nothing was begun for it."""
        return self.outcome is Outcome.UNFINISHED and self.step is None

    @property
    def summary(self) -> str:
        """One line on what keeps it from being done; empty when nothing does."""
        if self.problems:
            return "; ".join(f"{problem.subject}: {problem.message}" for problem in self.problems)
        match self.outcome:
            case Outcome.CONFLICT | Outcome.DUPLICATE:
                return self.reason
            case Outcome.UNFINISHED:
                return f"stopped at {self.step}" if self.step else "not started"
            case Outcome.UNCONFIRMED:
                return f"{', '.join(self.unconfirmed)} there after a send in doubt"
            case Outcome.AWAITING:
                return f"{len(self.links)} to confirm"
            case _:
                return ""

    def to_dict(self) -> dict[str, object]:
        """Return what goes into the JSON."""
        return {
            "tenant": self.tenant,
            "alias": self.alias,
            "outcome": self.outcome.value,
            "env": self.env,
            "tranid": self.tranid,
            "step": self.step,
            "done": self.done,
            "services": self.services,
            "unconfirmed": self.unconfirmed,
            "links": [{"appid": link.appid, "url": link.url} for link in self.links],
            "existing": self.existing,
            "reason": self.reason,
            "problems": [problem.to_dict() for problem in self.problems],
            "marks": dict(self.metadata),
        }


@attrs.frozen(kw_only=True)
class RunInfo:
    """Where a run worked: at which platform, for which component, and under which namespace of aliases."""

    base_url: str
    component_appid: str
    namespace: str


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@attrs.define(frozen=True, slots=False)
class Report:
    """What came of a run: every tenant exactly once.

    `stop_reason` says why not all were started, if so, and `retry_after` when another run may go on, if that is known.
    `elapsed` is in seconds, and `created_at` when this was written down, in UTC.
    """

    tenants: tuple[TenantReport, ...]
    elapsed: float
    stop_reason: str | None = None
    retry_after: datetime | None = None
    run_info: RunInfo | None = None
    created_at: datetime = attrs.field(factory=_utc_now, eq=False)

    @cached_property
    def counts(self) -> Mapping[Outcome, int]:
        """How many tenants ended in each way; every way is there, also with 0."""
        found = Counter(entry.outcome for entry in self.tenants)
        return MappingProxyType({outcome: found[outcome] for outcome in Outcome})

    @property
    def done_count(self) -> int:
        """How many tenants are done, those that only await or lack a confirmation included."""
        return sum(count for outcome, count in self.counts.items() if outcome.is_done)

    @property
    def all_done(self) -> bool:
        return self.done_count == len(self.tenants)

    @property
    def link_count(self) -> int:
        """How many pages await a mini program's administrator."""
        return sum(len(entry.links) for entry in self.tenants)

    @property
    def unconfirmed_count(self) -> int:
        """How many services are done, but unconfirmed."""
        return sum(len(entry.unconfirmed) for entry in self.tenants)

    def to_json(self) -> bytes:
        """Return all of it as one JSON object, links included; there is no secret in it."""
        return orjson.dumps(
            {
                "tenants": [entry.to_dict() for entry in self.tenants],
                "counts": {outcome.value: count for outcome, count in self.counts.items()},
                "total": len(self.tenants),
                "done": self.done_count,
                "links": self.link_count,
                "unconfirmed": self.unconfirmed_count,
                "elapsed": round(self.elapsed, 3),
                "stopped": self.stop_reason,
                "come_back_at": self.retry_after,
                "made_at": self.created_at,
                "origin": attrs.asdict(self.run_info) if self.run_info else None,
            },
            option=orjson.OPT_INDENT_2,
        )

    def to_csv(self) -> str:
        """Return a table for a spreadsheet: a row per tenant, one for the names of the columns, links included.

        It is quoted throughout, lines end in CR LF, and several values in a cell are parted by `;`, links by a line
        break. A cell that a spreadsheet would take for a formula or a date, or change as a number, begins with an
        apostrophe; one longer than a spreadsheet takes is cut. Write it as `utf-8-sig`, by which Excel knows the
        encoding.
        """
        from wxtcb.provision.report_csv import render_csv

        return render_csv(self)

    def to_html(self, histories: Mapping[str, tuple[HistoryEntry, ...]] = _NO_HISTORIES) -> str:
        """Return one page, complete in itself, that loads nothing: failures first, and all links to be opened.

        *histories* has what became of tenants, by name, as `Journal.history` gives it; each is folded below its tenant.
        Made of 10,000 tenants it takes up to a second: inside an event loop make it in a thread. The links are for
        administrators only, so keep the page as you keep the journal.
        """
        from wxtcb.provision.report_html import render_html

        return render_html(self, histories)
