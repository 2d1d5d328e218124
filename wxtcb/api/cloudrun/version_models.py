"""What a version of a service is to be: a new one, or what an existing one is rolled over to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from wxtcb._protocol.fields import JSON_TEXT, NUMBER_TEXT, wire, written_as
from wxtcb.api.cloudrun.models import (
    FLAG,
    TEXT,
    VARIABLES,
    WHOLE,
    CodeDetail,
    EsInfo,
    ImageInfo,
    ImageSecretInfo,
    PolicyDetail,
    Security,
    ServiceVolume,
    ServiceVolumeMount,
    SidecarSpec,
    VolumeMount,
    as_mounts,
    many,
)
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    Variables,
    as_tuple,
    as_variables,
    check_number,
    check_text,
    field_is,
    forgetful,
    kind_is,
    whole_within,
)

_UPLOADED: Final = frozenset({"jar", "war"})


def _as_policies(value: Iterable[PolicyDetail] | None) -> tuple[PolicyDetail, ...] | None:
    return None if value is None else as_tuple(value)


def _as_sidecars(value: Iterable[SidecarSpec] | None) -> tuple[SidecarSpec, ...] | None:
    return None if value is None else as_tuple(value)


def _as_volumes(value: Iterable[ServiceVolume] | None) -> tuple[ServiceVolume, ...] | None:
    return None if value is None else as_tuple(value)


def _as_service_mounts(value: Iterable[ServiceVolumeMount] | None) -> tuple[ServiceVolumeMount, ...] | None:
    return None if value is None else as_tuple(value)


def _check_order(deployment: Version | VersionUpdate, _: attrs.Attribute[Any], most: int | None) -> None:
    """Refuse fewer replicas at most than at least."""
    least = deployment.min_num
    if least is not None and most is not None and least > most:
        raise InvalidArgument(f"{type(deployment).__name__}: min_num must not be above max_num, but {least} > {most}")


def _check_upload(version: Version, _: attrs.Attribute[str | None], filename: str | None) -> None:
    if version.upload_type in _UPLOADED and not filename:
        raise InvalidArgument(f"Version: upload_filename is required where upload_type is {version.upload_type}")


@forgetful
@attrs.frozen(kw_only=True)
class Deployment:
    """What a new version and a roll-over of an existing one can say alike.

    `repository` is owner/name or a URL, `repository_type` coding, gitlab or github. `env_params` are the environment
    variables, shown in no repr; a `Secret` among them is blotted out of errors too.
    """

    repository_type: str | None = attrs.field(default=None, validator=TEXT)
    dockerfile_path: str | None = attrs.field(default=None, validator=TEXT)
    build_dir: str | None = attrs.field(default=None, validator=TEXT)
    env_params: Variables | None = attrs.field(
        default=None,
        converter=as_variables,
        validator=VARIABLES,
        repr=False,
        hash=False,
        metadata=written_as(JSON_TEXT),
    )
    repository: str | None = attrs.field(default=None, validator=TEXT)
    branch: str | None = attrs.field(default=None, validator=TEXT)
    version_remark: str | None = attrs.field(default=None, validator=TEXT)
    package_name: str | None = attrs.field(default=None, validator=TEXT)
    package_version: str | None = attrs.field(default=None, validator=TEXT)
    image_info: ImageInfo | None = attrs.field(default=None, validator=kind_is(ImageInfo))
    code_detail: CodeDetail | None = attrs.field(default=None, validator=kind_is(CodeDetail))
    custom_logs: str | None = attrs.field(default=None, validator=TEXT)
    initial_delay_seconds: int | None = attrs.field(default=None, validator=WHOLE)
    mount_volume_info: tuple[VolumeMount, ...] | None = attrs.field(
        default=None, converter=as_mounts, validator=many(VolumeMount)
    )
    enable_union: bool | None = attrs.field(default=None, validator=FLAG)
    server_path: str | None = attrs.field(default=None, validator=TEXT)
    policy_detail: tuple[PolicyDetail, ...] | None = attrs.field(
        default=None, converter=_as_policies, validator=many(PolicyDetail)
    )


@forgetful
@attrs.frozen(kw_only=True)
class Version(Deployment):
    """A version to be built and deployed.

    `upload_type` is package, repository, image, jar or war; the last two need `upload_filename`. `flow_ratio` is its
    percentage of the traffic, `cpu` counts cores, `mem` gigabytes; there are `min_num` to `max_num` replicas, at most
    50, more of them above `policy_threshold` of `policy_type` (cpu). `access_type` 4 is reachable over the WeChat link
    only. `is_create_jns_gw` 2 makes no gateway, `has_dockerfile` 2 says that there is none. `image_pull_secret` names
    credentials that the platform holds.
    """

    env_id: str = attrs.field(validator=field_is(check_text))
    service_name: str = attrs.field(validator=field_is(check_text), metadata=wire("server_name"))
    upload_type: str = attrs.field(validator=field_is(check_text))
    flow_ratio: int = attrs.field(validator=whole_within(0, 100, optional=False))
    cpu: float = attrs.field(validator=field_is(check_number))
    mem: float = attrs.field(validator=field_is(check_number))
    min_num: int = attrs.field(validator=whole_within(0, 50, optional=False))
    max_num: int = attrs.field(validator=[whole_within(0, 50, optional=False), _check_order])
    policy_type: str = attrs.field(validator=field_is(check_text))
    policy_threshold: int = attrs.field(validator=kind_is(int, optional=False))
    container_port: int = attrs.field(validator=kind_is(int, optional=False))
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=kind_is(ImageSecretInfo))
    image_pull_secret: str | None = attrs.field(default=None, validator=TEXT)
    access_type: int | None = attrs.field(default=None, validator=WHOLE)
    es_info: EsInfo | None = attrs.field(default=None, validator=kind_is(EsInfo))
    sidecar_specs: tuple[SidecarSpec, ...] | None = attrs.field(
        default=None, converter=_as_sidecars, validator=many(SidecarSpec)
    )
    security: Security | None = attrs.field(default=None, validator=kind_is(Security))
    service_volumes: tuple[ServiceVolume, ...] | None = attrs.field(
        default=None, converter=_as_volumes, validator=many(ServiceVolume)
    )
    is_create_jns_gw: int | None = attrs.field(default=None, validator=WHOLE)
    service_volume_mounts: tuple[ServiceVolumeMount, ...] | None = attrs.field(
        default=None, converter=_as_service_mounts, validator=many(ServiceVolumeMount)
    )
    has_dockerfile: int | None = attrs.field(default=None, validator=WHOLE)
    base_image: str | None = attrs.field(default=None, validator=TEXT)
    entry_point: str | None = attrs.field(default=None, validator=TEXT)
    repo_language: str | None = attrs.field(default=None, validator=TEXT)
    upload_filename: str | None = attrs.field(default=None, validator=[TEXT, _check_upload])


@forgetful
@attrs.frozen(kw_only=True)
class VersionUpdate(Deployment):
    """What an existing version is to be from now on; what is not given stays as it is.

    `version_name` may be "latest". Units as in `Version`. `is_rebuild` replays traffic, `rollback` goes back to
    `snapshot_name`, `is_update_cls` brings the log service up to date; `server_path` counts the first time only.
    """

    env_id: str = attrs.field(validator=field_is(check_text))
    version_name: str = attrs.field(validator=field_is(check_text))
    service_name: str | None = attrs.field(default=None, validator=TEXT, metadata=wire("server_name"))
    upload_type: str | None = attrs.field(default=None, validator=TEXT)
    flow_ratio: int | None = attrs.field(default=None, validator=whole_within(0, 100))
    cpu: float | None = attrs.field(
        default=None, validator=field_is(check_number, optional=True), metadata=written_as(NUMBER_TEXT)
    )
    mem: float | None = attrs.field(
        default=None, validator=field_is(check_number, optional=True), metadata=written_as(NUMBER_TEXT)
    )
    min_num: int | None = attrs.field(default=None, validator=whole_within(0), metadata=written_as(NUMBER_TEXT))
    max_num: int | None = attrs.field(default=None, validator=[WHOLE, _check_order], metadata=written_as(NUMBER_TEXT))
    policy_type: str | None = attrs.field(default=None, validator=TEXT)
    policy_threshold: int | None = attrs.field(default=None, validator=WHOLE, metadata=written_as(NUMBER_TEXT))
    container_port: int | None = attrs.field(default=None, validator=WHOLE)
    is_rebuild: bool | None = attrs.field(default=None, validator=FLAG)
    rollback: bool | None = attrs.field(default=None, validator=FLAG)
    snapshot_name: str | None = attrs.field(default=None, validator=TEXT)
    is_update_cls: bool | None = attrs.field(default=None, validator=FLAG)
