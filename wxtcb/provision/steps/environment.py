"""The environment: opened once, found again by its alias, adopted only if it must be ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.environment import NewEnv, create_env
from wxtcb.errors import ApiError, OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.provision.context import INTERRUPTED_MESSAGE, GuardedCall, StepContext
from wxtcb.provision.journal import Intent, TenantRecord
from wxtcb.provision.plan import Action
from wxtcb.provision.reconciliation import (
    MAX_LISTING_AGE,
    MAX_SLOW_LISTING_AGE,
    CheckResult,
    OutcomeCheck,
    WaitForVisibility,
)
from wxtcb.provision.report import Outcome, Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import ENVIRONMENT_STEP_NAME, TenantState

MAX_AMBIGUOUS_CREATES: Final = 3
_MAX_INTENT_ATTEMPTS: Final = 3


def _is_needed(_tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    return record.env is None


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    (work,) = tenant_states
    if isinstance(proof := work.pending_wait, OutcomeCheck):
        work.pending_wait = None
        return await _apply_outcome(context, work, proof)
    if work.record.intent is not None and work.ambiguous_create is not None:
        return _start_outcome_check(
            context, work, work.ambiguous_create, _remaining_seconds(context, work.record.intent)
        )
    if work.plan.action is Action.ADOPT and work.plan.env:
        await context.bind_environment(work, work.plan.env, work.record.tranid)
        return StepResult.NEXT
    if context.listing.expected.recently_created and work.pending_wait is None:
        now = context.loop_time()
        work.pending_wait = WaitForVisibility(context.listing.expected, now, now + context.settle + context.timeout)
        return StepResult.WAIT
    work.pending_wait = None
    return await _create_if_alias_unused(context, work)


def _remaining_seconds(context: StepContext, intent: Intent) -> float:
    """Return how long a create that this process did not send may still be under way: the wall clock adds some only."""
    window = max(context.create_window, intent.window)
    return min(max(window, intent.deadline - context.wall_clock()), 2 * window)


async def _create_if_alias_unused(context: StepContext, tenant_state: TenantState) -> StepResult:
    for _ in range(_MAX_INTENT_ATTEMPTS):
        alike = await context.listing.find_by_alias(tenant_state.record.alias, context.loop_time())
        if alike:
            tenant_state.block(alike)
            return StepResult.END
        if context.stopped:
            return StepResult.RETRY
        deadline = context.loop_time() + context.create_window
        intent = Intent(deadline=context.wall_clock() + context.create_window, window=context.create_window)
        await context.commit(
            tenant_state, attrs.evolve(tenant_state.record, attempt=tenant_state.record.attempt + 1, intent=intent)
        )
        if context.listing.is_fresh(context.loop_time()) and context.loop_time() < deadline:
            return await _send_create(context, tenant_state, deadline)
        await _clear_intent(context, tenant_state)
    what = (
        f"listing took more than {MAX_SLOW_LISTING_AGE:.0f} s, or keeping an intent more than {MAX_LISTING_AGE:.0f} s"
    )
    message = f"{what}, {_MAX_INTENT_ATTEMPTS} times: nothing was sent"
    context.record_problem(tenant_state, Problem(step=ENVIRONMENT_STEP_NAME, message=message))
    return StepResult.END


async def _send_create(context: StepContext, tenant_state: TenantState, deadline: float) -> StepResult:
    new: NewEnv | None = None
    with context.guarded_call(deadline, billable=True) as sending:
        try:
            new = await create_env(sending.session, alias=tenant_state.record.alias)
        except WxtcbError as error:
            sending.record_error(error)
            if sending.ambiguous:
                tenant_state.ambiguous_create_count += 1
                left = 0.0 if _has_response(error) else deadline - context.loop_time()
                return _start_outcome_check(context, tenant_state, _ambiguous_problem(str(error), error), left)
            await _clear_intent(context, tenant_state)
            if not isinstance(error, SendVetoed):
                raise
        except asyncio.CancelledError:
            await _on_cancelled(context, tenant_state, sending)
            raise
    if new is not None:
        tenant_state.env, tenant_state.tranid = new.env, new.tranid
        await context.bind_environment(tenant_state, new.env, new.tranid)
        return StepResult.NEXT
    if tenant_state.ambiguous_create is None:
        return StepResult.RETRY
    tenant_state.ambiguous_create_count += 1
    return _start_outcome_check(context, tenant_state, tenant_state.ambiguous_create, 0.0)


async def _on_cancelled(context: StepContext, tenant_state: TenantState, call: GuardedCall) -> None:
    """Keep the intent of a create that may have left, for the next look or the next run; else take it back."""
    if call.ambiguous:
        tenant_state.ambiguous_create = _ambiguous_problem(INTERRUPTED_MESSAGE)
    else:
        await _clear_intent(context, tenant_state)


def _ambiguous_problem(message: str, error: WxtcbError | None = None) -> Problem:
    return Problem(step=ENVIRONMENT_STEP_NAME, message=message, outcome_unknown=True, error=error)


def _has_response(error: WxtcbError) -> bool:
    return isinstance(error.cause if isinstance(error, OutcomeUnknown) else error, ApiError)


async def _clear_intent(context: StepContext, tenant_state: TenantState) -> None:
    with anyio.CancelScope(shield=True):
        await context.commit(tenant_state, attrs.evolve(tenant_state.record, intent=None))


def _start_outcome_check(
    context: StepContext, tenant_state: TenantState, problem: Problem, remaining: float
) -> StepResult:
    """Park the tenant until looks show whether its create, over in *seconds*, acted."""
    due = context.loop_time() + max(0.0, remaining) + context.settle
    tenant_state.pending_wait = OutcomeCheck(
        tenant_state.record.alias, due, due + context.timeout, context.listing.expected.compare
    )
    context.mark_ambiguous(tenant_state, problem)
    return StepResult.WAIT


async def _apply_outcome(context: StepContext, tenant_state: TenantState, check: OutcomeCheck) -> StepResult:
    match check.result:
        case CheckResult.FOUND if check.found_envs[0] not in context.listing.expected.bound_since:
            await context.bind_environment(tenant_state, check.found_envs[0])
            return StepResult.NEXT
        case CheckResult.ABSENT:
            await _clear_intent(context, tenant_state)
            if tenant_state.plan.action is Action.CREATE:
                return _retry_create(context, tenant_state)
            tenant_state.ambiguous_create, tenant_state.blocked_outcome = None, Outcome.CONFLICT
            tenant_state.reason = f"{tenant_state.plan.env} was to be adopted, and is not listed any more: plan again"
        case CheckResult.INCONCLUSIVE:
            _record_check_failure(context, tenant_state, f"{check.reason}, so nothing is proven")
        case _:
            tenant_state.ambiguous_create = None
            tenant_state.block(check.found_envs)
    return StepResult.END


def _retry_create(context: StepContext, tenant_state: TenantState) -> StepResult:
    """Open it after all, now that no earlier create has; but not for ever."""
    if tenant_state.ambiguous_create_count < MAX_AMBIGUOUS_CREATES:
        tenant_state.ambiguous_create = None
        return StepResult.RETRY
    _record_check_failure(
        context,
        tenant_state,
        f"looks showed that none of {tenant_state.ambiguous_create_count} creates acted",
        unknown=False,
    )
    return StepResult.END


def _record_check_failure(
    context: StepContext, tenant_state: TenantState, reason: str, *, unknown: bool = True
) -> None:
    problem, tenant_state.ambiguous_create = tenant_state.ambiguous_create or _ambiguous_problem(reason), None
    context.record_problem(
        tenant_state, attrs.evolve(problem, message=f"{problem.message}; {reason}", outcome_unknown=unknown)
    )


ENVIRONMENT: Final = Step(
    name=ENVIRONMENT_STEP_NAME, title="environments opened", is_needed=_is_needed, run=_run, billable=True
)
