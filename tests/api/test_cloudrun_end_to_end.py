"""Cloud hosting against the sandbox, from the first environment to the last version."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.api import cloudrun


async def test_service_is_released_gradually_and_deleted(sandbox, live):
    """Two versions of a service are released one after the other; in the end only the environment is left."""
    new = await cloudrun.create_cloudbaserun_env(live, alias="shop")
    await cloudrun.wait_until_env_normal(live, new.env_id, timeout=60)
    info = await cloudrun.wait_until_databases_running(live, new.env_id, timeout=60)
    assert (info.alias, info.databases[0].status) == ("shop", "RUNNING")
    await cloudrun.create_cloudbaserun_res_auth(live, new.env_id)
    server = cloudrun.Server(env_id=new.env_id, service_name="s", is_public=True)
    await cloudrun.establish_cloudbaserun_server(live, server)

    async def deploy(flow_ratio):
        version = cloudrun.Version(
            env_id=new.env_id,
            service_name="s",
            upload_type="image",
            image_info=cloudrun.ImageInfo(image_url="ccr.ccs.tencentyun.com/demo:1"),
            env_params={"MODE": "test", "KEY": wxtcb.Secret("k")},
            flow_ratio=flow_ratio,
            cpu=0.25,
            mem=0.5,
            min_num=0,
            max_num=3,
            policy_type="cpu",
            policy_threshold=60,
            container_port=80,
        )
        return (await cloudrun.create_cloudbaserun_server_version(live, version)).version_name

    def flows():
        return [each.flow_ratio for each in sandbox.world.cloudrun.versions(new.env_id, "s").values()]

    first, second = await deploy(100), await deploy(10)
    assert flows() == [90, 10]
    update = cloudrun.VersionUpdate(
        env_id=new.env_id, service_name="s", version_name=second, flow_ratio=50, cpu=0.5, max_num=5
    )
    await cloudrun.roll_update_cloudbaserun_server_version(live, update)
    assert flows() == [50, 50]
    names = {"env_id": new.env_id, "service_name": "s"}
    sandbox.world.cloudrun.release_fails = True
    with pytest.raises(wxtcb.PartialFailure, match="failed"):
        await cloudrun.release_cloudbaserun_version(live, **names, version_name=second)
    sandbox.world.cloudrun.release_fails = False
    await cloudrun.release_cloudbaserun_version(live, **names, version_name=second)
    assert (flows(), sandbox.world.cloudrun.released_version(new.env_id, "s")) == ([0, 100], second)
    for name in (first, second):
        await cloudrun.delete_cloudbaserun_server_version(
            live, **names, version_name=name, is_delete_server=True, is_delete_image=True
        )
    assert sandbox.world.services == {}
