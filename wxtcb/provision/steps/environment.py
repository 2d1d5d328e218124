"""Step that creates a tenant's environment exactly once, or adopts one that was created for the tenant.

`createenv` is billed and has no idempotency key. The alias replaces it: the environment is created only while a fresh
listing shows no environment with the alias, and a create with an unknown outcome is checked before any other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.environment import NewEnv, create_env
from wxtcb.errors import ApiError, OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.provision.context import INTERRUPTED_MESSAGE, StepContext
from wxtcb.provision.events import StepOutcomeUnknown
from wxtcb.provision.plan import Action
from wxtcb.provision.reconciliation import CheckResult, OutcomeCheck, WaitForVisibility
from wxtcb.provision.record import Intent
from wxtcb.provision.report import Outcome, Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant_state import ENVIRONMENT_STEP_NAME, TenantState

MAX_AMBIGUOUS_CREATES: Final = 3


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    (tenant_state,) = tenant_states
    if isinstance(check := tenant_state.pending_wait, OutcomeCheck):
        tenant_state.pending_wait = None
        return await _apply_outcome(context, tenant_state, check)
    # An intent in the journal means that a create of an earlier run may have taken effect, or may still do so.
    if (intent := tenant_state.record.intent) is not None and tenant_state.ambiguous_create is not None:
        remaining = _remaining_seconds(context, intent)
        return _start_outcome_check(context, tenant_state, tenant_state.ambiguous_create, remaining)
    if tenant_state.plan.action is Action.ADOPT and tenant_state.plan.env:
        await context.bind_environment(tenant_state, tenant_state.plan.env, "adopted", tenant_state.record.tranid)
        return StepResult.NEXT
    # What an earlier run created just before is not listed yet. Until it is, every listing looks incomplete.
    if context.listing.expected.recently_created and tenant_state.pending_wait is None:
        now, longest = context.loop_time(), context.settle + context.timeout
        tenant_state.pending_wait = WaitForVisibility(context.listing.expected, now, now + longest)
        return StepResult.WAIT
    tenant_state.pending_wait = None
    return await _create_if_alias_unused(context, tenant_state)


def _remaining_seconds(context: StepContext, intent: Intent) -> float:
    """Return the seconds for which a create of another process may still take effect."""
    # The wall clocks of two machines may differ, so the deadline in the journal is not trusted to shorten the wait:
    # this process waits for a whole window. The deadline may lengthen it, but only to twice the window.
    window = max(context.create_window, intent.window)
    return min(max(window, intent.deadline - context.wall_clock()), 2 * window)


async def _create_if_alias_unused(context: StepContext, tenant_state: TenantState) -> StepResult:
    for _ in range(3):
        if matches := await context.listing.find_by_alias(tenant_state.record.alias, context.loop_time()):
            tenant_state.block(matches)
            return StepResult.END
        # The listing may have taken long enough for the run to be stopped.
        if context.stopped:
            return StepResult.RETRY
        # The deadline is fixed before the commit: another process counts from the moment when it reads the intent.
        deadline = context.loop_time() + context.create_window
        intent = Intent(deadline=context.wall_clock() + context.create_window, window=context.create_window)
        record = tenant_state.record
        await context.commit(tenant_state, attrs.evolve(record, attempt=record.attempt + 1, intent=intent))
        # A slow disk may have used up both: the listing's freshness and the time within which the create must end.
        if context.listing.is_fresh(context.loop_time()) and context.loop_time() < deadline:
            return await _send_create(context, tenant_state, deadline)
        await _clear_intent(context, tenant_state)
    message = (
        "no request was sent: in 3 attempts, listing the environments took more than 30 s, or storing an intent took "
        "more than 5 s; check the network and the journal's disk"
    )
    context.record_problem(tenant_state, Problem(step=ENVIRONMENT_STEP_NAME, message=message))
    return StepResult.END


async def _send_create(context: StepContext, tenant_state: TenantState, deadline: float) -> StepResult:
    new: NewEnv | None = None
    with context.guarded_call(deadline, billable=True) as call:
        try:
            new = await create_env(call.session, alias=tenant_state.record.alias)
        except WxtcbError as error:
            call.record_error(error)
            new = _read_kept_reply(error)
            if new is None and call.ambiguous:
                tenant_state.ambiguous_create_count += 1
                # After a response the create is over. Without one it may take effect until the deadline.
                has_response = isinstance(error.cause if isinstance(error, OutcomeUnknown) else error, ApiError)
                remaining = 0.0 if has_response else deadline - context.loop_time()
                return _start_outcome_check(context, tenant_state, _ambiguous_problem(str(error), error), remaining)
            if new is None:
                await _clear_intent(context, tenant_state)
                if not isinstance(error, SendVetoed):
                    raise
        except asyncio.CancelledError:
            # Either the run is cancelled, or the scope: by its deadline, or because the call may not be sent any more.
            if call.ambiguous:
                # The intent stays in the journal, so that this run's scope exit or the next run checks the outcome.
                tenant_state.ambiguous_create = _ambiguous_problem(INTERRUPTED_MESSAGE)
            else:
                await _clear_intent(context, tenant_state)
            raise
    if new is not None:
        # Before the commit: if that fails, the report must name the environment that now exists.
        tenant_state.env, tenant_state.tranid = new.env, new.tranid
        await context.bind_environment(tenant_state, new.env, "opened", new.tranid)
        return StepResult.NEXT
    if tenant_state.ambiguous_create is None:
        return StepResult.RETRY
    # The scope has ended the call at its deadline, so no time remains.
    tenant_state.ambiguous_create_count += 1
    return _start_outcome_check(context, tenant_state, tenant_state.ambiguous_create, 0.0)


def _read_kept_reply(error: WxtcbError) -> NewEnv | None:
    """Return the environment that an unreadable success names: nothing proves better what was created."""
    reply = error.reply if isinstance(error, OutcomeUnknown) else None
    env = reply.get("env") if reply and reply.get("errcode") == 0 else None
    return NewEnv(env=env) if isinstance(env, str) and env.strip() and "***" not in env else None


def _ambiguous_problem(message: str, error: WxtcbError | None = None) -> Problem:
    return Problem(step=ENVIRONMENT_STEP_NAME, message=message, outcome_unknown=True, error=error)


async def _clear_intent(context: StepContext, tenant_state: TenantState) -> None:
    # Shielded: an intent that stays although nothing was sent would cost the next run a whole outcome check.
    with anyio.CancelScope(shield=True):
        await context.commit(tenant_state, attrs.evolve(tenant_state.record, intent=None))


def _start_outcome_check(
    context: StepContext, tenant_state: TenantState, problem: Problem, remaining: float
) -> StepResult:
    """Register a check of the outcome of a create, which may take effect for *remaining* more seconds."""
    due_at = context.loop_time() + max(0.0, remaining) + context.settle
    deadline, compare = due_at + context.timeout, context.listing.expected.compare
    tenant_state.pending_wait = OutcomeCheck(tenant_state.record.alias, due_at, deadline, compare)
    tenant_state.ambiguous_create = problem
    context.emit(StepOutcomeUnknown(tenant_state.name, problem, context.to_datetime(due_at)))
    return StepResult.WAIT


async def _apply_outcome(context: StepContext, tenant_state: TenantState, check: OutcomeCheck) -> StepResult:
    match check.result:
        # An environment of another tenant is not adopted: the alias may have been changed at the console.
        case CheckResult.FOUND if check.found_envs[0] not in context.listing.expected.bound_since:
            await context.bind_environment(tenant_state, check.found_envs[0], "found")
            return StepResult.NEXT
        case CheckResult.ABSENT:
            await _clear_intent(context, tenant_state)
            if tenant_state.plan.action is Action.CREATE:
                if (count := tenant_state.ambiguous_create_count) < MAX_AMBIGUOUS_CREATES:
                    tenant_state.ambiguous_create = None
                    return StepResult.RETRY
                reason = f"listings showed that none of {count} creates took effect"
                _record_check_failure(context, tenant_state, reason, unknown=False)
                return StepResult.END
            tenant_state.ambiguous_create, tenant_state.blocked_outcome = None, Outcome.CONFLICT
            tenant_state.reason = f"{tenant_state.plan.env} was to be adopted, but is no longer listed; plan again"
        case CheckResult.INCONCLUSIVE:
            _record_check_failure(context, tenant_state, f"{check.reason}, so its outcome is not proven")
        case _:
            tenant_state.ambiguous_create = None
            tenant_state.block(check.found_envs)
    return StepResult.END


def _record_check_failure(
    context: StepContext, tenant_state: TenantState, reason: str, *, unknown: bool = True
) -> None:
    problem, tenant_state.ambiguous_create = tenant_state.ambiguous_create or _ambiguous_problem(reason), None
    problem = attrs.evolve(problem, message=f"{problem.message}; {reason}", outcome_unknown=unknown)
    context.record_problem(tenant_state, problem)


ENVIRONMENT: Final = Step(
    name=ENVIRONMENT_STEP_NAME,
    title="environments opened",
    is_needed=lambda _, record, __: record.env is None,
    run=_run,
    billable=True,
)
