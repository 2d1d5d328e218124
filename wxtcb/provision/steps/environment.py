"""Step that creates a tenant's environment exactly once, or adopts one that was created for the tenant.

`createenv` is billed and has no idempotency key. The alias replaces it: the environment is created only while a fresh
listing shows no environment with the alias, and a create with an unknown outcome is checked before any other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import anyio
import attrs

from wxtcb._concurrency.limiter import PathReservation
from wxtcb.api.environment import CREATE_ENV, NewEnv, create_env
from wxtcb.errors import ApiError, OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.provision.context import INTERRUPTED_MESSAGE, StaleRecord, StepContext, TenantEnded
from wxtcb.provision.events import StepOutcomeUnknown
from wxtcb.provision.plan import Action
from wxtcb.provision.reconciliation import CheckResult, OutcomeCheck
from wxtcb.provision.record import Intent
from wxtcb.provision.report import Outcome, Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant_state import ENVIRONMENT_STEP_NAME
from wxtcb.session import reserve_path, try_reserve_path

MAX_AMBIGUOUS_CREATES: Final = 3


async def _run(context: StepContext) -> None:
    state = context.state
    # An intent in the journal means that a create of an earlier run may have taken effect, or may still do so.
    if (intent := state.record.intent) is not None and state.ambiguous_create is not None:
        await _check_outcome(context, state.ambiguous_create, _remaining_seconds(context, intent))
    elif state.plan.action is Action.ADOPT and state.plan.env:
        await context.bind_environment(state.plan.env, "adopted", state.record.tranid)
    while state.env is None:
        await _create(context)


def _remaining_seconds(context: StepContext, intent: Intent) -> float:
    """Return the seconds for which a create of another process may still take effect."""
    # The wall clocks of two machines may differ, so the deadline in the journal is not trusted to shorten the wait:
    # this process waits for a whole window. The deadline may lengthen it, but only to twice the window.
    window = max(context.create_window, intent.window)
    return min(max(window, intent.deadline - context.shared.wall_clock()), 2 * window)


async def _create(context: StepContext) -> None:
    """Send a create, if the alias is not in use; return without an environment if it was not sent."""
    state, listing = context.state, context.shared.listing
    if state.record.creates_sent >= MAX_AMBIGUOUS_CREATES:
        message = (
            f"{state.record.creates_sent} creates may have been sent, without a known effect; no further one is sent "
            "until you decide: "
            "check the console, then adopt the environment or retry"
        )
        raise context.end_with(_problem(message))
    await _wait_after_rollback(context)
    for _ in range(3):
        # Before the intent: while the platform's minute limit pauses creates, an intent would only expire.
        if (reservation := try_reserve_path(context.session, CREATE_ENV)) is None:
            with context.group.interruptible():
                reservation = await reserve_path(context.session, CREATE_ENV)
        try:
            if not listing.is_fresh(context.loop_time()):
                with context.group.interruptible():
                    await listing.refresh(context.loop_time())
            if context.stopped:
                raise SendVetoed(endpoint=CREATE_ENV.path)
            if matches := listing.alias_index.find(state.record.alias):
                raise await context.block(matches)
            # The deadline is fixed before the commit: another process counts from the moment when it reads the intent.
            deadline = context.loop_time() + context.create_window
            wall_deadline = context.shared.wall_clock() + context.create_window
            intent = Intent(deadline=wall_deadline, window=context.create_window)
            record, sent = state.record, state.record.creates_sent + 1
            rolled_back_at = context.shared.journal.rolled_back_at
            await context.commit(attrs.evolve(record, attempt=record.attempt + 1, intent=intent, creates_sent=sent))
            # The commit itself may be what met the fail-over.
            is_rolled_back = context.shared.journal.rolled_back_at != rolled_back_at
            # A slow disk may have used up both: the listing's freshness and the time within which the create must end.
            is_in_time = listing.is_fresh(context.loop_time()) and context.loop_time() < deadline
            if is_in_time and not is_rolled_back:
                await _send_create(context, deadline, reservation)
                return
            await _clear_intent(context)
            if is_rolled_back:
                return
        finally:
            reservation.cancel()
    message = (
        "no request was sent: in 3 attempts, listing the environments took more than 30 s, or storing an intent took "
        "more than 5 s; check the network and the journal's disk"
    )
    raise context.end_with(_problem(message))


async def _wait_after_rollback(context: StepContext) -> None:
    # A create whose intent the storage has lost may still take effect, and then needs the delay until it is listed.
    waited_for: float | None = None
    # Again if it was rolled back once more meanwhile.
    while (at := context.shared.journal.rolled_back_at) not in (None, waited_for):
        waited_for = at
        remaining = (at or 0.0) + context.create_window + context.settle - time.monotonic()
        if remaining > 0:
            context.release_slot()
            with context.group.interruptible():
                await asyncio.sleep(remaining)
            await context.acquire_slot(resumed=True)


async def _send_create(context: StepContext, deadline: float, reservation: PathReservation) -> None:
    state, new = context.state, None
    with context.group.guarded_call(deadline, billable=True, reservation=reservation) as call:
        try:
            new = await create_env(call.session, alias=state.record.alias)
        except WxtcbError as error:
            call.record_error(error)
            new = _read_kept_reply(error)
            if new is None and call.ambiguous:
                # After a response the create is over. Without one it may take effect until the deadline.
                has_response = isinstance(error.cause if isinstance(error, OutcomeUnknown) else error, ApiError)
                remaining = 0.0 if has_response else deadline - context.loop_time()
                state.ambiguous_create, state.check_after = _ambiguous_problem(str(error), error), remaining
            elif new is None:
                await _clear_intent(context)
                if not isinstance(error, SendVetoed) or context.stopped:
                    raise
        except asyncio.CancelledError:
            # Either the run is cancelled, or the scope: by its deadline, or because the call may not be sent any more.
            if call.ambiguous:
                # The intent stays in the journal, so that the check below, or the next run, finds out the outcome.
                state.ambiguous_create, state.check_after = _ambiguous_problem(INTERRUPTED_MESSAGE), 0.0
            else:
                # Nothing replaces the cancellation; an intent that stays is checked by the next run.
                with contextlib.suppress(StaleRecord, TenantEnded, WxtcbError):
                    await _clear_intent(context)
            raise
    if new is not None:
        # Before the commit: if that fails, the report must name the environment that now exists.
        state.env, state.tranid = new.env, new.tranid
        await context.bind_environment(new.env, "opened", new.tranid)
    elif state.ambiguous_create is not None:
        await _check_outcome(context, state.ambiguous_create, state.check_after)
    elif context.stopped:
        raise SendVetoed(endpoint=CREATE_ENV.path)


def _read_kept_reply(error: WxtcbError) -> NewEnv | None:
    """Return the environment that an unreadable success names: nothing proves better what was created."""
    reply = error.reply if isinstance(error, OutcomeUnknown) else None
    env = reply.get("env") if reply and reply.get("errcode") == 0 else None
    return NewEnv(env=env) if isinstance(env, str) and env.strip() and "***" not in env else None


def _problem(message: str) -> Problem:
    return Problem(step=ENVIRONMENT_STEP_NAME, message=message)


def _ambiguous_problem(message: str, error: WxtcbError | None = None) -> Problem:
    return Problem(step=ENVIRONMENT_STEP_NAME, message=message, outcome_unknown=True, error=error)


async def _clear_intent(context: StepContext, *, sent: bool = False) -> None:
    """Store that the create had no effect; one that was not *sent*, or was rejected, does not count."""
    record = context.record
    creates_sent = record.creates_sent if sent else max(0, record.creates_sent - 1)
    # Shielded: an intent that stays although nothing was sent would cost the next run a whole outcome check.
    with anyio.CancelScope(shield=True):
        await context.commit(attrs.evolve(record, intent=None, creates_sent=creates_sent))


async def _check_outcome(context: StepContext, problem: Problem, remaining: float) -> None:
    """Wait for listings that show the outcome of a create, which may take effect for *remaining* more seconds.

    Return with the environment bound, or with the intent cleared so that another create may be sent.
    """
    state, listing = context.state, context.shared.listing
    state.ambiguous_create = problem
    due_at = context.loop_time() + max(0.0, remaining) + context.settle
    context.group.emit(StepOutcomeUnknown(state.name, problem, context.to_datetime(due_at)))
    deadline = due_at + context.shared.timeout
    while True:
        # What is expected in a listing may have changed: a person may have decided to forget an environment.
        await listing.bindings.read()
        check = OutcomeCheck(state.record.alias, due_at, deadline, listing.expected.compare)
        await context.wait(check)
        if check.found_envs or check.snapshot is None:
            break
        # Another process may have bound an environment that these listings lacked, or released one.
        await listing.bindings.read()
        is_complete = not listing.expected.compare(check.snapshot).is_incomplete
        if is_complete == (check.result is CheckResult.ABSENT):
            break
        due_at = context.loop_time()
    await context.acquire_slot(resumed=True)
    await _apply_outcome(context, check)


async def _apply_outcome(context: StepContext, check: OutcomeCheck) -> None:
    state = context.state
    match check.result:
        # An environment of another tenant is not adopted: the alias may have been changed at the console.
        case CheckResult.FOUND if check.found_envs[0] not in context.shared.listing.expected.bound_since:
            await context.bind_environment(check.found_envs[0], "found")
        case CheckResult.ABSENT:
            await _clear_intent(context, sent=True)
            if state.plan.action is not Action.CREATE:
                state.ambiguous_create, state.blocked_outcome = None, Outcome.CONFLICT
                state.reason = f"{state.plan.env} was to be adopted, but is no longer listed; plan again"
                raise TenantEnded
            if (count := state.record.creates_sent) >= MAX_AMBIGUOUS_CREATES:
                reason = f"listings showed that none of {count} creates took effect"
                raise _failed_check(context, reason, unknown=False)
            state.ambiguous_create = None
        case CheckResult.INCONCLUSIVE:
            await context.ensure_current()
            raise _failed_check(context, f"{check.reason}, so its outcome is not proven")
        case _:
            state.ambiguous_create = None
            raise await context.block(check.found_envs)


def _failed_check(context: StepContext, reason: str, *, unknown: bool = True) -> TenantEnded:
    state = context.state
    problem, state.ambiguous_create = state.ambiguous_create or _ambiguous_problem(reason), None
    return context.end_with(attrs.evolve(problem, message=f"{problem.message}; {reason}", outcome_unknown=unknown))


ENVIRONMENT: Final = Step(
    name=ENVIRONMENT_STEP_NAME,
    title="environments opened",
    is_needed=lambda _, record, __: record.env is None,
    run=_run,
)
