"""Audit: result of comparing the tenants, the journal and the platform."""

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
    """Kind of discrepancy. The order is by severity, worst first."""

    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "ambiguous"
    MISSING = "missing"
    DRIFT = "drift"
    UNKNOWN = "unknown"
    AWAITING = "awaiting confirmation"

    @property
    def is_failure(self) -> bool:
        """Whether the audit fails because of it."""
        # UNKNOWN and AWAITING depend on people: no call of the platform can settle them.
        return self not in (FindingKind.UNKNOWN, FindingKind.AWAITING)


class Classification(Enum):
    """Relation of a listed environment to the tenants and the journal. Each environment has exactly one."""

    WANTED = "wanted"
    RETIRED = "retired"
    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    AMBIGUOUS = "ambiguous"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Finding:
    """Discrepancy found by an audit.

    `message` describes it and says what to do. `envs` are the environments concerned, listed or not.
    """

    kind: FindingKind
    tenant: str
    alias: str
    envs: tuple[str, ...] = ()
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.tenant}: {self.message}"

    def to_dict(self) -> dict[str, object]:
        """Return the fields for JSON."""
        return attrs.asdict(self, recurse=False) | {"kind": self.kind.value}


@attrs.frozen(kw_only=True)
class BoundEnvironment:
    """Environment that the journal binds to a tenant, since `opened_at`.

    - `tranid`: order number; None if the environment was adopted.
    - `create_time`, `status`: as the platform lists them, or None if it does not list the environment. The platform
      does not document the time zone of `create_time`; it is presumably China's.
    - `wanted`: the tenant is among the tenants of the audit.
    - `retired`: the tenant was removed on purpose.
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
        """Return the fields for JSON."""
        return attrs.asdict(self)


# Not `attrs.frozen`: `cached_property` needs an instance dictionary.
@attrs.define(frozen=True, slots=False)
class Audit:
    """Result of an audit; ``print(audit)`` shows the findings and a conclusion.

    - `tenant_count`: number of tenants compared.
    - `findings`: discrepancies, worst first.
    - `bound_environments`: every environment that the journal binds to a tenant.
    - `unrelated_envs`: listed environments that have no relation to the tenants or the journal.
    - `environment_counts`: number of listed environments by classification.
    - `notes`: warnings that do not make the audit fail.
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
        """Whether every tenant has exactly what it should have, and no environment is unaccounted for."""
        return not any(finding.kind.is_failure for finding in self.findings)

    @cached_property
    def counts(self) -> Mapping[FindingKind, int]:
        """Number of findings by kind; includes kinds with 0."""
        found = Counter(finding.kind for finding in self.findings)
        return MappingProxyType({kind: found[kind] for kind in FindingKind})

    @property
    def listed_count(self) -> int:
        """Number of environments that the platform lists."""
        return sum(self.environment_counts.values())

    @property
    def summary(self) -> str:
        """Number of tenants, environments and findings, in one sentence."""
        counts = [f"{count} {kind.value}" for kind, count in self.counts.items() if count]
        compared = f"{_pluralize(self.tenant_count, 'tenant')}, {_pluralize(self.listed_count, 'environment')} listed"
        unrelated = f" ({len(self.unrelated_envs)} unrelated)" if self.unrelated_envs else ""
        return f"{compared}{unrelated}: {', '.join(counts) or 'no findings'}."

    @property
    def conclusion(self) -> str:
        """Whether the audit passed, in one sentence."""
        if not self.passed:
            failures = sum(finding.kind.is_failure for finding in self.findings)
            return f"Failed: {_pluralize(failures, 'finding')} to resolve."
        unknown = self.counts[FindingKind.UNKNOWN]
        exception = f", except {unknown} that could not be checked" if unknown else ""
        return f"Passed: tenants, journal and platform agree{exception}."

    def __str__(self) -> str:
        return "\n".join((*map(str, self.findings), self.summary, *self.notes, self.conclusion))

    def to_json(self) -> bytes:
        """Return the audit as one JSON object. It contains no secret."""
        document = {
            "namespace": self.namespace,
            "passed": self.passed,
            "tenants": self.tenant_count,
            "listed": self.listed_count,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "environments": {each.value: self.environment_counts.get(each, 0) for each in Classification},
            "findings": [finding.to_dict() for finding in self.findings],
            "bound": [environment.to_dict() for environment in self.bound_environments],
            "unrelated": self.unrelated_envs,
            "notes": self.notes,
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _pluralize(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
