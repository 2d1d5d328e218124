"""Tests of container services: hosting, services, versions, traffic and batches."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from attrs import frozen

from wxtcb.sandbox import ReadyPolicy

from .sandbox_harness import ESTABLISH, SERVICES, Harness

ROOM = "/componenttcb/"
STAMP = "2020-09-13 20:26:40"


@frozen
class Bench:
    """A sandbox with an environment whose hosting is enabled, and the service `echo`."""

    harness: Harness
    env: str

    async def ask(self, call: str, **fields: object) -> dict[str, Any]:
        """Send a request of this family for the service, with default fields."""
        named = {"env": self.env, "service_name": "echo"}
        return await self.harness.call(ROOM + call, {**named, **fields})

    async def make(self, **fields: object) -> dict[str, Any]:
        """Start building a version from an image."""
        return await self.ask("createcsversion", upload_type="image", **fields)

    async def show(self, version: str = "echo-001") -> dict[str, Any]:
        """Return the details of a version."""
        return await self.ask("getcsversiondetail", version_name=version)

    async def split(self, **shares: int) -> dict[str, Any]:
        """Split the traffic between the versions with these numbers."""
        items = [{"version_name": name.replace("_", "-"), "flow_ratio": share} for name, share in shares.items()]
        return await self.ask("setcspropotion", items=items)

    async def ratios(self) -> list[int]:
        """Return the shares of all versions."""
        return [row["flow_ratio"] for row in (await self.ask("getcsversionlist"))["items"]]


@pytest_asyncio.fixture
async def bench(harness: Harness) -> Bench:
    """Return a bench."""
    env = harness.sandbox.world.add("a")
    harness.sandbox.world.containers.enable(env)
    harness.sandbox.world.containers.create_service(env, "echo")
    return Bench(harness, env)


async def test_hosting_is_opened_before_there_are_services(harness: Harness) -> None:
    """Services are rejected until hosting is enabled. Enabling it twice is rejected."""
    env, other = harness.sandbox.world.add("a"), harness.sandbox.world.add("b")
    service = {"env": env, "service_name": "echo"}
    before = await harness.call(f"{ROOM}createcontainerservice", service)
    opened = await harness.call(f"{ROOM}opencontainerservice", {"env": env})
    again = await harness.call(f"{ROOM}opencontainerservice", {"env": env})
    made = await harness.call(f"{ROOM}createcontainerservice", service)
    elsewhere = await harness.call(f"{ROOM}createcontainerservice", {**service, "env": other})
    assert [reply["errcode"] for reply in (before, opened, again, made, elsewhere)] == [40097, 0, 40097, 0, 40097]
    assert opened == made == {"errcode": 0, "errmsg": "ok"}


@pytest.mark.parametrize("call", ["opencontainerservice", "createcontainerservice", "getcsversionlist"])
async def test_an_environment_must_be_normal(harness: Harness, call: str) -> None:
    """An environment that is unknown or not NORMAL is rejected like by the cloud."""
    unready = harness.sandbox.world.add("a", status="UNAVAILABLE")
    for env in ("nowhere", unready):
        body = {"env": env} | ({} if call.startswith("open") else {"service_name": "echo"})
        assert (await harness.call(ROOM + call, body))["errcode"] == -501005


async def test_a_service_is_listed_as_it_was_created(bench: Bench) -> None:
    """A service is listed with its network and time. A duplicate name is rejected, a deleted service is gone."""
    bench.harness.clock.advance(60)
    vpc = {"vpcid": "vpc-1", "subnetids": ["s-1"], "create_type": 3}
    assert (await bench.ask("createcontainerservice", service_name="web", remark="r", vpc=vpc))["errcode"] == 0
    assert (await bench.ask("createcontainerservice", service_name="web"))["errcode"] == 40097
    reply = await bench.harness.call(SERVICES, {"env": bench.env})
    assert [row["server_name"] for row in reply["cslist"]] == ["echo", "web"]
    assert reply["cslist"][1] == {
        "server_name": "web",
        "created_time": "2020-09-13 20:27:40",
        "updated_time": "2020-09-13 20:27:40",
        "status": "succ",
        "vpcid": "vpc-1",
        "image_repo": f"sandbox/{bench.env}_web",
    }
    assert (await bench.ask("delcontainerservice"))["errcode"] == 0
    assert (await bench.ask("delcontainerservice"))["errcode"] == 40097
    assert (await bench.ask("createcsversion", upload_type="image"))["errcode"] == 40097
    reply = await bench.harness.call(SERVICES, {"env": bench.env})
    assert ([row["server_name"] for row in reply["cslist"]], reply["total"]) == (["web"], 1)


@pytest.mark.parametrize("lists_services", [True, False])
async def test_the_list_knows_both_families(bench: Bench, *, lists_services: bool) -> None:
    """The list contains services of both families, or only the older one with `lists_services` False."""
    world = bench.harness.sandbox.world
    world.getcslist_includes_cloudrun = lists_services
    bench.harness.clock.advance(1)
    assert (await bench.harness.call(ESTABLISH, {"env_id": bench.env, "service_name": "new", "is_public": True}))[
        "errcode"
    ] == 0
    bench.harness.clock.advance(1)
    world.containers.create_service(bench.env, "last")
    reply = await bench.harness.call(SERVICES, {"env": bench.env})
    names = [row["server_name"] for row in reply["cslist"]]
    assert names == (["echo", "new", "last"] if lists_services else ["echo", "last"])
    assert reply["total"] == len(names)


async def test_a_version_is_built_and_then_normal(bench: Bench) -> None:
    """A version is named by the next number, and is "creating" until it is ready."""
    bench.harness.sandbox.world.operations_ready_after = ReadyPolicy.after_polls(2)
    assert await bench.make() == {"errcode": 0, "errmsg": "ok", "version_name": "echo-001"}
    statuses = [(await bench.show())["status"] for _ in range(2)]
    listed = await bench.ask("getcsversionlist")
    assert [*statuses, listed["items"][0]["status"]] == ["creating", "creating", "normal"]


async def test_a_build_may_fail(bench: Bench) -> None:
    """With `builds_fail` new versions end as "build_fail". Older ones do not."""
    world = bench.harness.sandbox.world
    world.operations_ready_after = ReadyPolicy.after_seconds(5)
    await bench.make()
    world.containers.builds_fail = True
    await bench.make()
    early = [(await bench.show(name))["status"] for name in ("echo-001", "echo-002")]
    bench.harness.clock.advance(5)
    late = [(await bench.show(name))["status"] for name in ("echo-001", "echo-002")]
    assert (early, late) == (["creating", "creating"], ["normal", "build_fail"])


async def test_a_version_shows_what_it_was_made_of(bench: Bench) -> None:
    """Details and list use different field names. Fields that were not given have defaults."""
    given = {
        "upload_type": "repository",
        "repository_type": "github",
        "repository": "o/n",
        "branch": "main",
        "version_remark": "text",
        "minnum": 1,
        "maxnum": 3,
        "cpu": 0.25,
        "env_params": '{"A":"a"}',
        "container_port": 8080,
    }
    await bench.ask("createcsversion", **given)
    assert await bench.show() == {
        "errcode": 0,
        "errmsg": "ok",
        "version_name": "echo-001",
        "remark": "text",
        "dockerfile_path": "",
        "build_dir": "",
        "cpu": 0.25,
        "mem": 1,
        "minnum": 1,
        "maxnum": 3,
        "policy_type": "cpu",
        "policy_threshold": 60,
        "env_params": '{"A":"a"}',
        "created_time": STAMP,
        "updated_time": STAMP,
        "version_ip": "10.0.0.1",
        "version_port": 8080,
        "status": "normal",
        "package_name": "",
        "package_version": "",
        "upload_type": "repository",
        "repo_type": "github",
        "repo": "o/n",
        "branch": "main",
        "custom_logs": "stdout",
        "container_port": 8080,
        "image_url": f"ccr.ccs.tencentyun.com/sandbox/{bench.env}_echo:echo-001",
    }
    assert (await bench.ask("getcsversionlist"))["items"] == [
        {
            "version_name": "echo-001",
            "status": "normal",
            "created_time": STAMP,
            "updated_time": STAMP,
            "flow_ratio": 0,
            "buildid": 1,
            "upload_type": "repository",
            "min_replicas": 1,
            "max_replicas": 3,
        }
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"upload_type": "jar"},
        {"minnum": -1},
        {"maxnum": 51},
        {"flow_ratio": -1},
        {"flow_ratio": 101},
        {"env_params": "{"},
        {"env_params": "[]"},
    ],
    ids=str,
)
async def test_a_version_out_of_bounds_is_refused(bench: Bench, fields: dict[str, object]) -> None:
    """A version with invalid settings is rejected and uses no number."""
    assert (await bench.ask("createcsversion", **{"upload_type": "image", **fields}))["errcode"] == 40097
    assert (await bench.make())["version_name"] == "echo-001"


async def test_versions_are_listed_page_by_page(bench: Bench) -> None:
    """A page has twenty versions by default, oldest first. An invalid page is rejected."""
    for _ in range(22):
        await bench.make()
    pages = [await bench.ask("getcsversionlist", **page) for page in ({}, {"limit": 2, "offset": 20}, {"limit": 0})]
    assert [len(page.get("items", [])) for page in pages] == [20, 2, 0]
    assert pages[1]["items"][0]["version_name"] == "echo-021"
    assert [page.get("total", page["errcode"]) for page in pages] == [22, 22, 40097]


async def test_a_configuration_changes_what_is_given(bench: Bench) -> None:
    """Only the given settings change. Bounds and names are checked."""
    await bench.make(maxnum=5, env_params='{"A":"a"}')
    bench.harness.clock.advance(1)
    changed = await bench.ask("setcsversionconfig", version_name="echo-001", minnum=2, env_params="", remark="r")
    detail = await bench.show()
    assert (changed["errcode"], detail["minnum"], detail["maxnum"], detail["remark"]) == (0, 2, 5, "r")
    assert (detail["env_params"], detail["updated_time"]) == ("", "2020-09-13 20:26:41")
    assert (await bench.ask("setcsversionconfig", version_name="echo-001", maxnum=51))["errcode"] == 40097
    assert (await bench.ask("setcsversionconfig", version_name="echo-002", maxnum=5))["errcode"] == 40097


async def test_traffic_that_is_not_named_is_none(bench: Bench) -> None:
    """A split sets versions that it does not name to 0. A new version gets at most the rest."""
    await bench.make(flow_ratio=100)
    assert (await bench.make(flow_ratio=1))["errcode"] == 40097
    await bench.make()
    await bench.make()
    assert await bench.ratios() == [100, 0, 0]
    assert (await bench.split(echo_002=80, echo_003=20))["errcode"] == 0
    assert await bench.ratios() == [0, 80, 20]
    assert (await bench.split(echo_001=0))["errcode"] == 0
    assert await bench.ratios() == [0, 0, 0]


@pytest.mark.parametrize(
    "shares",
    [{"echo_001": 80}, {"echo_001": 120}, {"echo_001": -20, "echo_002": 20}, {"echo_001": 50, "echo_003": 50}],
    ids=str,
)
async def test_a_split_that_cannot_be_is_refused(bench: Bench, shares: dict[str, int]) -> None:
    """A split is rejected if its sum is neither 100 nor 0, or if a share or a name is invalid."""
    await bench.make(flow_ratio=100)
    await bench.make()
    assert (await bench.split(**shares))["errcode"] == 40097
    assert await bench.ratios() == [100, 0]


async def test_a_split_names_a_version_once(bench: Bench) -> None:
    """A split that names a version twice is rejected."""
    await bench.make()
    items = [{"version_name": "echo-001", "flow_ratio": 100}] * 2
    assert (await bench.ask("setcspropotion", items=items))["errcode"] == 40097


async def test_a_deleted_version_is_gone(bench: Bench) -> None:
    """The number of a deleted version is not reused."""
    await bench.make()
    replies = [await bench.ask("delcsversion", version_name="echo-001") for _ in range(2)]
    assert [reply["errcode"] for reply in replies] == [0, 40097]
    assert (await bench.show())["errcode"] == 40097
    assert (await bench.make())["version_name"] == "echo-002"


async def test_a_batch_creates_where_it_can(bench: Bench) -> None:
    """Environments without the service are listed in fail_list, with `errormsg`."""
    body = {"envs": [bench.env, "nowhere"], "service_name": "echo", "upload_type": "image"}
    assert await bench.harness.call(f"{ROOM}batchcreatecsversion", body) == {
        "errcode": 0,
        "errmsg": "ok",
        "succ_list": [{"env": bench.env, "version_name": "echo-001"}],
        "fail_list": [{"env": "nowhere", "errormsg": "invalid env: env_id nowhere"}],
    }
    assert (await bench.show())["status"] == "normal"


async def test_a_batch_deletes_where_it_can(bench: Bench) -> None:
    """Unknown versions are listed in fail_list, with `errmsg`."""
    await bench.make()
    there = {"env": bench.env, "service_name": "echo", "version_name": "echo-001"}
    missing = {**there, "version_name": "echo-009"}
    reply = await bench.harness.call(f"{ROOM}batchdelcsversion", {"items": [there, missing]})
    assert reply["succ_list"] == [there]
    assert reply["fail_list"] == [{**missing, "errmsg": "invalid args: version_name echo-009 does not exist"}]
    assert (await bench.ask("getcsversionlist"))["total"] == 0


async def test_a_batch_splits_where_it_can(bench: Bench) -> None:
    """Each service of a batch is split independently."""
    await bench.make()
    there, missing = ({"env": bench.env, "service_name": name} for name in ("echo", "web"))
    items = [{"version_name": "echo-001", "flow_ratio": 100}]
    reply = await bench.harness.call(
        f"{ROOM}batchsetcspropotion", {"items": [{**there, "items": items}, {**missing, "items": items}]}
    )
    assert reply["succ_list"] == [there]
    assert reply["fail_list"] == [{**missing, "errmsg": "invalid args: service_name web does not exist"}]
    assert await bench.ratios() == [100]


async def test_the_password_of_a_registry_is_not_remembered(bench: Bench) -> None:
    """The recorded requests show `***` instead of the registry password."""
    await bench.make(image_secret_info={"registryserver": "r", "password": "hunter2"})
    assert bench.harness.sandbox.seen[-1].body["image_secret_info"] == {"registryserver": "r", "password": "***"}
