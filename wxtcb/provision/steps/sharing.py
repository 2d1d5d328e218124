"""The share with mini programs: several tenants in a call; it takes effect when an administrator opens the link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb.api.environment import Share, Shared, batch_share_env
from wxtcb.errors import ApiError, QuotaExhausted, Withheld, WxtcbError
from wxtcb.provision.context import Site
from wxtcb.provision.error_policy import hits_everybody
from wxtcb.provision.journal import Record
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move

TOGETHER: Final = 20
_NAME: Final = "share"


def _left(work: Work) -> tuple[str, ...]:
    return work.to_go_by.unshared(work.planned.tenant.appids)


def _wants(tenant: Tenant, record: Record, _status: str | None) -> bool:
    return bool(record.unshared(tenant.appids))


def _joins(one: Work, other: Work) -> bool:
    """Links come back by mini program alone, so none may stand twice in a call."""
    mine, others = one.planned.tenant, other.planned.tenant
    return mine.source_type == others.source_type and not set(mine.appids) & set(others.appids)


async def _take(site: Site, works: Sequence[Work]) -> Move:
    try:
        shared = await _share(site, works)
    except Withheld:
        return Move.AGAIN
    except WxtcbError as error:
        if len(works) > 1 and _may_be_of_one(error):
            return await _take_apart(site, works)
        for work in works:
            _fail(site, work, error)
    else:
        for work in works:
            await _keep(site, work, shared)
    return Move.ON


async def _take_apart(site: Site, works: Sequence[Work]) -> Move:
    """Share each by itself: one that the platform does not like costs the others no more than a call."""
    for work in works:
        await _take(site, [work])
    return Move.AGAIN if site.halted else Move.ON


def _may_be_of_one(error: WxtcbError) -> bool:
    return isinstance(error, ApiError) and not isinstance(error, QuotaExhausted) and not hits_everybody(error)


async def _share(site: Site, works: Sequence[Work]) -> Shared:
    shares = [Share(env=work.env or "", appids=_left(work)) for work in works]
    return await batch_share_env(site.session, shares, source_type=works[0].planned.tenant.source_type)


def _fail(site: Site, work: Work, error: WxtcbError) -> None:
    site.note(work, Problem(step=_NAME, message=str(error), error=error))


async def _keep(site: Site, work: Work, shared: Shared) -> None:
    wanted = _left(work)
    failed = {failure.appid: failure.errmsg for failure in shared.err_list if failure.env == work.env}
    urls = {link.appid: link.url for link in shared.msg_info_list}
    given = {appid: urls.get(appid, "") for appid in wanted if appid not in failed}
    try:
        await site.commit(work, attrs.evolve(work.record, links={**work.record.links, **given}))
        work.resend = False
    except WxtcbError as error:
        _fail(site, work, error)
    for appid, message in failed.items():
        site.note(work, Problem(step=_NAME, appid=appid, message=message))


SHARE: Final = Step(name=_NAME, title="shared", wants=_wants, take=_take, together=TOGETHER, joins=_joins)
