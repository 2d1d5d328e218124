"""The services: each established under its name, and sent again under it where an answer is not clear.

One that was there after a send in doubt is done, but unconfirmed until the platform lists it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.cloudrun import establish_cloudbaserun_server
from wxtcb.api.containers import get_cs_list
from wxtcb.errors import InvalidRequest, OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.provision.context import INTERRUPTED_MESSAGE, GuardedCall, StepContext, is_ambiguous
from wxtcb.provision.journal import ServiceState, TenantRecord
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant import Service, Tenant
from wxtcb.provision.tenant_state import TenantState

MAX_SENDS: Final = 3
MAX_PAGES: Final = 20
_STEP_NAME: Final = "services"
_ALREADY_EXISTS_ERRCODE: Final = 40097


def _is_needed(tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    return _has_missing_services(tenant, record) or bool(record.unconfirmed_services(tenant.service_names))


def _has_missing_services(tenant: Tenant, record: TenantRecord) -> bool:
    return not all(map(record.has_service, tenant.service_names))


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    (work,) = tenant_states
    for service in work.plan.tenant.services:
        if context.halted:
            return StepResult.RETRY
        if not work.record.has_service(service.name):
            await _establish_service(context, work, service)
    if unconfirmed := work.record.unconfirmed_services(work.plan.tenant.service_names):
        await _confirm_services(context, work, unconfirmed)
    return (
        StepResult.RETRY if context.halted and _has_missing_services(work.plan.tenant, work.record) else StepResult.NEXT
    )


async def _confirm_services(context: StepContext, tenant_state: TenantState, names: Sequence[str]) -> None:
    """Take for done what the platform lists; a name that it does not list may be there all the same."""
    try:
        listed = await _list_services(context, tenant_state.env or "")
    except WxtcbError:
        return
    if found := listed.intersection(names):
        await _save_services(
            context, tenant_state, {**tenant_state.record.services, **dict.fromkeys(found, ServiceState.DONE)}
        )


async def _list_services(context: StepContext, env: str) -> set[str]:
    """Return the services that the platform lists; of a list that does not end, the first pages."""
    names: set[str] = set()
    offset = 0
    for _ in range(MAX_PAGES):
        page = await get_cs_list(context.session, env, offset=offset or None)
        names |= {service.service_name for service in page.cslist if service.service_name}
        offset += len(page.cslist)
        if not page.cslist or (page.total is not None and offset >= page.total):
            break
    return names


async def _establish_service(context: StepContext, tenant_state: TenantState, service: Service) -> None:
    with context.guarded_call() as sending:
        sending.ambiguous = tenant_state.record.services.get(service.name) is ServiceState.SENT
        await _set_service_state(context, tenant_state, service, ServiceState.SENT)
        try:
            state = await _send_with_retries(context, tenant_state, service, sending)
        except WxtcbError as error:
            await _record_failure(context, tenant_state, service, sending, error)
        except asyncio.CancelledError:
            await _on_cancelled(context, tenant_state, service, sending)
            raise
        else:
            await _set_service_state(context, tenant_state, service, state)


async def _send_with_retries(
    context: StepContext, tenant_state: TenantState, service: Service, call: GuardedCall
) -> ServiceState:
    """Send until the answer is clear, at most three times.

    A name that is refused as existing after a send in doubt is done, but unconfirmed: probably it was that send.
    """
    sends, unclear = 0, None
    while True:
        sends += 1
        try:
            await establish_cloudbaserun_server(call.session, service.to_server(tenant_state.env or ""))
        except SendVetoed as error:
            raise unclear or error from None
        except WxtcbError as error:
            call.record_error(error)
            unclear = error
            if (
                isinstance(error, InvalidRequest)
                and error.errcode == _ALREADY_EXISTS_ERRCODE
                and (call.ambiguous or _is_adopted(tenant_state))
            ):
                return ServiceState.UNCONFIRMED
            if not isinstance(error, OutcomeUnknown) or sends == MAX_SENDS or context.halted:
                raise
            await asyncio.sleep(context.session.retry.backoff(sends, random.uniform))
        else:
            return ServiceState.DONE


def _is_adopted(tenant_state: TenantState) -> bool:
    """Tell whether somebody may have established services before: its opening was never answered to us."""
    return tenant_state.record.tranid is None


async def _set_service_state(
    context: StepContext, tenant_state: TenantState, service: Service, state: ServiceState | None
) -> None:
    services = {name: kept for name, kept in tenant_state.record.services.items() if name != service.name}
    if state is not None:
        services[service.name] = state
    await _save_services(context, tenant_state, services)


async def _save_services(context: StepContext, tenant_state: TenantState, services: Mapping[str, ServiceState]) -> None:
    await context.commit(tenant_state, attrs.evolve(tenant_state.record, services=services))


async def _record_failure(
    context: StepContext, tenant_state: TenantState, service: Service, call: GuardedCall, error: WxtcbError
) -> None:
    if not call.ambiguous:
        await _set_service_state(context, tenant_state, service, None)
    if isinstance(error, SendVetoed) and not call.ambiguous:
        return
    earlier = "" if not call.ambiguous or is_ambiguous(error) else " An earlier send of it may have taken effect."
    problem = Problem(
        step=_STEP_NAME, message=f"{error}{earlier}", service=service.name, outcome_unknown=call.ambiguous, error=error
    )
    context.record_problem(tenant_state, problem)


async def _on_cancelled(context: StepContext, tenant_state: TenantState, service: Service, call: GuardedCall) -> None:
    if not call.ambiguous:
        with anyio.CancelScope(shield=True):
            await _set_service_state(context, tenant_state, service, None)
        return
    context.record_problem(
        tenant_state, Problem(step=_STEP_NAME, message=INTERRUPTED_MESSAGE, service=service.name, outcome_unknown=True)
    )


SERVICES: Final = Step(name=_STEP_NAME, title="services established", is_needed=_is_needed, run=_run)
