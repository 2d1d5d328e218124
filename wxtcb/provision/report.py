"""Report of a run: one entry per tenant, in the order given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal

import attrs
import orjson

from wxtcb.api.environment import ShareLink
from wxtcb.errors import ApiError, WxtcbError
from wxtcb.provision.record import EMPTY_MAPPING

__all__ = ["Outcome", "Problem", "Progress", "Report", "RunInfo", "RunProgress", "StopReason", "TenantReport"]

EnvironmentOrigin = Literal["opened", "adopted", "found"]


def dump_json(document: Mapping[str, object]) -> bytes:
    """Return *document* as indented JSON; a lone surrogate, which is not valid Unicode, becomes its JSON escape."""
    try:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError:
        text = json.dumps(document, ensure_ascii=False, indent=2, default=datetime.isoformat)
        # Python's escape of a surrogate is also the one of JSON.
        return text.encode("utf-8", "backslashreplace")


class Outcome(Enum):
    """Outcome of a tenant."""

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
        return self in (Outcome.DONE, Outcome.UNCONFIRMED, Outcome.AWAITING)


OUTCOME_ADVICE: Final[Mapping[Outcome, str]] = MappingProxyType(
    {
        Outcome.UNCONFIRMED: "Done, but a service existed after an ambiguous request: check its settings.",
        Outcome.AWAITING: "Ask each mini program's administrator to open the link and confirm; all else is done.",
        Outcome.FAILED: "Fix the reported error. If an environment is named, it was created and may be billed.",
        Outcome.UNKNOWN: "Run it again later: it checks the outcome before it sends another create.",
        Outcome.CONFLICT: "Nothing is done until you decide; each line says what blocks the tenant.",
        Outcome.DUPLICATE: "Several environments have the alias, and each is billed; nothing is done until you decide.",
        Outcome.UNFINISHED: "Not failed, but not finished: run it again. If an environment is named, it is billed.",
    }
)


class StopReason(Enum):
    """Reason why a run stopped early, before all tenants were started or finished."""

    CANCELLED = "cancelled"
    MAX_FAILURES = "max_failures"
    QUOTA_EXCEEDED = "quota_exceeded"
    INCOMPLETE_LISTING = "incomplete_listing"
    PLAN_FAILED = "plan_failed"
    # An error that every other tenant would meet, such as one of the ticket, the secret or the journal.
    FATAL_ERROR = "fatal_error"
    # Another process was elected.
    DEPOSED = "deposed"


@attrs.frozen(kw_only=True)
class Problem:
    """Failure of one step, for the tenant or for one mini program or service.

    `outcome_unknown`: the request may have taken effect, so check before you repeat it by hand. `error` is None if the
    call was cancelled, or if the platform reported the failure in a reply with errcode 0. The cause of the error is an
    unexpected exception of a step, if there was one.
    """

    step: str
    message: str
    appid: str | None = None
    service: str | None = None
    outcome_unknown: bool = False
    error: WxtcbError | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def subject(self) -> str:
        return " ".join(filter(None, (self.step, self.service, self.appid)))

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"

    def to_dict(self) -> dict[str, object]:
        fields: dict[str, object] = {"step": self.step, "message": self.message, "unknown": self.outcome_unknown}
        fields |= {name: value for name in ("appid", "service") if (value := getattr(self, name))}
        if isinstance(self.error, ApiError):
            fields |= {"errcode": self.error.errcode, "rid": self.error.rid}
        return fields


@attrs.frozen(kw_only=True)
class TenantReport:
    """Result of one tenant.

    - `env`, `tranid`: environment, and its order number if this namespace created it.
    - `step`: step at which an unfinished tenant stopped; None if it never started. `done`: steps of this run.
    - `unconfirmed`: those of the `services` that another program may have established.
    - `existing`, `reason`: environments that have the alias, and why they block the tenant.
    """

    tenant: str
    alias: str
    outcome: Outcome
    env: str | None = None
    tranid: str | None = None
    step: str | None = None
    done: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    links: tuple[ShareLink, ...] = ()
    existing: tuple[str, ...] = ()
    reason: str = ""
    problems: tuple[Problem, ...] = ()
    # A mapping has no hash: without this an entry could not be a member of a set.
    metadata: Mapping[str, str] = attrs.field(default=EMPTY_MAPPING, hash=False)

    @property
    def not_started(self) -> bool:
        return self.outcome is Outcome.UNFINISHED and self.step is None

    @property
    def summary(self) -> str:
        if self.problems:
            return "; ".join(map(str, self.problems))
        match self.outcome:
            case Outcome.CONFLICT | Outcome.DUPLICATE:
                return self.reason
            case Outcome.UNFINISHED:
                return f"stopped at {self.step}" if self.step else "not started"
            case Outcome.UNCONFIRMED:
                return f"{', '.join(self.unconfirmed)} existed after an ambiguous request"
            case Outcome.AWAITING:
                return f"{len(self.links)} to confirm"
            case _:
                return ""

    def to_dict(self) -> dict[str, object]:
        return attrs.asdict(self, recurse=False) | {
            "outcome": self.outcome.value,
            "links": [{"appid": link.appid, "url": link.url} for link in self.links],
            "problems": [problem.to_dict() for problem in self.problems],
            "metadata": dict(self.metadata),
        }


@attrs.frozen
class Progress:
    """Number of tenants that are `done`, of `total`."""

    done: int
    total: int


@attrs.frozen
class RunProgress:
    """Progress of a run: `tenants` that are finished, with any outcome, and of each planned step in `steps`.

    `steps` is in the order of the steps; it is empty until the plan is made. A failed step is never done.
    """

    tenants: Progress
    steps: Mapping[str, Progress] = attrs.field(hash=False)


@attrs.frozen(kw_only=True)
class RunInfo:
    """Platform, component and namespace of a run."""

    base_url: str
    component_appid: str
    namespace: str


# Not `attrs.frozen`: `cached_property` needs an instance dictionary.
@attrs.define(frozen=True, slots=False)
class Report:
    """Result of a run; has every tenant exactly once.

    `elapsed` is in seconds, `created_at` in UTC. If the run stopped early, `stop_reason` is set, `stop_message`
    explains it, and `retry_after` is the earliest time for another run, if it is known.
    """

    tenants: tuple[TenantReport, ...]
    elapsed: float
    stop_reason: StopReason | None = None
    stop_message: str = ""
    retry_after: datetime | None = None
    run_info: RunInfo | None = None
    created_at: datetime = attrs.field(factory=lambda: datetime.now(UTC).replace(microsecond=0), eq=False)

    @cached_property
    def counts(self) -> Mapping[Outcome, int]:
        """Number of tenants by outcome; includes outcomes with 0."""
        found = Counter(entry.outcome for entry in self.tenants)
        return MappingProxyType({outcome: found[outcome] for outcome in Outcome})

    @property
    def done_count(self) -> int:
        return sum(count for outcome, count in self.counts.items() if outcome.is_done)

    @property
    def all_done(self) -> bool:
        return self.done_count == len(self.tenants)

    @property
    def link_count(self) -> int:
        return sum(len(entry.links) for entry in self.tenants)

    @property
    def unconfirmed_count(self) -> int:
        return sum(len(entry.unconfirmed) for entry in self.tenants)

    def to_json(self) -> bytes:
        return dump_json(
            {
                "tenants": [entry.to_dict() for entry in self.tenants],
                "counts": {outcome.value: count for outcome, count in self.counts.items()},
                "total": len(self.tenants),
                "done": self.done_count,
                "links": self.link_count,
                "unconfirmed": self.unconfirmed_count,
                "elapsed": round(self.elapsed, 3),
                "stopped": self.stop_message or None,
                "stop_reason": self.stop_reason.value if self.stop_reason else None,
                "retry_after": self.retry_after,
                "created_at": self.created_at,
                "run_info": attrs.asdict(self.run_info) if self.run_info else None,
            }
        )
