"""Types of container services; checked by type checkers, never run.

Each ``type: ignore`` marks a call that type checkers must reject: mypy reports an unneeded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

from wxtcb import Done, Secret, Session
from wxtcb.api import containers
from wxtcb.api.containers import (
    BatchEntry,
    BatchFailure,
    BatchResult,
    ContainerService,
    ContainerServices,
    CsCodeDetail,
    CsImageInfo,
    CsImageSecretInfo,
    CsRepositoryName,
    CsVersion,
    CsVersionConfig,
    CsVersionDetail,
    CsVersionInfo,
    CsVersionList,
    NewCsVersion,
    TrafficSplit,
    VersionFlow,
    VersionRef,
    Vpc,
)


async def services(session: Session) -> None:
    """Turn on hosting and iterate over services."""
    assert_type(await containers.open_container_service(session, "e"), Done)
    vpc = Vpc(vpc_id="v", subnet_ids=["s-1"], create_type=2)
    assert_type(vpc.subnet_ids, tuple[str, ...])
    assert_type(await containers.create_container_service(session, "e", "s", remark="r", vpc=vpc), Done)
    page = await containers.get_cs_list(session, "e", limit=5, offset=20)
    assert_type(page, ContainerServices)
    assert_type(page.cslist, tuple[ContainerService, ...])
    assert_type(page.total, int | None)
    assert_type(page.cslist[0].service_name, str | None)
    async for service in containers.iter_services(session, "e", page_size=50):
        assert_type(service, ContainerService)
    assert_type(await containers.del_container_service(session, "e", "s"), Done)


async def refused_services(session: Session) -> None:
    """Misuse the calls of services."""
    await containers.open_container_service(session)  # type: ignore[call-arg]
    await containers.create_container_service(session, "e")  # type: ignore[call-arg]
    await containers.create_container_service(session, "e", "s", "r")  # type: ignore[call-arg]
    await containers.create_container_service(session, "e", "s", vpc={"vpcid": "v"})  # type: ignore[arg-type]
    Vpc(vpc_id="v")  # type: ignore[call-arg]
    Vpc(vpc_id="v", subnet_ids=5, create_type=1)  # type: ignore[arg-type]
    await containers.get_cs_list(session)  # type: ignore[call-arg]
    await containers.get_cs_list(session, "e", 5)  # type: ignore[call-arg]
    await containers.get_cs_list(session, "e", limit="5")  # type: ignore[arg-type]
    containers.iter_services(session, "e", 50)  # type: ignore[call-arg]
    await containers.del_container_service(session, "e")  # type: ignore[call-arg]
    (await containers.get_cs_list(session, "e")).cslist[0].server_name  # type: ignore[attr-defined]  # noqa: B018


async def creating(session: Session) -> None:
    """Create versions."""
    secret = CsImageSecretInfo(registry_server="r", user_name="u", password="p", email="m")
    assert_type(secret.password, Secret | None)
    CsImageSecretInfo(password=Secret("p"))
    version = CsVersion(
        service_name="s",
        upload_type="image",
        flow_ratio=0,
        cpu=0.5,
        mem=1,
        min_num=0,
        max_num=50,
        env_params={"A": "a", "B": Secret("b")},
        image_info=CsImageInfo(
            repository_name="r", is_public=True, tag_name="t", server_addr="ccr.example", image_url="ccr.example/r:t"
        ),
        code_detail=CsCodeDetail(name=CsRepositoryName(name="n", full_name="o/n"), url="u"),
        image_secret_info=secret,
        image_pull_secret="n",
        mount_wx_token=True,
    )
    assert_type(version.env_params, Mapping[str, Secret] | None)
    new = await containers.create_cs_version(session, version, env="e")
    assert_type(new, NewCsVersion)
    assert_type(new.version_name, str | None)
    result = await containers.batch_create_cs_version(session, version, envs=(each for each in ["e"]))
    assert_type(result, BatchResult)
    assert_type(result.succ_list, tuple[BatchEntry, ...])
    assert_type(result.failed, Sequence[BatchFailure])
    assert_type(result.fail_list[0].errmsg, str | None)


async def refused_creating(session: Session, version: CsVersion) -> None:
    """Misuse the calls that create versions."""
    CsVersion(service_name="s")  # type: ignore[call-arg]
    CsVersion(service_name="s", upload_type="image", minnum=1)  # type: ignore[call-arg]
    CsVersion(service_name="s", upload_type="image", min_num="1")  # type: ignore[arg-type]
    CsVersion(service_name="s", upload_type="image", cpu="0.5")  # type: ignore[arg-type]
    CsVersion(service_name="s", upload_type="image", env_params="{}")  # type: ignore[arg-type]
    CsVersion(service_name="s", upload_type="image", env_params={"A": 1})  # type: ignore[dict-item]
    CsVersion(service_name="s", upload_type="image", image_secret_info={"password": "p"})  # type: ignore[arg-type]
    CsCodeDetail(name="n")  # type: ignore[arg-type]
    CsImageInfo(repository_name="r")  # type: ignore[call-arg]
    CsImageSecretInfo(password=b"p")  # type: ignore[arg-type]
    await containers.create_cs_version(session, version)  # type: ignore[call-arg]
    await containers.create_cs_version(session, version, "e")  # type: ignore[call-arg]
    await containers.batch_create_cs_version(session, version, envs=5)  # type: ignore[arg-type]


async def versions(session: Session) -> None:
    """List, wait for, configure and delete versions."""
    page = await containers.get_cs_version_list(session, "e", "s", limit=5, offset=5)
    assert_type(page, CsVersionList)
    assert_type(page.items, tuple[CsVersionInfo, ...])
    async for info in containers.iter_versions(session, "e", "s", page_size=5):
        assert_type(info.build_id, int | None)
    detail = await containers.get_cs_version_detail(session, "e", "s", "v")
    assert_type(detail, CsVersionDetail)
    assert_type(detail.cpu, float | None)
    assert_type(detail.env_params, Mapping[str, Any] | None)
    assert_type(await containers.wait_until_version_normal(session, "e", "s", "v", timeout=60), CsVersionDetail)
    config = CsVersionConfig(min_num=1, max_num=2, env_params={"A": Secret("a")})
    assert_type(await containers.set_cs_version_config(session, "e", "s", "v", config), Done)
    assert_type(await containers.del_cs_version(session, "e", "s", "v"), Done)
    ref = VersionRef(env="e", service_name="s", version_name="v")
    assert_type(await containers.batch_del_cs_version(session, [ref]), BatchResult)


async def refused_versions(session: Session) -> None:
    """Misuse the calls of versions."""
    await containers.get_cs_version_list(session, "e")  # type: ignore[call-arg]
    await containers.get_cs_version_detail(session, "e", "s")  # type: ignore[call-arg]
    await containers.wait_until_version_normal(session, "e", "s", "v", 60)  # type: ignore[call-arg]
    await containers.set_cs_version_config(session, "e", "s", "v", {"minnum": 1})  # type: ignore[arg-type]
    await containers.del_cs_version(session, "e", "s", 1)  # type: ignore[arg-type]
    await containers.batch_del_cs_version(session, [("e", "s", "v")])  # type: ignore[list-item]
    CsVersionConfig(1)  # type: ignore[call-arg]
    VersionRef(env="e", service_name="s")  # type: ignore[call-arg]


async def traffic(session: Session) -> None:
    """Split traffic."""
    split = TrafficSplit(env="e", service_name="s", items=[VersionFlow(version_name="v", flow_ratio=100)])
    assert_type(split.items, tuple[VersionFlow, ...])
    assert_type(await containers.set_cs_propotion(session, split), Done)
    assert_type(await containers.batch_set_cs_propotion(session, [split]), BatchResult)


async def refused_traffic(session: Session, split: TrafficSplit) -> None:
    """Misuse the calls of traffic."""
    TrafficSplit(env="e", service_name="s", items={"v": 100})  # type: ignore[dict-item]
    VersionFlow(version_name="v", flow_ratio=0.5)  # type: ignore[arg-type]
    await containers.set_cs_propotion(session, [split])  # type: ignore[arg-type]
    await containers.batch_set_cs_propotion(session, split)  # type: ignore[arg-type]
