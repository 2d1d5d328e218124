"""The share with mini programs: several tenants in a call; it takes effect when an administrator opens the link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb.api.environment import Share, ShareResult, batch_share_env
from wxtcb.errors import ApiError, QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import StepContext
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.journal import TenantRecord
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import TenantState

MAX_BATCH_SIZE: Final = 20
_STEP_NAME: Final = "share"


def _unshared_appids(tenant_state: TenantState) -> tuple[str, ...]:
    return tenant_state.effective_record.unshared_appids(tenant_state.plan.tenant.appids)


def _is_needed(tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    return bool(record.unshared_appids(tenant.appids))


def _can_batch(first: TenantState, second: TenantState) -> bool:
    """Links come back by mini program alone, so none may stand twice in a call."""
    mine, others = first.plan.tenant, second.plan.tenant
    return mine.source_type == others.source_type and not set(mine.appids) & set(others.appids)


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    try:
        shared = await _send_share(context, tenant_states)
    except SendVetoed:
        return StepResult.RETRY
    except WxtcbError as error:
        if len(tenant_states) > 1 and _is_tenant_specific(error):
            return await _share_individually(context, tenant_states)
        for work in tenant_states:
            _record_failure(context, work, error)
    else:
        for work in tenant_states:
            await _record_result(context, work, shared)
    return StepResult.NEXT


async def _share_individually(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    """Share each by itself: one that the platform does not like costs the others no more than a call."""
    for work in tenant_states:
        await _run(context, [work])
    return StepResult.RETRY if context.halted else StepResult.NEXT


def _is_tenant_specific(error: WxtcbError) -> bool:
    return isinstance(error, ApiError) and not isinstance(error, QuotaExceeded) and not is_fatal(error)


async def _send_share(context: StepContext, tenant_states: Sequence[TenantState]) -> ShareResult:
    shares = [Share(env=work.env or "", appids=_unshared_appids(work)) for work in tenant_states]
    return await batch_share_env(context.session, shares, source_type=tenant_states[0].plan.tenant.source_type)


def _record_failure(context: StepContext, tenant_state: TenantState, error: WxtcbError) -> None:
    context.record_problem(tenant_state, Problem(step=_STEP_NAME, message=str(error), error=error))


async def _record_result(context: StepContext, tenant_state: TenantState, result: ShareResult) -> None:
    wanted = _unshared_appids(tenant_state)
    failed = {failure.appid: failure.errmsg for failure in result.err_list if failure.env == tenant_state.env}
    urls = {link.appid: link.url for link in result.msg_info_list}
    given = {appid: urls.get(appid, "") for appid in wanted if appid not in failed}
    try:
        await context.commit(
            tenant_state, attrs.evolve(tenant_state.record, links={**tenant_state.record.links, **given})
        )
        tenant_state.resend_links = False
    except WxtcbError as error:
        _record_failure(context, tenant_state, error)
    for appid, message in failed.items():
        context.record_problem(tenant_state, Problem(step=_STEP_NAME, appid=appid, message=message))


SHARE: Final = Step(
    name=_STEP_NAME, title="shared", is_needed=_is_needed, run=_run, batch_size=MAX_BATCH_SIZE, can_batch=_can_batch
)
