"""Types of cloud hosting; checked by type checkers, never run.

Each ``type: ignore`` marks a call that type checkers must reject: mypy reports an unneeded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, assert_type

import attrs

from wxtcb import Done, Secret, Session
from wxtcb.api import cloudrun


async def environments(session: Session) -> None:
    """List, create and wait for environments."""
    listed = await cloudrun.describe_cloudbaserun_envs(session)
    assert_type(listed, cloudrun.CloudRunEnvList)
    assert_type(listed.env_list, tuple[cloudrun.CloudRunEnvInfo, ...])
    assert_type(listed.by_env_id, Mapping[str, cloudrun.CloudRunEnvInfo])
    info = listed.env_list[0]
    assert_type(info.env_id, str)
    assert_type(info.status, Literal["NORMAL", "UNAVAILABLE", "HALTED"] | None)
    assert_type(info.created_at, datetime | None)
    assert_type(info.is_default, bool | None)
    assert_type(info.databases, tuple[cloudrun.Database, ...])
    assert_type(info.storages, tuple[cloudrun.Storage, ...])
    assert_type(info.functions, tuple[cloudrun.FunctionSpace, ...])
    assert_type(info.log_services, tuple[cloudrun.LogService, ...])
    assert_type(info.static_storages, tuple[cloudrun.StaticStorage, ...])
    assert_type(info.tags, tuple[cloudrun.Tag, ...])
    assert_type(info.custom_log_services, tuple[cloudrun.CustomLogService, ...])
    assert_type(info.databases[0].status, Literal["INITIALIZING", "RUNNING", "UNUSABLE", "OVERDUE"] | None)
    new = await cloudrun.create_cloudbaserun_env(session, alias="a", vpc_id="v", subnet_ids=["s-1"])
    assert_type(new, cloudrun.NewCloudRunEnv)
    assert_type(new.env_id, str)
    assert_type(new.tranid, str | None)
    assert_type(await cloudrun.create_cloudbaserun_env(session), cloudrun.NewCloudRunEnv)
    assert_type(await cloudrun.create_cloudbaserun_res_auth(session, "e"), Done)
    assert_type(await cloudrun.wait_until_env_normal(session, "e", timeout=60, interval=1.5), cloudrun.CloudRunEnvInfo)
    assert_type(await cloudrun.wait_until_databases_running(session, "e"), cloudrun.CloudRunEnvInfo)


async def refused_environments(session: Session) -> None:
    """Misuse the calls of environments."""
    await cloudrun.describe_cloudbaserun_envs(session, "e")  # type: ignore[call-arg]
    await cloudrun.create_cloudbaserun_env(session, "a")  # type: ignore[call-arg]
    await cloudrun.create_cloudbaserun_env(session, alias=1)  # type: ignore[arg-type]
    await cloudrun.create_cloudbaserun_env(session, alias="a", sub_net_ids=["s"])  # type: ignore[call-arg]
    await cloudrun.create_cloudbaserun_res_auth(session)  # type: ignore[call-arg]
    await cloudrun.wait_until_env_normal(session, "e", 60)  # type: ignore[call-arg]
    await cloudrun.wait_until_databases_running(session, "e", timeout="60")  # type: ignore[arg-type]


def version() -> cloudrun.Version:
    """Create a version with every field."""
    nfs = cloudrun.NfsVolume(server="s", path="/", read_only=True, secret_name="n", enable_empty_dir_volume=False)
    mount = cloudrun.VolumeMount(name="n", mount_path="/m", read_only=False, nfs_volumes=[nfs])
    assert_type(mount.nfs_volumes, tuple[cloudrun.NfsVolume, ...] | None)
    security = cloudrun.Security(capabilities=cloudrun.Capabilities(add=["A"], drop=("B",)))
    sidecar = cloudrun.SidecarSpec(
        container_image="i", env_var={"A": "1"}, cpu=0.5, mem=64, security=security, volume_mount_infos=[mount]
    )
    name = cloudrun.RepositoryName(name="demo", full_name="test/demo")
    whole = cloudrun.Version(
        env_id="e",
        service_name="s",
        upload_type="repository",
        flow_ratio=0,
        cpu=1,
        mem=0.5,
        min_num=0,
        max_num=1,
        policy_type="cpu",
        policy_threshold=60,
        container_port=80,
        env_params={"A": "1", "B": Secret("2")},
        code_detail=cloudrun.CodeDetail(name=name, url="https://github.com/test/demo"),
        image_secret_info=cloudrun.ImageSecretInfo(user_name="u", password=Secret("p")),
        es_info=cloudrun.EsInfo(password="p"),
        mount_volume_info=(each for each in [mount]),
        sidecar_specs=[sidecar],
        service_volumes=[cloudrun.ServiceVolume(name="v", empty_dir=cloudrun.EmptyDir(medium="Memory"), nfs=nfs)],
        service_volume_mounts=[cloudrun.ServiceVolumeMount(name="v", mount_path="/v")],
        policy_detail=[cloudrun.PolicyDetail(policy_type="cpu", policy_threshold=60)],
    )
    assert_type(whole.env_params, Mapping[str, Secret] | None)
    assert_type(whole.sidecar_specs, tuple[cloudrun.SidecarSpec, ...] | None)
    assert_type(whole.image_info, cloudrun.ImageInfo | None)
    assert_type(whole.cpu, float)
    assert_type(attrs.evolve(whole, flow_ratio=10), cloudrun.Version)
    return whole


async def versions(session: Session) -> None:
    """Create, update, release and delete versions."""
    made = await cloudrun.create_cloudbaserun_server_version(session, version())
    assert_type(made, cloudrun.DeploymentResult)
    assert_type(made.result, str | None)
    assert_type(made.version_name, str | None)
    assert_type(made.run_id, str | None)
    assert_type(made.failed, Sequence[str])
    variables: dict[str, str] = {"A": "1"}
    update = cloudrun.VersionUpdate(
        env_id="e", version_name="latest", cpu=0.25, min_num=0, image_info=cloudrun.ImageInfo(), env_params=variables
    )
    assert_type(update.cpu, float | None)
    assert_type(update.service_name, str | None)
    assert_type(await cloudrun.roll_update_cloudbaserun_server_version(session, update), cloudrun.DeploymentResult)
    released = await cloudrun.release_cloudbaserun_version(session, env_id="e", service_name="s", version_name="v")
    assert_type(released, cloudrun.ReleaseResult)
    assert_type(released.release_order_id, int | None)
    gone = await cloudrun.delete_cloudbaserun_server_version(
        session, env_id="e", service_name="s", version_name="v", is_delete_server=True, is_delete_image=False
    )
    assert_type(gone, cloudrun.VersionResult)


async def refused_versions(session: Session) -> None:
    """Misuse the calls of versions."""
    cloudrun.Version(env_id="e", service_name="s")  # type: ignore[call-arg]
    cloudrun.VersionUpdate(env_id="e")  # type: ignore[call-arg]
    cloudrun.VersionUpdate(env_id="e", version_name="v", cpu="0.25")  # type: ignore[arg-type]
    cloudrun.VersionUpdate(env_id="e", version_name="v", server_name="s")  # type: ignore[call-arg]
    cloudrun.VersionUpdate(env_id="e", version_name="v", env_params="{}")  # type: ignore[arg-type]
    cloudrun.VersionUpdate(env_id="e", version_name="v", env_params={"A": 1})  # type: ignore[dict-item]
    cloudrun.VersionUpdate(env_id="e", version_name="v", mount_volume_info=[{}])  # type: ignore[list-item]
    cloudrun.VersionUpdate(env_id="e", version_name="v", upload_filename="f")  # type: ignore[call-arg]
    cloudrun.CodeDetail(name="demo")  # type: ignore[arg-type]
    cloudrun.ImageSecretInfo(password=b"p")  # type: ignore[arg-type]
    update = cloudrun.VersionUpdate(env_id="e", version_name="v")
    await cloudrun.create_cloudbaserun_server_version(session, update)  # type: ignore[arg-type]
    await cloudrun.roll_update_cloudbaserun_server_version(session, version())  # type: ignore[arg-type]
    await cloudrun.release_cloudbaserun_version(session, "e", "s", "v")  # type: ignore[call-arg]
    await cloudrun.release_cloudbaserun_version(session, env_id="e", service_name="s")  # type: ignore[call-arg]
    await cloudrun.delete_cloudbaserun_server_version(session, env_id="e", version_name="v")  # type: ignore[call-arg]
