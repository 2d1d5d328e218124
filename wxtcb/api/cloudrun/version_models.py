"""What a version of a service is to be: a new one, or what an existing one is rolled over to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from wxtcb._protocol.fields import JSON_IN_STRING, NUMBER_IN_STRING, wire_format, wire_name
from wxtcb.api.cloudrun.models import (
    OPTIONAL_BOOL,
    OPTIONAL_INT,
    OPTIONAL_STR,
    OPTIONAL_VARIABLES,
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
    as_volume_mounts,
    optional_tuple_of,
)
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    Variables,
    check_number,
    check_string,
    hide_arguments_in_traceback,
    int_range,
    to_tuple,
    to_variables,
    type_validator,
    validator,
)

_FILE_UPLOAD_TYPES: Final = frozenset({"jar", "war"})


def _as_policies(value: Iterable[PolicyDetail] | None) -> tuple[PolicyDetail, ...] | None:
    return None if value is None else to_tuple(value)


def _as_sidecars(value: Iterable[SidecarSpec] | None) -> tuple[SidecarSpec, ...] | None:
    return None if value is None else to_tuple(value)


def _as_volumes(value: Iterable[ServiceVolume] | None) -> tuple[ServiceVolume, ...] | None:
    return None if value is None else to_tuple(value)


def _as_service_mounts(value: Iterable[ServiceVolumeMount] | None) -> tuple[ServiceVolumeMount, ...] | None:
    return None if value is None else to_tuple(value)


def _check_replica_range(version: Version | VersionUpdate, _: attrs.Attribute[Any], max_num: int | None) -> None:
    """Refuse fewer replicas at most than at least."""
    least = version.min_num
    if least is not None and max_num is not None and least > max_num:
        raise InvalidArgument(f"{type(version).__name__}: min_num must not be above max_num, but {least} > {max_num}")


def _check_upload_filename(version: Version, _: attrs.Attribute[str | None], filename: str | None) -> None:
    if version.upload_type in _FILE_UPLOAD_TYPES and not filename:
        raise InvalidArgument(f"Version: upload_filename is required where upload_type is {version.upload_type}")


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class VersionSettings:
    """What a new version and a roll-over of an existing one can say alike.

    `repository` is owner/name or a URL, `repository_type` coding, gitlab or github. `env_params` are the environment
    variables, shown in no repr; a `Secret` among them is blotted out of errors too.
    """

    repository_type: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    dockerfile_path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    build_dir: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    env_params: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=OPTIONAL_VARIABLES,
        repr=False,
        hash=False,
        metadata=wire_format(JSON_IN_STRING),
    )
    repository: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    branch: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    version_remark: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    package_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    package_version: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    image_info: ImageInfo | None = attrs.field(default=None, validator=type_validator(ImageInfo))
    code_detail: CodeDetail | None = attrs.field(default=None, validator=type_validator(CodeDetail))
    custom_logs: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    initial_delay_seconds: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    mount_volume_info: tuple[VolumeMount, ...] | None = attrs.field(
        default=None, converter=as_volume_mounts, validator=optional_tuple_of(VolumeMount)
    )
    enable_union: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    server_path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    policy_detail: tuple[PolicyDetail, ...] | None = attrs.field(
        default=None, converter=_as_policies, validator=optional_tuple_of(PolicyDetail)
    )


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class Version(VersionSettings):
    """A version to be built and deployed.

    `upload_type` is package, repository, image, jar or war; the last two need `upload_filename`. `flow_ratio` is its
    percentage of the traffic, `cpu` counts cores, `mem` gigabytes; there are `min_num` to `max_num` replicas, at most
    50, more of them above `policy_threshold` of `policy_type` (cpu). `access_type` 4 is reachable over the WeChat link
    only. `is_create_jns_gw` 2 makes no gateway, `has_dockerfile` 2 says that there is none. `image_pull_secret` names
    credentials that the platform holds.
    """

    env_id: str = attrs.field(validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string), metadata=wire_name("server_name"))
    upload_type: str = attrs.field(validator=validator(check_string))
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))
    cpu: float = attrs.field(validator=validator(check_number))
    mem: float = attrs.field(validator=validator(check_number))
    min_num: int = attrs.field(validator=int_range(0, 50, optional=False))
    max_num: int = attrs.field(validator=[int_range(0, 50, optional=False), _check_replica_range])
    policy_type: str = attrs.field(validator=validator(check_string))
    policy_threshold: int = attrs.field(validator=type_validator(int, optional=False))
    container_port: int = attrs.field(validator=type_validator(int, optional=False))
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=type_validator(ImageSecretInfo))
    image_pull_secret: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    access_type: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    sidecar_specs: tuple[SidecarSpec, ...] | None = attrs.field(
        default=None, converter=_as_sidecars, validator=optional_tuple_of(SidecarSpec)
    )
    security: Security | None = attrs.field(default=None, validator=type_validator(Security))
    service_volumes: tuple[ServiceVolume, ...] | None = attrs.field(
        default=None, converter=_as_volumes, validator=optional_tuple_of(ServiceVolume)
    )
    is_create_jns_gw: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    service_volume_mounts: tuple[ServiceVolumeMount, ...] | None = attrs.field(
        default=None, converter=_as_service_mounts, validator=optional_tuple_of(ServiceVolumeMount)
    )
    has_dockerfile: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    base_image: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    entry_point: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    repo_language: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    upload_filename: str | None = attrs.field(default=None, validator=[OPTIONAL_STR, _check_upload_filename])


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class VersionUpdate(VersionSettings):
    """What an existing version is to be from now on; what is not given stays as it is.

    `version_name` may be "latest". Units as in `Version`. `is_rebuild` replays traffic, `rollback` goes back to
    `snapshot_name`, `is_update_cls` brings the log service up to date; `server_path` counts the first time only.
    """

    env_id: str = attrs.field(validator=validator(check_string))
    version_name: str = attrs.field(validator=validator(check_string))
    service_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR, metadata=wire_name("server_name"))
    upload_type: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    cpu: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    mem: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    min_num: int | None = attrs.field(default=None, validator=int_range(0), metadata=wire_format(NUMBER_IN_STRING))
    max_num: int | None = attrs.field(
        default=None, validator=[OPTIONAL_INT, _check_replica_range], metadata=wire_format(NUMBER_IN_STRING)
    )
    policy_type: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    policy_threshold: int | None = attrs.field(
        default=None, validator=OPTIONAL_INT, metadata=wire_format(NUMBER_IN_STRING)
    )
    container_port: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    is_rebuild: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    rollback: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    snapshot_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    is_update_cls: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
