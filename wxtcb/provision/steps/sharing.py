"""Step that shares an environment with mini programs; several tenants share one request.

A share takes effect only when the administrator of the mini program opens the link. Later steps do not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb._concurrency.batcher import Batcher
from wxtcb.api.environment import Share, ShareResult, batch_share_env
from wxtcb.errors import ApiError, QuotaExceeded, SendVetoed, WxtcbError
from wxtcb.provision.context import StaleRecord, StepContext, TenantEnded
from wxtcb.provision.error_policy import is_fatal
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step

MAX_BATCH_SIZE: Final = 20
_STEP_NAME: Final = "share"


def make_share_batcher() -> Batcher[StepContext]:
    """Return the batcher of the share requests of one provisioner."""
    return Batcher(MAX_BATCH_SIZE, _can_batch, _share)


def _can_batch(first: StepContext, second: StepContext) -> bool:
    # The request is sent for the group of the first: when that is stopped, others must not lose theirs.
    if first.group is not second.group:
        return False
    # The response lists links by mini program only, so a mini program may occur only once in a request.
    tenant, other = first.tenant, second.tenant
    return tenant.source_type == other.source_type and not set(tenant.appids) & set(other.appids)


async def _run(context: StepContext) -> None:
    # Until it sends a share, or another tenant has sent its share, it holds no slot.
    context.release_slot()
    await context.shared.share_batcher.submit(context, context.acquire_slot, context.group.wait)
    interruption, context.state.interruption = context.state.interruption, None
    if interruption is not None:
        raise interruption


async def _share(contexts: Sequence[StepContext]) -> None:
    shares = [Share(env=context.env, appids=_unshared_appids(context)) for context in contexts]
    source_type = contexts[0].tenant.source_type
    try:
        result = await batch_share_env(contexts[0].session, shares, source_type=source_type)
    except SendVetoed:
        raise
    except WxtcbError as error:
        is_shared = isinstance(error, QuotaExceeded) or is_fatal(error)
        if len(contexts) > 1 and isinstance(error, ApiError) and not is_shared:
            # One mini program that the platform rejects can fail the whole batch. Sharing again has no further effect.
            for context in contexts:
                await _share([context])
            return
        for context in contexts:
            _record_failure(context, error)
    else:
        for context in contexts:
            await _record_result(context, result)


def _unshared_appids(context: StepContext) -> tuple[str, ...]:
    return context.state.effective_record.unshared_appids(context.tenant.appids)


async def _record_result(context: StepContext, result: ShareResult) -> None:
    requested = _unshared_appids(context)
    failed = {failure.appid: failure.errmsg for failure in result.err_list if failure.env == context.env}
    urls = {link.appid: link.url for link in result.msg_info_list}
    # The platform may give neither a link nor an error. The empty string records that the share was requested.
    links = {appid: urls.get(appid, "") for appid in requested if appid not in failed}
    links = {**context.record.links, **links}
    try:
        await context.commit(attrs.evolve(context.record, links=links))
        context.state.resend_links = False
    except WxtcbError as error:
        _record_failure(context, error)
    except (StaleRecord, TenantEnded) as error:
        # It concerns one tenant of the batch: its own coroutine raises it.
        context.state.interruption = error
    for appid, message in failed.items():
        context.record_problem(Problem(step=_STEP_NAME, appid=appid, message=message))


def _record_failure(context: StepContext, error: WxtcbError) -> None:
    context.record_problem(Problem(step=_STEP_NAME, message=str(error), error=error))


SHARE: Final = Step(
    name=_STEP_NAME,
    title="shared",
    is_needed=lambda tenant, record, _: bool(record.unshared_appids(tenant.appids)),
    run=_run,
)
