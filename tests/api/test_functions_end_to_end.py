"""A function from its folder to its result, over sockets."""

from __future__ import annotations

import hashlib

import pytest

import wxtcb
from wxtcb.api import environment, functions, token
from wxtcb.sandbox import ReadyPolicy


@pytest.fixture(autouse=True)
def slow(sandbox):
    """Delay functions, so that a waiter needs two polls."""
    sandbox.world.operations_ready_after = ReadyPolicy.after_polls(1)


@pytest.fixture
def session(live):
    """Use the simulated platform in every test."""
    return live


async def deploy(session, folder, env, name="hello"):
    """Deploy a function and wait for it."""
    code = await functions.pack(folder)
    await functions.batch_upload_scf(session, [env], name, code)
    return code, await functions.wait_until_active(session, env, name, interval=0.01)


async def test_function_life_cycle(sandbox, session, tmp_path):
    """It is packed, created, invoked, configured, replaced, triggered, listed and deleted."""
    env = sandbox.world.add("a")
    (tmp_path / "index.js").write_text("exports.main = 1")
    code, found = await deploy(session, tmp_path, env)
    assert found.status == "Active"
    invoked = await functions.invoke_cloud_function(session, env, "hello", {"a": None})
    assert invoked.result == {"event": {"a": None}, "sha256": hashlib.sha256(code.data).hexdigest()}
    variables = {"KEY": wxtcb.Secret("hunter2")}
    await functions.update_scf_config(session, env, "hello", functions.FunctionConfig(environment_variables=variables))
    await functions.wait_until_active(session, env, "hello", interval=0.01)
    (tmp_path / "index.js").write_text("exports.main = 2")
    await functions.batch_upload_scf_code(session, [env], "hello", await functions.pack(tmp_path))
    await functions.wait_until_active(session, env, "hello", interval=0.01)
    timer = functions.Trigger(trigger_name="nightly", config="0 0 2 * * * *")
    await functions.batch_update_triggers(session, [env], "hello", [timer])
    [trigger] = (await functions.get_triggers(session, env, "hello")).triggers
    assert (trigger.config, trigger.is_timer) == (timer.config, True)
    await functions.delete_scf(session, env, "hello")
    assert [each async for each in functions.iter_functions(session, env)] == []


async def test_failed_create_has_the_platforms_reason(sandbox, session, tmp_path):
    """The reason is in the error of the wait."""
    (tmp_path / "main.js").write_text("")
    sandbox.world.functions.set_failure("hello")
    with pytest.raises(wxtcb.OperationFailed, match=r"ResourceNotFound\.File: entry file not found"):
        await deploy(session, tmp_path, sandbox.world.add("a"))


async def test_failed_environment_does_not_stop_the_others(sandbox, session, tmp_path):
    """Only the failed environment is reported."""
    (tmp_path / "index.js").write_text("")
    env = sandbox.world.add("a")
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await functions.batch_upload_scf(session, [env, "nowhere"], "f", await functions.pack(tmp_path))
    assert [each.env for each in partial.value.failed] == ["nowhere"]
    assert (await functions.wait_until_active(session, env, "f", interval=0.01)).function_name == "f"


async def test_failure_counts_earlier_attempts_that_may_have_acted(sandbox, session, tmp_path):
    """The platform acts, answers -1, and rejects the next attempt because of the first one."""
    (tmp_path / "index.js").write_text("")
    env = sandbox.world.add("a")
    sandbox.faults.busy_after(path="/componenttcb/batchuploadscf", times=1)
    view, code = session.with_options(retry=wxtcb.RetryPolicy(base=0.001)), await functions.pack(tmp_path)
    with pytest.raises(wxtcb.PartialFailure, match="1 earlier attempt may have") as partial:
        await functions.batch_upload_scf(view, [env], "f", code)
    assert (partial.value.maybe_acted, [each.env for each in partial.value.failed]) == (1, [env])
    assert (await functions.wait_until_active(session, env, "f", interval=0.01)).status == "Active"


async def test_outdated_version_of_a_setting_is_rejected(sandbox, session):
    """The second change with the same version is rejected, and succeeds after another read."""
    env = sandbox.world.add("a")
    await environment.modify_env(session, env)
    known = await environment.use_cloud_access_token_get(session, env)
    change = {"is_open": True, "api_whitelist": ["/wxa/x"], "version": known.version}
    await environment.use_cloud_access_token_set(session, env, **change)
    with pytest.raises(wxtcb.InvalidRequest):
        await environment.use_cloud_access_token_set(session, env, **change)
    assert (await environment.use_cloud_access_token_get(session, env)).version == known.version + 1


async def test_unshare_without_a_share_fails(sandbox, session):
    """The pair is named."""
    appid = "wx5fe6bb43205e9e07"
    shares = [environment.Share(env=sandbox.world.add("a"), appids=[appid])]
    await environment.batch_share_env(session, shares)
    assert await environment.batch_unshare_env(session, shares) == environment.UnshareResult()
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await environment.batch_unshare_env(session, shares)
    assert [each.appid for each in partial.value.failed] == [appid]


async def test_quotas_and_request_ids(sandbox, session):
    """The usage is returned and reset, and the rid of an error leads to its request, which shows no token."""
    path = environment.DESCRIBE_ENVS.path
    await environment.describe_envs(session)
    assert (await token.get_api_quota(session, path)).quota.used == 1
    await token.clear_api_quota(session, path)
    assert (await token.get_api_quota(session, path)).quota.used == 0
    await token.clear_component_quota_by_app_secret(session)
    with pytest.raises(wxtcb.CloudError) as caught:
        await functions.delete_scf(session, "nowhere", "f")
    found = await token.get_rid_info(session, caught.value.rid)
    assert '"nowhere"' in found.request.request_body.reveal()
    assert (await session.token()).reveal() not in repr(found)
