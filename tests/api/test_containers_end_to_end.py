"""A container service against the sandbox, from its hosting to its deletion."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.api import containers
from wxtcb.api.containers import CsImageInfo, CsVersion, CsVersionConfig, TrafficSplit, VersionFlow, VersionRef
from wxtcb.errors import OperationFailed
from wxtcb.sandbox import ReadyPolicy

IMAGE = CsImageInfo(repository_name="r", is_public=True, tag_name="t", server_addr="a", image_url="a/r:t")
VERSION = CsVersion(service_name="echo", upload_type="image", image_info=IMAGE, env_params={"KEY": wxtcb.Secret("k")})


@pytest.fixture(autouse=True)
def slow(sandbox):
    """Delay versions, so that a waiter needs three polls."""
    sandbox.world.operations_ready_after = ReadyPolicy.after_polls(2)


@pytest.fixture
def session(live):
    """Use the simulated platform in every test."""
    return live


@pytest.fixture
async def env(sandbox, session):
    """Turn on hosting in an environment with the service `echo`."""
    env = sandbox.world.add("a")
    await containers.open_container_service(session, env)
    vpc = containers.Vpc(vpc_id="vpc-1", subnet_ids=["s-1"], create_type=2)
    await containers.create_container_service(session, env, "echo", vpc=vpc)
    return env


async def flows(session, env):
    """Return each version's percentage of the traffic."""
    return {each.version_name: each.flow_ratio async for each in containers.iter_versions(session, env, "echo")}


async def test_service_life_cycle(session, env):
    """Every call returns what the previous calls created."""
    [service] = [each async for each in containers.iter_services(session, env, page_size=1)]
    assert (service.service_name, service.vpc_id) == ("echo", "vpc-1")
    first, second = [(await containers.create_cs_version(session, VERSION, env=env)).version_name for _ in "12"]
    for name in (first, second):
        detail = await containers.wait_until_version_normal(session, env, "echo", name, interval=0.001)
        assert (detail.status, detail.env_params, detail.upload_type) == ("normal", {"KEY": wxtcb.Secret("k")}, "image")

    shares = [VersionFlow(version_name=first, flow_ratio=80), VersionFlow(version_name=second, flow_ratio=20)]
    await containers.set_cs_propotion(session, TrafficSplit(env=env, service_name="echo", items=shares))
    assert await flows(session, env) == {first: 80, second: 20}
    everything = VersionFlow(version_name=second, flow_ratio=100)
    await containers.batch_set_cs_propotion(session, [TrafficSplit(env=env, service_name="echo", items=[everything])])
    assert await flows(session, env) == {first: 0, second: 100}

    config = CsVersionConfig(max_num=3, env_params={})
    await containers.set_cs_version_config(session, env, "echo", second, config)
    detail = await containers.get_cs_version_detail(session, env, "echo", second)
    assert (detail.max_num, detail.env_params) == (3, {})

    await containers.del_cs_version(session, env, "echo", first)
    await containers.batch_del_cs_version(session, [VersionRef(env=env, service_name="echo", version_name=second)])
    assert await flows(session, env) == {}
    await containers.del_container_service(session, env, "echo")
    assert (await containers.get_cs_list(session, env)).total == 0


async def test_batch_reports_the_failed_environment(session, env):
    """One environment has the service, the other does not."""
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await containers.batch_create_cs_version(session, VERSION, envs=[env, "nowhere"])
    assert [each.env for each in partial.value.failed] == ["nowhere"]
    assert [each.version_name for each in partial.value.reply.succ_list] == ["echo-001"]


async def test_failed_build_ends_the_wait(sandbox, session, env):
    """The error has the status of the version."""
    sandbox.world.containers.builds_fail = True
    new = await containers.create_cs_version(session, VERSION, env=env)
    with pytest.raises(OperationFailed, match="build_fail"):
        await containers.wait_until_version_normal(session, env, "echo", new.version_name, interval=0.001)
