"""Parts of a version: image or code, volumes, sidecars, scaling policies, log destination."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from wxtcb._protocol.fields import JSON_IN_STRING, wire_format
from wxtcb.secret import Secret
from wxtcb.validation import (
    Variables,
    check_number,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    to_secret_or_none,
    to_str_tuple_or_none,
    to_variables,
    type_validator,
    validator,
)


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in a registry; `server_addr` is the registry's host, `image_url` the full address for a pull."""

    repository_name: str | None = None
    is_public: bool | None = None
    tag_name: str | None = None
    server_addr: str | None = None
    image_url: str | None = None


# If the constructor raises, the frames of the traceback would show the password that was passed to it.
@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """Account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = None
    user_name: str | None = None
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))
    email: str | None = None


@attrs.frozen(kw_only=True)
class RepositoryName:
    """Name of a code repository: `name` alone, and `full_name` as owner/name."""

    name: str | None = None
    full_name: str | None = None


@attrs.frozen(kw_only=True)
class CodeDetail:
    """A code repository: its name and its URL."""

    name: RepositoryName | None = None
    url: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class EsInfo:
    """The Elasticsearch server that stores the logs of a service; `password` is shown in no repr."""

    id: int | None = None
    secret_name: str | None = None
    ip: str | None = None
    port: int | None = None
    index: str | None = None
    account: str | None = None
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))


@attrs.frozen(kw_only=True)
class NfsVolume:
    """A network file system: its `server` and `path`; `secret_name` names its credentials."""

    server: str | None = None
    path: str | None = None
    read_only: bool | None = None
    secret_name: str | None = None
    enable_empty_dir_volume: bool | None = None


# Type checkers do not infer the types of a generic converter, so each entry type has one of its own.
def _as_nfs_volumes(value: Iterable[NfsVolume] | None) -> tuple[NfsVolume, ...] | None:
    return None if value is None else tuple(value)


@attrs.frozen(kw_only=True)
class VolumeMount:
    """Network file systems and their mount path in a container."""

    name: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    nfs_volumes: tuple[NfsVolume, ...] | None = attrs.field(default=None, converter=_as_nfs_volumes)


def as_volume_mounts(value: Iterable[VolumeMount] | None) -> tuple[VolumeMount, ...] | None:
    """Return volume mounts as a tuple, or None."""
    return None if value is None else tuple(value)


@attrs.frozen(kw_only=True)
class EmptyDir:
    """A temporary directory; `medium` is "" (disk), "Memory" or "HugePages", `size_limit` a text."""

    enable_empty_dir_volume: bool | None = None
    medium: str | None = None
    size_limit: str | None = None


@attrs.frozen(kw_only=True)
class ServiceVolume:
    """A volume of a service, mounted by its `name`; `empty_dir` takes precedence over `enable_empty_dir_volume`."""

    name: str | None = None
    nfs: NfsVolume | None = None
    secret_name: str | None = None
    enable_empty_dir_volume: bool | None = None
    empty_dir: EmptyDir | None = None


@attrs.frozen(kw_only=True)
class ServiceVolumeMount:
    """Mount of one of the service's volumes in its containers."""

    name: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    sub_path: str | None = None
    mount_propagation: str | None = None


@attrs.frozen(kw_only=True)
class Capabilities:
    """Linux capabilities to `add` to a container and to `drop` from it."""

    add: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )
    drop: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_str_tuple_or_none, validator=validator(check_strings, optional=True)
    )


@attrs.frozen(kw_only=True)
class Security:
    """Security settings of a container."""

    capabilities: Capabilities | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class SidecarSpec:
    """A container that runs next to the container of a version.

    `cpu` is in cores, `mem` in megabytes (the memory of the version itself is in gigabytes). `env_var` are environment
    variables, shown in no repr.
    """

    container_image: str | None = None
    container_port: int | None = None
    container_name: str | None = None
    env_var: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=validator(check_variables, optional=True),
        repr=False,
        hash=False,
        metadata=wire_format(JSON_IN_STRING),
    )
    initial_delay_seconds: int | None = None
    # JSON has no NaN and no infinity; they would be sent as null.
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    security: Security | None = None
    volume_mount_infos: tuple[VolumeMount, ...] | None = attrs.field(default=None, converter=as_volume_mounts)


@attrs.frozen(kw_only=True)
class PolicyDetail:
    """A scaling policy: add replicas above `policy_threshold` percent of `policy_type` (cpu, mem and the like)."""

    policy_type: str | None = None
    policy_threshold: int | None = None
