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
from wxtcb.errors import OutcomeUnknown, RequestRefused, Withheld, WxtcbError
from wxtcb.provision.context import CUT_OFF, Sending, Site, is_doubtful
from wxtcb.provision.journal import Record, ServiceState
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Service, Tenant
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move

MOST_SENDS: Final = 3
MOST_PAGES: Final = 20
_NAME: Final = "services"
_EXISTS: Final = 40097


def _wants(tenant: Tenant, record: Record, _status: str | None) -> bool:
    return _lacks(tenant, record) or bool(record.unconfirmed(tenant.service_names))


def _lacks(tenant: Tenant, record: Record) -> bool:
    return not all(map(record.has_service, tenant.service_names))


async def _take(site: Site, works: Sequence[Work]) -> Move:
    (work,) = works
    for service in work.planned.tenant.services:
        if site.halted:
            return Move.AGAIN
        if not work.record.has_service(service.name):
            await _establish(site, work, service)
    if unconfirmed := work.record.unconfirmed(work.planned.tenant.service_names):
        await _confirm(site, work, unconfirmed)
    return Move.AGAIN if site.halted and _lacks(work.planned.tenant, work.record) else Move.ON


async def _confirm(site: Site, work: Work, names: Sequence[str]) -> None:
    """Take for done what the platform lists; a name that it does not list may be there all the same."""
    try:
        listed = await _list_services(site, work.env or "")
    except WxtcbError:
        return
    if found := listed.intersection(names):
        await _keep(site, work, {**work.record.services, **dict.fromkeys(found, ServiceState.DONE)})


async def _list_services(site: Site, env: str) -> set[str]:
    """Return the services that the platform lists; of a list that does not end, the first pages."""
    names: set[str] = set()
    offset = 0
    for _ in range(MOST_PAGES):
        page = await get_cs_list(site.session, env, offset=offset or None)
        names |= {service.service_name for service in page.cslist if service.service_name}
        offset += len(page.cslist)
        if not page.cslist or (page.total is not None and offset >= page.total):
            break
    return names


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
            if isinstance(error, RequestRefused) and error.errcode == _EXISTS and (sending.doubt or _is_adopted(work)):
                return ServiceState.UNCONFIRMED
            if not isinstance(error, OutcomeUnknown) or sends == MOST_SENDS or site.halted:
                raise
            await asyncio.sleep(site.session.retry.backoff(sends, random.uniform))
        else:
            return ServiceState.DONE


def _is_adopted(work: Work) -> bool:
    """Tell whether somebody may have established services before: its opening was never answered to us."""
    return work.record.tranid is None


async def _mark(site: Site, work: Work, service: Service, state: ServiceState | None) -> None:
    services = {name: kept for name, kept in work.record.services.items() if name != service.name}
    if state is not None:
        services[service.name] = state
    await _keep(site, work, services)


async def _keep(site: Site, work: Work, services: Mapping[str, ServiceState]) -> None:
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
