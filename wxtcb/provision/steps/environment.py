"""The environment: opened once, found again by its alias, adopted only if it must be ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from wxtcb.api.environment import NewEnv, create_env
from wxtcb.errors import ApiError, OutcomeUnknown, Withheld, WxtcbError
from wxtcb.provision.context import CUT_OFF, Sending, Site
from wxtcb.provision.journal import Intent, Record
from wxtcb.provision.looks import FRESH, MOST
from wxtcb.provision.plan import Action
from wxtcb.provision.reconciliation import AwaitYoung, Proof, Verdict
from wxtcb.provision.report import Outcome, Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import CREATE, Work
from wxtcb.provision.waiting import Move

MOST_CREATES: Final = 3
_MOST_COMMITS: Final = 3


def _wants(_tenant: Tenant, record: Record, _status: str | None) -> bool:
    return record.env is None


async def _take(site: Site, works: Sequence[Work]) -> Move:
    (work,) = works
    if isinstance(proof := work.waiting, Proof):
        work.waiting = None
        return await _conclude(site, work, proof)
    if work.record.intent is not None and work.doubt is not None:
        return _look_for(site, work, work.doubt, _seconds_left(site, work.record.intent))
    if work.planned.action is Action.ADOPT and work.planned.env:
        await site.bind(work, work.planned.env, work.record.tranid)
        return Move.ON
    if site.looks.expected.young and work.waiting is None:
        now = site.now()
        work.waiting = AwaitYoung(site.looks.expected, now, now + site.settle + site.patience)
        return Move.PARK
    work.waiting = None
    return await _open(site, work)


def _seconds_left(site: Site, intent: Intent) -> float:
    """Return how long a create that this process did not send may still be under way: the wall clock adds some only."""
    window = max(site.window, intent.window)
    return min(max(window, intent.deadline - site.wall()), 2 * window)


async def _open(site: Site, work: Work) -> Move:
    for _ in range(_MOST_COMMITS):
        alike = await site.looks.find(work.record.alias, site.now())
        if alike:
            work.block(alike)
            return Move.OUT
        if site.stopped:
            return Move.AGAIN
        deadline = site.now() + site.window
        intent = Intent(deadline=site.wall() + site.window, window=site.window)
        await site.commit(work, attrs.evolve(work.record, attempt=work.record.attempt + 1, intent=intent))
        if site.looks.is_fresh(site.now()) and site.now() < deadline:
            return await _create(site, work, deadline)
        await _take_back(site, work)
    what = f"listing took more than {MOST:.0f} s, or keeping an intent more than {FRESH:.0f} s"
    message = f"{what}, {_MOST_COMMITS} times: nothing was sent"
    site.note(work, Problem(step=CREATE, message=message))
    return Move.OUT


async def _create(site: Site, work: Work, deadline: float) -> Move:
    new: NewEnv | None = None
    with site.sending(deadline, spends=True) as sending:
        try:
            new = await create_env(sending.session, alias=work.record.alias)
        except WxtcbError as error:
            sending.heed(error)
            if sending.doubt:
                work.creates_in_doubt += 1
                left = 0.0 if _was_answered(error) else deadline - site.now()
                return _look_for(site, work, _unclear(str(error), error), left)
            await _take_back(site, work)
            if not isinstance(error, Withheld):
                raise
        except asyncio.CancelledError:
            await _after_cancel(site, work, sending)
            raise
    if new is not None:
        work.env, work.tranid = new.env, new.tranid
        await site.bind(work, new.env, new.tranid)
        return Move.ON
    if work.doubt is None:
        return Move.AGAIN
    work.creates_in_doubt += 1
    return _look_for(site, work, work.doubt, 0.0)


async def _after_cancel(site: Site, work: Work, sending: Sending) -> None:
    """Keep the intent of a create that may have left, for the next look or the next run; else take it back."""
    if sending.doubt:
        work.doubt = _unclear(CUT_OFF)
    else:
        await _take_back(site, work)


def _unclear(message: str, error: WxtcbError | None = None) -> Problem:
    return Problem(step=CREATE, message=message, unknown=True, error=error)


def _was_answered(error: WxtcbError) -> bool:
    return isinstance(error.cause if isinstance(error, OutcomeUnknown) else error, ApiError)


async def _take_back(site: Site, work: Work) -> None:
    with anyio.CancelScope(shield=True):
        await site.commit(work, attrs.evolve(work.record, intent=None))


def _look_for(site: Site, work: Work, problem: Problem, seconds: float) -> Move:
    """Park the tenant until looks show whether its create, over in *seconds*, acted."""
    due = site.now() + max(0.0, seconds) + site.settle
    work.waiting = Proof(work.record.alias, due, due + site.patience, site.looks.expected.compare)
    site.doubt(work, problem)
    return Move.PARK


async def _conclude(site: Site, work: Work, proof: Proof) -> Move:
    match proof.verdict:
        case Verdict.FOUND if proof.found[0] not in site.looks.expected.since:
            await site.bind(work, proof.found[0])
            return Move.ON
        case Verdict.ABSENT:
            await _take_back(site, work)
            if work.planned.action is Action.CREATE:
                return _try_again(site, work)
            work.doubt, work.blocked = None, Outcome.CONFLICT
            work.reason = f"{work.planned.env} was to be adopted, and is not listed any more: plan again"
        case Verdict.UNPROVEN:
            _give_up(site, work, f"{proof.reason}, so nothing is proven")
        case _:
            work.doubt = None
            work.block(proof.found)
    return Move.OUT


def _try_again(site: Site, work: Work) -> Move:
    """Open it after all, now that no earlier create has; but not for ever."""
    if work.creates_in_doubt < MOST_CREATES:
        work.doubt = None
        return Move.AGAIN
    _give_up(site, work, f"looks showed that none of {work.creates_in_doubt} creates acted", unknown=False)
    return Move.OUT


def _give_up(site: Site, work: Work, why: str, *, unknown: bool = True) -> None:
    problem, work.doubt = work.doubt or _unclear(why), None
    site.note(work, attrs.evolve(problem, message=f"{problem.message}; {why}", unknown=unknown))


ENVIRONMENT: Final = Step(name=CREATE, title="environments opened", wants=_wants, take=_take, spends=True)
