"""Types of access, unsharing, quotas and request ids; checked by type checkers, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from wxtcb import Done, Secret, Session
from wxtcb.api import environment, token
from wxtcb.api.environment import CloudAccess, Share, ShareFailure, UnshareResult


async def access(session: Session) -> None:
    """Convert environments, read and set their access."""
    assert_type(await environment.modify_env(session, "e", token="t"), Done)
    found = await environment.use_cloud_access_token_get(session, "e", token=Secret("t"))
    assert_type(found, CloudAccess)
    assert_type(found.is_open, bool | None)
    assert_type(found.api_whitelist, tuple[str, ...] | None)
    assert_type(found.version, int | None)
    done = await environment.use_cloud_access_token_set(session, "e", is_open=True, api_whitelist=["/*"], version=2)
    assert_type(done, Done)
    await environment.modify_env(session, "e", "t")  # type: ignore[call-arg]
    await environment.modify_env(session, "e", token=b"t")  # type: ignore[arg-type]
    await environment.use_cloud_access_token_get(session)  # type: ignore[call-arg]
    await environment.use_cloud_access_token_set(session, "e", is_open=True, version=2)  # type: ignore[call-arg]


async def shares(session: Session) -> None:
    """End shares."""
    unshared = await environment.batch_unshare_env(session, [Share(env="e", appids=["wx1"])], source_type=1)
    assert_type(unshared, UnshareResult)
    assert_type(unshared.failed, Sequence[ShareFailure])
    await environment.batch_unshare_env(session, [{"env": "e"}])  # type: ignore[list-item]


async def quotas(session: Session) -> None:
    """Read and reset quotas."""
    assert_type(await token.clear_component_quota_by_app_secret(session, appid="wx1"), Done)
    assert_type(await token.clear_api_quota(session, "/x"), Done)
    found = await token.get_api_quota(session, "/x")
    assert_type(found, token.ApiQuota)
    assert_type(found.quota, token.Quota | None)
    assert_type(found.component_rate_limit, token.RateLimit | None)
    await token.clear_component_quota_by_app_secret(session, "wx1")  # type: ignore[call-arg]
    await token.get_api_quota(session, 5)  # type: ignore[arg-type]
    await token.clear_api_quota(session)  # type: ignore[call-arg]


async def rids(session: Session) -> None:
    """Look up a request."""
    found = await token.get_rid_info(session, "6-1-1")
    assert_type(found, token.RidInfo)
    assert_type(found.request, token.RidRequest | None)
    if found.request is not None:
        assert_type(found.request.request_url, Secret | None)
        assert_type(found.request.invoke_time, int | None)
    await token.get_rid_info(session, 6)  # type: ignore[arg-type]
