"""The services: each established under its name, and sent again under it where an answer is not clear."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.cloudrun import establish_cloudbaserun_server
from wxtcb.errors import OutcomeUnknown, RequestRefused, Withheld, WxtcbError
from wxtcb.provision.journal import Record, ServiceState
from wxtcb.provision.report import Problem
from wxtcb.provision.site import CUT_OFF, Sending, Site, is_doubtful
from wxtcb.provision.spec import Service, Tenant
from wxtcb.provision.step import Step
from wxtcb.provision.waiting import Move
from wxtcb.provision.work import Work

MOST_SENDS: Final = 3
_NAME: Final = "services"
_EXISTS: Final = 40097


def _wants(tenant: Tenant, record: Record, _status: str | None) -> bool:
    return not all(record.has_service(service.name) for service in tenant.services)


async def _take(site: Site, works: Sequence[Work]) -> Move:
    (work,) = works
    for service in work.planned.tenant.services:
        if site.halted:
            return Move.AGAIN
        if not work.record.has_service(service.name):
            await _establish(site, work, service)
    return Move.AGAIN if site.halted and _wants(work.planned.tenant, work.record, None) else Move.ON


async def _establish(site: Site, work: Work, service: Service) -> None:
    with site.sending() as sending:
        sending.doubt = work.record.services.get(service.name) is ServiceState.SENT
        await _mark(site, work, service, ServiceState.SENT)
        try:
            state = await _send(site, work, service, sending)
        except WxtcbError as error:
            await _fail(site, work, service, sending, error)
        except asyncio.CancelledError:
            await _cut_off(site, work, service, sending)
            raise
        else:
            await _mark(site, work, service, state)


async def _send(site: Site, work: Work, service: Service, sending: Sending) -> ServiceState:
    """Send until the answer is clear, at most three times.

    A name that is refused as existing after a send in doubt is done, but unconfirmed: probably it was that send.
    """
    sends, unclear = 0, None
    while True:
        sends += 1
        try:
            await establish_cloudbaserun_server(sending.session, service.server(work.env or ""))
        except Withheld as error:
            raise unclear or error from None
        except WxtcbError as error:
            sending.heed(error)
            unclear = error
            if sending.doubt and isinstance(error, RequestRefused) and error.errcode == _EXISTS:
                return ServiceState.UNCONFIRMED
            if not isinstance(error, OutcomeUnknown) or sends == MOST_SENDS or site.halted:
                raise
            await asyncio.sleep(site.session.retry.backoff(sends, random.uniform))
        else:
            return ServiceState.DONE


async def _mark(site: Site, work: Work, service: Service, state: ServiceState | None) -> None:
    services = {name: kept for name, kept in work.record.services.items() if name != service.name}
    if state is not None:
        services[service.name] = state
    await site.commit(work, attrs.evolve(work.record, services=services))


async def _fail(site: Site, work: Work, service: Service, sending: Sending, error: WxtcbError) -> None:
    if not sending.doubt:
        await _mark(site, work, service, None)
    if isinstance(error, Withheld) and not sending.doubt:
        return
    earlier = "" if not sending.doubt or is_doubtful(error) else " An earlier send of it may have taken effect."
    problem = Problem(step=_NAME, message=f"{error}{earlier}", service=service.name, unknown=sending.doubt, error=error)
    site.note(work, problem)


async def _cut_off(site: Site, work: Work, service: Service, sending: Sending) -> None:
    if not sending.doubt:
        with anyio.CancelScope(shield=True):
            await _mark(site, work, service, None)
        return
    site.note(work, Problem(step=_NAME, message=CUT_OFF, service=service.name, unknown=True))


SERVICES: Final = Step(name=_NAME, title="services established", wants=_wants, take=_take)
