"""Step that establishes the cloud-run services of a tenant; sending one again cannot create a second service.

If the platform answers that the name exists, the service is done but unconfirmed, until a list shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.cloudrun import ESTABLISH_CLOUDBASERUN_SERVER, establish_cloudbaserun_server
from wxtcb.api.containers import get_cs_list
from wxtcb.errors import InvalidRequest, OutcomeUnknown, SendVetoed, WxtcbError
from wxtcb.provision.context import INTERRUPTED_MESSAGE, StaleRecord, StepContext, TenantEnded
from wxtcb.provision.record import ServiceState, TenantRecord
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Service, Tenant
from wxtcb.provision.work_group import GuardedCall, is_ambiguous

MAX_SENDS: Final = 3
MAX_PAGES: Final = 20
_STEP_NAME: Final = "services"
_ALREADY_EXISTS_ERRCODE: Final = 40097


def _is_needed(tenant: Tenant, record: TenantRecord, _status: str | None) -> bool:
    names = tenant.service_names
    return not all(map(record.has_service, names)) or bool(record.unconfirmed_services(names))


async def _run(context: StepContext) -> None:
    for service in context.tenant.services:
        if not context.halted and not context.record.has_service(service.name):
            await _establish_service(context, service)
    if unconfirmed := context.record.unconfirmed_services(context.tenant.service_names):
        await _confirm_services(context, unconfirmed)
    if context.halted and not all(map(context.record.has_service, context.tenant.service_names)):
        # A request that was withdrawn leaves no error.
        raise SendVetoed(endpoint=ESTABLISH_CLOUDBASERUN_SERVER.path)


async def _establish_service(context: StepContext, service: Service) -> None:
    with context.group.guarded_call() as call:
        # SENT in the journal: an earlier run may have established the service without learning the outcome.
        call.ambiguous = context.record.services.get(service.name) is ServiceState.SENT
        # Before the request, so that a crash during it leaves a trace.
        await _set_service_state(context, service, ServiceState.SENT)
        try:
            state = await _send_with_retries(context, service, call)
        except WxtcbError as error:
            if not call.ambiguous:
                await _set_service_state(context, service, None)
            # If no request was sent, the service is not failed but unfinished.
            if isinstance(error, SendVetoed) and not call.ambiguous:
                raise
            earlier = call.ambiguous and not is_ambiguous(error)
            message = f"{error} An earlier request may have taken effect." if earlier else str(error)
            context.record_problem(
                Problem(
                    step=_STEP_NAME, message=message, service=service.name, outcome_unknown=call.ambiguous, error=error
                )
            )
        except asyncio.CancelledError:
            if call.ambiguous:
                problem = Problem(
                    step=_STEP_NAME, message=INTERRUPTED_MESSAGE, service=service.name, outcome_unknown=True
                )
                context.record_problem(problem)
            else:
                with anyio.CancelScope(shield=True), contextlib.suppress(StaleRecord, TenantEnded, WxtcbError):
                    await _set_service_state(context, service, None)
            raise
        else:
            await _set_service_state(context, service, state)


async def _send_with_retries(context: StepContext, service: Service, call: GuardedCall) -> ServiceState:
    """Send until the outcome is known, at most three times, and return the service's state; raise the last error."""
    sends, last_error = 0, None
    while True:
        sends += 1
        try:
            await establish_cloudbaserun_server(call.session, service.to_server(context.env))
        except SendVetoed as error:
            if last_error is None:
                raise
            # The run was halted between two sends: the ambiguous outcome of the earlier one is what counts.
            raise last_error from error
        except WxtcbError as error:
            call.record_error(error)
            last_error = error
            # After an ambiguous send the service that exists is probably that one. In an adopted environment another
            # program may have established it: no order number is known of an environment that is adopted.
            exists = isinstance(error, InvalidRequest) and error.errcode == _ALREADY_EXISTS_ERRCODE
            if exists and (call.ambiguous or context.record.tranid is None):
                return ServiceState.UNCONFIRMED
            if not isinstance(error, OutcomeUnknown) or sends == MAX_SENDS or context.halted:
                raise
            await asyncio.sleep(context.session.retry.backoff(sends, random.uniform))
        else:
            return ServiceState.DONE


async def _confirm_services(context: StepContext, names: Sequence[str]) -> None:
    """Record unconfirmed services as done if the platform lists them."""
    # It is not documented whether `getcslist` lists cloud-run services, or only those of the older family. A service
    # that it does not list may exist all the same, and a failed list is no failure of the tenant.
    listed, offset = set[str](), 0
    try:
        for _ in range(MAX_PAGES):
            page = await get_cs_list(context.session, context.env, offset=offset or None)
            listed |= {service.service_name for service in page.cslist if service.service_name}
            offset += len(page.cslist)
            if not page.cslist or (page.total is not None and offset >= page.total):
                break
    except WxtcbError:
        return
    if found := listed.intersection(names):
        services = {**context.record.services, **dict.fromkeys(found, ServiceState.DONE)}
        await context.commit(attrs.evolve(context.record, services=services))


async def _set_service_state(context: StepContext, service: Service, state: ServiceState | None) -> None:
    services = {name: known for name, known in context.record.services.items() if name != service.name}
    if state is not None:
        services[service.name] = state
    await context.commit(attrs.evolve(context.record, services=services))


SERVICES: Final = Step(name=_STEP_NAME, title="services established", is_needed=_is_needed, run=_run)
