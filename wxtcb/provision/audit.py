"""What an audit found: how what is wanted, what the journal knows and what the platform lists agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cached_property
from types import MappingProxyType

import attrs
import orjson


class FindingKind(Enum):
    """What does not agree, the worst first."""

    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "unclear"
    MISSING = "missing"
    DRIFT = "drift"
    UNKNOWN = "unknown"
    AWAITING = "awaiting confirmation"

    @property
    def is_failure(self) -> bool:
        """Whether it keeps an audit from being proven; what only an administrator or a person can tell does not."""
        return self not in (FindingKind.UNKNOWN, FindingKind.AWAITING)


class Classification(Enum):
    """What a listed environment is to us; each is exactly one of these."""

    WANTED = "wanted"
    RETIRED = "retired"
    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "unclear"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that does not agree: `message` says in a sentence what it is, and in another what a person does next.

    `envs` are all that it is about, also some that are not listed.
    """

    kind: FindingKind
    tenant: str
    alias: str
    message: str
    envs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.tenant}: {self.message}"

    def to_dict(self) -> dict[str, object]:
        """Return what goes into the JSON."""
        return {
            "kind": self.kind.value,
            "tenant": self.tenant,
            "alias": self.alias,
            "envs": self.envs,
            "text": self.message,
        }


@attrs.frozen(kw_only=True)
class BoundEnvironment:
    """An environment that the journal binds to a tenant, since `opened_at`.

    `tranid` is the order number; None if the environment was adopted, as one is whose create was never answered.
    `create_time` (presumably China's) and `status` are the platform's own words, None where it does not list it.
    """

    tenant: str
    alias: str
    env: str
    tranid: str | None = None
    opened_at: datetime | None = None
    create_time: str | None = None
    status: str | None = None
    wanted: bool = True
    retired: bool = False

    @property
    def is_listed(self) -> bool:
        return self.status is not None

    def to_dict(self) -> dict[str, object]:
        """Return what goes into the JSON."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(BoundEnvironment)}


@attrs.define(frozen=True, slots=False)
class Audit:
    """What is found where file, journal and platform are held against each other; ``print(audit)`` shows it.

    `findings` come the worst first, `bound_environments` has every environment that the journal binds to a tenant, and `unrelated_envs` are
    those of no relation to file and journal, which nothing is found about. `tenant_count` are wanted, and `environment_counts` counts
    the environments that the platform lists. `notes` say what is odd, and keeps nothing from being proven.
    """

    namespace: str
    tenant_count: int
    findings: tuple[Finding, ...]
    bound_environments: tuple[BoundEnvironment, ...]
    unrelated_envs: tuple[str, ...]
    environment_counts: Mapping[Classification, int]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every wanted tenant has what it wants, once, and nothing of ours is there besides."""
        return not any(finding.kind.is_failure for finding in self.findings)

    @cached_property
    def counts(self) -> Mapping[FindingKind, int]:
        """How many findings there are of each kind; every kind is there, also with 0."""
        found = Counter(finding.kind for finding in self.findings)
        return MappingProxyType({kind: found[kind] for kind in FindingKind})

    @property
    def listed_count(self) -> int:
        """How many environments the platform lists."""
        return sum(self.environment_counts.values())

    @property
    def summary(self) -> str:
        """How many tenants and environments there are, and how many findings of each kind, in a sentence."""
        counts = [f"{count} {kind.value}" for kind, count in self.counts.items() if count]
        told = (
            f"{_pluralize(self.tenant_count, 'tenant')} wanted, {_pluralize(self.listed_count, 'environment')} listed"
        )
        told += f" ({len(self.unrelated_envs)} of no relation to them)" if self.unrelated_envs else ""
        return f"{told}: {', '.join(counts) or 'nothing found'}."

    @property
    def conclusion(self) -> str:
        """Whether all is proven, in a sentence."""
        if self.passed:
            unknown = self.counts[FindingKind.UNKNOWN]
            but = f", but for {unknown} that nobody could tell" if unknown else ""
            return f"Proven{but}: file, journal and platform agree."
        against = sum(finding.kind.is_failure for finding in self.findings)
        return f"Not proven: {_pluralize(against, 'finding')} to be settled."

    def __str__(self) -> str:
        return "\n".join((*map(str, self.findings), self.summary, *self.notes, self.conclusion))

    def to_json(self) -> bytes:
        """Return all of it as one JSON object; there is no secret in it."""
        document = {
            "namespace": self.namespace,
            "proven": self.passed,
            "tenants": self.tenant_count,
            "listed": self.listed_count,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "environments": {standing.value: self.environment_counts.get(standing, 0) for standing in Classification},
            "findings": [finding.to_dict() for finding in self.findings],
            "opened": [opened.to_dict() for opened in self.bound_environments],
            "others": self.unrelated_envs,
            "notes": self.notes,
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _pluralize(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
