"""Tests of cloud hosting: environments, services, versions and traffic."""

from __future__ import annotations

from typing import Any

import pytest

from wxtcb.sandbox import ReadyPolicy

from .sandbox_harness import ESTABLISH, SERVICES, Harness

ENVS = "/componenttcb/describecloudbaserunenvs"
OPEN = "/componenttcb/createcloudbaserunenv"
MICRO = "/componenttcb/createcloudbaserunresauth"
DEPLOY = "/componenttcb/createcloudbaserunserverversion"
ROLL = "/componenttcb/rollupdatecloudbaserunserverversion"
RELEASE = "/componenttcb/releasecloudbaserunversion"
DELETE = "/componenttcb/deletecloudbaserunserverversion"

VERSION = {
    "server_name": "s",
    "upload_type": "image",
    "flow_ratio": 100,
    "cpu": 0.25,
    "mem": 0.5,
    "min_num": 0,
    "max_num": 1,
    "policy_type": "cpu",
    "policy_threshold": 60,
    "container_port": 80,
}


@pytest.fixture
def env(harness: Harness) -> str:
    """Return a NORMAL cloud-hosting environment with the service `s`."""
    added = harness.sandbox.world.cloudrun.environments.add("a")
    harness.sandbox.world.establish(added, "s", {})
    return added


async def deploy(harness: Harness, env: str, **fields: object) -> dict[str, Any]:
    """Request another version of `s`."""
    return await harness.call(DEPLOY, {"env_id": env, **VERSION, **fields})


def flows(harness: Harness, env: str) -> dict[str, int]:
    """Return the traffic shares of the versions of `s`."""
    return {name: version.flow_ratio for name, version in harness.sandbox.world.cloudrun.versions(env, "s").items()}


async def test_an_environment_is_opened_and_listed(harness: Harness) -> None:
    """A new environment has an id that contains its alias, and a row with all documented fields."""
    made = await harness.call(OPEN, {"alias": "shop-1"})
    assert (made["errcode"], made["tran_id"]) == (0, "20200913000001")
    [row] = (await harness.call(ENVS, {}))["env_list"]
    assert (row["env_id"], row["alias"], row["source"]) == (made["env_id"], "shop-1", "miniapp")
    assert made["env_id"].startswith("shop-1-")
    assert row["create_time"] == row["update_time"] == "2020-09-13 20:26:40"


async def test_an_environment_keeps_its_private_network(harness: Harness) -> None:
    """Network and subnets are stored unchanged. Both, and the alias, are optional."""
    made = await harness.call(OPEN, {"alias": "a", "vpc_id": "vpc-1", "sub_net_ids": ["s-1"]})
    bare = await harness.call(OPEN, {})
    kept, other = (harness.sandbox.world.cloudrun.environments.get(each["env_id"]) for each in (made, bare))
    assert (kept.vpc_id, kept.subnet_ids) == ("vpc-1", ("s-1",))
    assert (other.alias, other.vpc_id, other.subnet_ids) == ("", None, ())


@pytest.mark.parametrize(
    "body", [{"alias": "A"}, {"alias": "1a"}, {"alias": "aB"}, {"vpc_id": "v"}, {"sub_net_ids": ["s"]}]
)
async def test_an_environment_that_breaks_a_rule_is_refused(harness: Harness, body: dict[str, object]) -> None:
    """Capital letters in an alias and an incomplete network are rejected."""
    assert (await harness.call(OPEN, body))["errcode"] == 40097
    assert harness.sandbox.world.cloudrun.environments.poll() == []


async def test_an_environment_and_its_database_get_ready_apart(harness: Harness) -> None:
    """An environment and its database become ready independently."""
    harness.sandbox.world.ready_after, harness.sandbox.world.operations_ready_after = (
        ReadyPolicy.after_polls(1),
        ReadyPolicy.after_seconds(5),
    )
    await harness.call(OPEN, {"alias": "a"})

    async def seen() -> tuple[str, str]:
        [row] = (await harness.call(ENVS, {}))["env_list"]
        return row["status"], row["databases"][0]["status"]

    assert await seen() == ("UNAVAILABLE", "INITIALIZING")
    assert await seen() == ("NORMAL", "INITIALIZING")
    harness.clock.advance(5)
    assert await seen() == ("NORMAL", "RUNNING")


async def test_a_service_needs_an_environment_that_is_normal(harness: Harness) -> None:
    """A service needs a NORMAL environment, of cloud hosting or of cloud development."""
    hosted = harness.sandbox.world.cloudrun.environments
    env_id = (await harness.call(OPEN, {"alias": "a"}))["env_id"]
    body = {"env_id": env_id, "service_name": "s", "is_public": True}
    assert (await harness.call(ESTABLISH, body))["errcode"] == -501005
    await harness.call(ENVS, {})
    assert (await harness.call(ESTABLISH, body))["errcode"] == 0
    assert (await harness.call(ESTABLISH, body))["errcode"] == 40097
    hosted.halt(env_id)
    assert hosted.poll()[0]["status"] == "HALTED"
    assert (await harness.call(ESTABLISH, {**body, "service_name": "t"}))["errmsg"].startswith(
        f"invalid env: env_id {env_id} is HALTED"
    )
    hosted.remove(env_id)
    assert (await harness.call(ESTABLISH, body))["errcode"] == -501005


async def test_an_environment_may_have_no_database(harness: Harness) -> None:
    """An environment can be added without a database."""
    harness.sandbox.world.cloudrun.environments.add("a", with_database=False)
    [row] = (await harness.call(ENVS, {}))["env_list"]
    assert (row["status"], row["databases"]) == ("NORMAL", [])


async def test_micro_services_are_switched_on(harness: Harness, env: str) -> None:
    """Microservices can be enabled repeatedly. An unknown environment is rejected."""
    for _ in range(2):
        assert (await harness.call(MICRO, {"env_id": env}))["errcode"] == 0
    assert (await harness.call(MICRO, {"env_id": "nowhere"}))["errcode"] == -501005
    assert harness.sandbox.world.cloudrun.microservice_envs == {env}


async def test_versions_are_numbered_and_keep_what_they_were_made_from(harness: Harness, env: str) -> None:
    """Version numbers are never reused, also after a version is deleted."""
    first, second = await deploy(harness, env), await deploy(harness, env, cpu=1)
    assert [each["version_name"] for each in (first, second)] == ["s-001", "s-002"]
    assert (first["result"], first["run_id"] != second["run_id"]) == ("succ", True)
    await harness.call(DELETE, {"env_id": env, "server_name": "s", "version_name": "s-002"})
    assert (await deploy(harness, env))["version_name"] == "s-003"
    assert harness.sandbox.world.cloudrun.versions(env, "s")["s-001"].body == {"env_id": env, **VERSION}


async def test_a_version_that_takes_time_has_no_name_yet(harness: Harness, env: str) -> None:
    """A version that is not built can be deleted, but neither released nor updated."""
    harness.sandbox.world.operations_ready_after = ReadyPolicy.after_seconds(10)
    begun = await deploy(harness, env)
    assert (begun["result"], "version_name" in begun) == ("creating", False)
    release = {"env_id": env, "server_name": "s", "release_version": "s-001"}
    refused = await harness.call(RELEASE, release)
    assert (refused["errcode"], "s-001 is still creating" in refused["errmsg"]) == (40097, True)
    harness.clock.advance(10)
    assert (await harness.call(RELEASE, release))["result"] == "success"


async def test_the_newest_version_takes_its_traffic_from_the_others(harness: Harness, env: str) -> None:
    """The sum of all shares never exceeds 100. The newest of the other versions is reduced first."""
    await deploy(harness, env)
    await deploy(harness, env, flow_ratio=10)
    assert flows(harness, env) == {"s-001": 90, "s-002": 10}
    await deploy(harness, env, flow_ratio=30)
    assert flows(harness, env) == {"s-001": 70, "s-002": 0, "s-003": 30}
    await deploy(harness, env, flow_ratio=0)
    assert flows(harness, env) == {"s-001": 70, "s-002": 0, "s-003": 30, "s-004": 0}


async def test_a_release_moves_all_traffic(harness: Harness, env: str) -> None:
    """A release routes all traffic to one version and has an order number of its own."""
    await deploy(harness, env)
    await deploy(harness, env, flow_ratio=10)
    body = {"env_id": env, "server_name": "s", "release_version": "s-002"}
    first, second = await harness.call(RELEASE, body), await harness.call(RELEASE, body)
    assert (first["result"], second["release_order_id"]) == ("success", first["release_order_id"] + 1)
    assert flows(harness, env) == {"s-001": 0, "s-002": 100}
    assert harness.sandbox.world.cloudrun.released_version(env, "s") == "s-002"


async def test_a_release_can_fail_under_errcode_0(harness: Harness, env: str) -> None:
    """With `release_fails` a release replies failed under errcode 0, and no traffic moves."""
    await deploy(harness, env)
    await deploy(harness, env, flow_ratio=10)
    harness.sandbox.world.cloudrun.release_fails = True
    reply = await harness.call(RELEASE, {"env_id": env, "server_name": "s", "release_version": "s-002"})
    assert (reply["errcode"], reply["result"]) == (0, "failed")
    assert (flows(harness, env), harness.sandbox.world.cloudrun.released_version(env, "s")) == (
        {"s-001": 90, "s-002": 10},
        None,
    )


async def test_a_version_is_rolled_over(harness: Harness, env: str) -> None:
    """An update changes the given fields, including numbers in strings. `latest` is the newest version."""
    await deploy(harness, env)
    await deploy(harness, env, flow_ratio=10, branch="main")
    harness.clock.advance(60)
    changes = {"cpu": "0.5", "max_num": "3", "flow_ratio": 40, "is_rebuild": True, "rollback": False}
    reply = await harness.call(ROLL, {"env_id": env, "server_name": "s", "version_name": "latest", **changes})
    assert (reply["result"], "version_name" in reply) == ("succ", False)
    version = harness.sandbox.world.cloudrun.versions(env, "s")["s-002"]
    expected = {**VERSION, "env_id": env, "branch": "main", "cpu": 0.5, "max_num": 3, "flow_ratio": 40}
    assert version.body == expected
    assert version.updated_time > version.created_time
    assert flows(harness, env) == {"s-001": 60, "s-002": 40}


async def test_a_version_may_tell_its_service(harness: Harness, env: str) -> None:
    """Without server_name the version must identify its service. `latest` does not."""
    await deploy(harness, env)
    assert (await harness.call(ROLL, {"env_id": env, "version_name": "s-001", "branch": "b"}))["errcode"] == 0
    assert harness.sandbox.world.cloudrun.versions(env, "s")["s-001"].body["branch"] == "b"
    assert (await harness.call(ROLL, {"env_id": env, "version_name": "latest"}))["errcode"] == 40097


@pytest.mark.parametrize(("path", "name"), [(RELEASE, "release_version"), (DELETE, "version_name")])
async def test_only_a_roll_over_knows_the_latest(harness: Harness, env: str, path: str, name: str) -> None:
    """Only the update accepts `latest`. Deleting and releasing need a version name."""
    await deploy(harness, env)
    assert (await harness.call(path, {"env_id": env, "server_name": "s", name: "latest"}))["errcode"] == 40097
    assert set(harness.sandbox.world.cloudrun.versions(env, "s")) == {"s-001"}


async def test_a_service_goes_with_its_last_version(harness: Harness, env: str) -> None:
    """A service is deleted with its last version. Then its name is unused, and its numbers start again."""
    await deploy(harness, env)
    await deploy(harness, env)
    world, body = harness.sandbox.world, {"env_id": env, "server_name": "s", "is_delete_server": True}
    await harness.call(RELEASE, {"env_id": env, "server_name": "s", "release_version": "s-001"})
    assert (await harness.call(DELETE, {**body, "version_name": "s-002"}))["result"] == "succ"
    assert ((env, "s") in world.services, world.cloudrun.released_version(env, "s")) == (True, "s-001")
    await harness.call(DELETE, {**body, "version_name": "s-001", "is_delete_server": False})
    assert ((env, "s") in world.services, world.cloudrun.released_version(env, "s")) == (True, None)
    await deploy(harness, env)
    await harness.call(DELETE, {**body, "version_name": "s-003"})
    assert ((env, "s") in world.services, dict(world.cloudrun.versions(env, "s"))) == (False, {})
    world.establish(env, "s", {})
    assert (await deploy(harness, env))["version_name"] == "s-001"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (DEPLOY, {**VERSION, "server_name": "t"}),
        (RELEASE, {"server_name": "t", "release_version": "s-001"}),
        (RELEASE, {"server_name": "s", "release_version": "s-009"}),
        (ROLL, {"server_name": "t", "version_name": "s-001"}),
        (ROLL, {"server_name": "s", "version_name": "latest"}),
        (ROLL, {"version_name": "s-001"}),
        (DELETE, {"server_name": "s", "version_name": "s-009"}),
    ],
)
async def test_what_is_not_there_is_refused(harness: Harness, env: str, path: str, fields: dict[str, object]) -> None:
    """An unknown service or version replies 40097, an unknown environment -501005."""
    assert (await harness.call(path, {"env_id": env, **fields}))["errcode"] == 40097
    assert (await harness.call(path, {"env_id": "nowhere", **fields}))["errcode"] == -501005


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flow_ratio": 101}, "flow_ratio"),
        ({"flow_ratio": -1}, "flow_ratio"),
        ({"min_num": -1}, "min_num"),
        ({"max_num": 51}, "max_num"),
        ({"min_num": 2}, "min_num"),
        ({"upload_type": "jar"}, "upload_filename"),
        ({"upload_type": "war", "upload_filename": ""}, "upload_filename"),
        ({"env_params": "MODE=test"}, "env_params"),
        ({"env_params": "[]"}, "env_params"),
        ({"sidecar_specs": [{}, {"env_var": "{"}]}, r"sidecar_specs[1].env_var"),
    ],
)
async def test_a_version_that_breaks_a_rule_is_refused(
    harness: Harness, env: str, fields: dict[str, object], words: str
) -> None:
    """The message names the field, and no version is created."""
    reply = await deploy(harness, env, **fields)
    assert (reply["errcode"], words in reply["errmsg"]) == (40097, True)
    assert harness.sandbox.world.cloudrun.versions(env, "s") == {}


@pytest.mark.parametrize(
    "fields",
    [{"cpu": "much"}, {"min_num": "0.5"}, {"max_num": "51"}, {"min_num": "2"}, {"flow_ratio": 101}, {"mem": ""}],
)
async def test_a_roll_over_that_breaks_a_rule_is_refused(harness: Harness, env: str, fields: dict[str, object]) -> None:
    """The merged settings must obey the rules. Otherwise the version is unchanged."""
    await deploy(harness, env, env_params="{}", upload_type="jar", upload_filename="a.jar")
    before = dict(harness.sandbox.world.cloudrun.versions(env, "s"))
    reply = await harness.call(ROLL, {"env_id": env, "server_name": "s", "version_name": "s-001", **fields})
    assert reply["errcode"] == 40097
    assert harness.sandbox.world.cloudrun.versions(env, "s") == before


async def test_the_older_family_lists_the_services_of_a_hosted_environment(harness: Harness, env: str) -> None:
    """The older family lists the services of a cloud-hosting environment too."""
    reply = await harness.call(SERVICES, {"env": env})
    assert [row["server_name"] for row in reply["cslist"]] == ["s"]
