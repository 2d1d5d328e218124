"""What a commit changes, in words for the history of a tenant. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from wxtcb.provision.journal import ServiceState, TenantRecord


def describe_change(before: TenantRecord, after: TenantRecord) -> str:
    """Say what differs, in one line."""
    return "; ".join(_change_parts(before, after)) or "noted"


def _change_parts(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.retired != before.retired:
        yield "removed from the tenants" if after.retired else "among the tenants again"
    yield from _environment_changes(before, after)
    offered = [appid for appid, url in after.links.items() if before.links.get(appid) != url]
    if offered:
        yield f"shared with {', '.join(offered)}"
    for name, state in after.services.items():
        if before.services.get(name) is not state:
            yield f"service {name} {_SERVICE_STATE_LABELS[state]}"
    for name in before.services:
        if name not in after.services and after.env == before.env:
            yield f"service {name} not established"
    for name, mark in after.marks.items():
        if before.marks.get(name) != mark:
            yield f"{name}: {mark}"


def _environment_changes(before: TenantRecord, after: TenantRecord) -> Iterator[str]:
    if after.attempt > before.attempt:
        yield f"create {after.attempt} intended under alias {after.alias}"
    elif before.intent and not after.intent and after.env is None:
        yield f"create {after.attempt} did not act"
    if after.env != before.env:
        if after.env is None:
            yield f"environment {before.env} given up"
        elif after.tranid not in (None, before.tranid):
            yield f"environment {after.env} opened, order {after.tranid}"
        else:
            yield f"environment {after.env} adopted"


_SERVICE_STATE_LABELS = {
    ServiceState.SENT: "is being established",
    ServiceState.DONE: "established",
    ServiceState.UNCONFIRMED: "there, unconfirmed",
}
