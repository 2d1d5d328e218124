"""Step that shares an environment with mini programs; several tenants share one request.

A share takes effect only when the administrator of the mini program opens the link. Later steps do not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb.api.environment import Share, ShareResult, batch_share_env
from wxtcb.errors import ApiError, QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import StepContext
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant_state import TenantState

MAX_BATCH_SIZE: Final = 20
_STEP_NAME: Final = "share"


def _can_batch(first: TenantState, second: TenantState) -> bool:
    # The response lists links by mini program only, so a mini program may occur only once in a request.
    tenant, other = first.plan.tenant, second.plan.tenant
    return tenant.source_type == other.source_type and not set(tenant.appids) & set(other.appids)


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    shares = [Share(env=state.env or "", appids=_unshared_appids(state)) for state in tenant_states]
    source_type = tenant_states[0].plan.tenant.source_type
    try:
        result = await batch_share_env(context.session, shares, source_type=source_type)
    except SendVetoed:
        return StepResult.RETRY
    except WxtcbError as error:
        is_shared = isinstance(error, QuotaExceeded) or is_fatal(error)
        if len(tenant_states) > 1 and isinstance(error, ApiError) and not is_shared:
            # One mini program that the platform rejects can fail the whole batch. Sharing again has no further effect.
            for tenant_state in tenant_states:
                await _run(context, [tenant_state])
            return StepResult.RETRY if context.halted else StepResult.NEXT
        for tenant_state in tenant_states:
            _record_failure(context, tenant_state, error)
    else:
        for tenant_state in tenant_states:
            await _record_result(context, tenant_state, result)
    return StepResult.NEXT


def _unshared_appids(tenant_state: TenantState) -> tuple[str, ...]:
    return tenant_state.effective_record.unshared_appids(tenant_state.plan.tenant.appids)


async def _record_result(context: StepContext, tenant_state: TenantState, result: ShareResult) -> None:
    requested = _unshared_appids(tenant_state)
    failed = {failure.appid: failure.errmsg for failure in result.err_list if failure.env == tenant_state.env}
    urls = {link.appid: link.url for link in result.msg_info_list}
    # The platform may give neither a link nor an error. The empty string records that the share was requested.
    links = {appid: urls.get(appid, "") for appid in requested if appid not in failed}
    links = {**tenant_state.record.links, **links}
    try:
        await context.commit(tenant_state, attrs.evolve(tenant_state.record, links=links))
        tenant_state.resend_links = False
    except WxtcbError as error:
        _record_failure(context, tenant_state, error)
    for appid, message in failed.items():
        context.record_problem(tenant_state, Problem(step=_STEP_NAME, appid=appid, message=message))


def _record_failure(context: StepContext, tenant_state: TenantState, error: WxtcbError) -> None:
    context.record_problem(tenant_state, Problem(step=_STEP_NAME, message=str(error), error=error))


SHARE: Final = Step(
    name=_STEP_NAME,
    title="shared",
    is_needed=lambda tenant, record, _: bool(record.unshared_appids(tenant.appids)),
    run=_run,
    batch_size=MAX_BATCH_SIZE,
    can_batch=_can_batch,
)
