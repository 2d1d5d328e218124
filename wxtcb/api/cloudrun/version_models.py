"""Settings of a version: a new one, or the update of an existing one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from wxtcb._protocol.fields import JSON_IN_STRING, NUMBER_IN_STRING, wire_format, wire_name
from wxtcb.api.cloudrun.models import (
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
)
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    Variables,
    check_list_of,
    check_number,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    to_variables,
    type_validator,
    validator,
)

# Documented: an upload of one of these types needs a file name.
_FILE_UPLOAD_TYPES: Final = frozenset({"jar", "war"})


def _as_policies(value: Iterable[PolicyDetail] | None) -> tuple[PolicyDetail, ...] | None:
    return None if value is None else tuple(value)


def _as_sidecars(value: Iterable[SidecarSpec] | None) -> tuple[SidecarSpec, ...] | None:
    return None if value is None else tuple(value)


def _as_volumes(value: Iterable[ServiceVolume] | None) -> tuple[ServiceVolume, ...] | None:
    return None if value is None else tuple(value)


def _as_service_mounts(value: Iterable[ServiceVolumeMount] | None) -> tuple[ServiceVolumeMount, ...] | None:
    return None if value is None else tuple(value)


def _check_sidecars(name: str, value: object) -> None:
    check_list_of(name, value, SidecarSpec)


def _check_replica_range(version: Version | VersionUpdate, _: attrs.Attribute[Any], max_num: int | None) -> None:
    min_num = version.min_num
    if min_num is not None and max_num is not None and min_num > max_num:
        raise InvalidArgument(f"{type(version).__name__}: min_num ({min_num}) must not be above max_num ({max_num})")


def _check_upload_filename(version: Version, _: attrs.Attribute[str | None], filename: str | None) -> None:
    if version.upload_type in _FILE_UPLOAD_TYPES and not filename:
        raise InvalidArgument(f"Version: upload_filename is required because upload_type is {version.upload_type}")


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class VersionSettings:
    """Settings that a new version and an update have in common.

    `repository` is owner/name or a URL, `repository_type` is coding, gitlab or github. `env_params` are environment
    variables, shown in no repr; a `Secret` among them is also redacted in errors.
    """

    repository_type: str | None = None
    dockerfile_path: str | None = None
    build_dir: str | None = None
    env_params: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=validator(check_variables, optional=True),
        repr=False,
        hash=False,
        metadata=wire_format(JSON_IN_STRING),
    )
    repository: str | None = None
    branch: str | None = None
    version_remark: str | None = None
    package_name: str | None = None
    package_version: str | None = None
    image_info: ImageInfo | None = None
    code_detail: CodeDetail | None = None
    custom_logs: str | None = None
    initial_delay_seconds: int | None = None
    mount_volume_info: tuple[VolumeMount, ...] | None = attrs.field(default=None, converter=as_volume_mounts)
    enable_union: bool | None = None
    server_path: str | None = None
    policy_detail: tuple[PolicyDetail, ...] | None = attrs.field(default=None, converter=_as_policies)


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class Version(VersionSettings):
    """A version to build and deploy.

    `upload_type` is package, repository, image, jar or war; the last two require `upload_filename`. `flow_ratio` is the
    percentage of the traffic, `cpu` is in cores, `mem` in gigabytes. The version has `min_num` to `max_num` replicas,
    at most 50; replicas are added above `policy_threshold` of `policy_type` (cpu).

    `access_type` 4 allows access over the WeChat link only. `is_create_jns_gw` 2 creates no gateway, `has_dockerfile` 2
    means there is none. `image_pull_secret` names credentials that the platform stores.
    """

    env_id: str
    service_name: str = attrs.field(metadata=wire_name("server_name"))
    upload_type: str
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))
    # JSON has no NaN and no infinity; they would be sent as null.
    cpu: float = attrs.field(validator=validator(check_number))
    mem: float = attrs.field(validator=validator(check_number))
    min_num: int = attrs.field(validator=int_range(0, 50, optional=False))
    max_num: int = attrs.field(validator=[int_range(0, 50, optional=False), _check_replica_range])
    policy_type: str
    policy_threshold: int
    container_port: int
    # A dict in place of these classes would show its password, or its variables, in the repr.
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=type_validator(ImageSecretInfo))
    image_pull_secret: str | None = None
    access_type: int | None = None
    es_info: EsInfo | None = attrs.field(default=None, validator=type_validator(EsInfo))
    sidecar_specs: tuple[SidecarSpec, ...] | None = attrs.field(
        default=None, converter=_as_sidecars, validator=validator(_check_sidecars, optional=True)
    )
    security: Security | None = None
    service_volumes: tuple[ServiceVolume, ...] | None = attrs.field(default=None, converter=_as_volumes)
    is_create_jns_gw: int | None = None
    service_volume_mounts: tuple[ServiceVolumeMount, ...] | None = attrs.field(
        default=None, converter=_as_service_mounts
    )
    has_dockerfile: int | None = None
    base_image: str | None = None
    entry_point: str | None = None
    repo_language: str | None = None
    upload_filename: str | None = attrs.field(default=None, validator=_check_upload_filename)


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class VersionUpdate(VersionSettings):
    """Changes to an existing version; None keeps a setting.

    `version_name` may be "latest". Units are as in `Version`. `is_rebuild` replays traffic, `rollback` goes back to
    `snapshot_name`, `is_update_cls` updates the log service. `server_path` takes effect only the first time.
    """

    env_id: str
    version_name: str
    service_name: str | None = attrs.field(default=None, metadata=wire_name("server_name"))
    upload_type: str | None = None
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    # This page sends as strings the five numbers that the page of a new version sends as numbers.
    cpu: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    mem: float | None = attrs.field(
        default=None, validator=validator(check_number, optional=True), metadata=wire_format(NUMBER_IN_STRING)
    )
    min_num: int | None = attrs.field(default=None, validator=int_range(0), metadata=wire_format(NUMBER_IN_STRING))
    max_num: int | None = attrs.field(
        default=None, validator=_check_replica_range, metadata=wire_format(NUMBER_IN_STRING)
    )
    policy_type: str | None = None
    policy_threshold: int | None = attrs.field(default=None, metadata=wire_format(NUMBER_IN_STRING))
    container_port: int | None = None
    is_rebuild: bool | None = None
    rollback: bool | None = None
    snapshot_name: str | None = None
    is_update_cls: bool | None = None
