"""What a version is made of: its code or image, its volumes, its sidecars, its scaling, where its logs go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from wxtcb._protocol.fields import JSON_IN_STRING, wire_format
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import (
    Variables,
    check_list_of,
    check_number,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    to_secret_or_none,
    to_str_tuple_or_none,
    to_tuple,
    to_variables,
    type_validator,
    validator,
)

OPTIONAL_STR: Final = type_validator(str)
OPTIONAL_INT: Final = type_validator(int)
OPTIONAL_BOOL: Final = type_validator(bool)

_OPTIONAL_STRS: Final = validator(check_strings, optional=True)


def optional_tuple_of(item_type: type) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    """Make an attrs validator that accepts a tuple whose entries are all of *kind*, and None."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, tuple):
            raise InvalidArgument(f"{name} must be a list of {item_type.__name__}, not {type(value).__name__}")
        check_list_of(name, value, item_type)

    return validator(check, optional=True)


OPTIONAL_VARIABLES: Final = validator(check_variables, optional=True)


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in a registry: `server_addr` is the registry's host, `image_url` the full address to pull from."""

    repository_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    is_public: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    tag_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    server_addr: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    image_url: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """The account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    user_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))
    email: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@attrs.frozen(kw_only=True)
class RepositoryName:
    """How a code repository is called: `name` alone, and `full_name`, which is owner/name."""

    name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    full_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@attrs.frozen(kw_only=True)
class CodeDetail:
    """A code repository: its `name`, which is an object, and its URL."""

    name: RepositoryName | None = attrs.field(default=None, validator=type_validator(RepositoryName))
    url: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class EsInfo:
    """The Elasticsearch that takes the logs of a service; `password` is shown in no repr."""

    id: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    secret_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    ip: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    port: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    index: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    account: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))


@attrs.frozen(kw_only=True)
class NfsVolume:
    """A network file system: its `server` and the `path` there; `secret_name` names its credentials."""

    server: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    read_only: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    secret_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)


def _as_nfs_volumes(value: Iterable[NfsVolume] | None) -> tuple[NfsVolume, ...] | None:
    return None if value is None else to_tuple(value)


@attrs.frozen(kw_only=True)
class VolumeMount:
    """Network file systems, and where a container sees them."""

    name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    mount_path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    read_only: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    nfs_volumes: tuple[NfsVolume, ...] | None = attrs.field(
        default=None, converter=_as_nfs_volumes, validator=optional_tuple_of(NfsVolume)
    )


def as_volume_mounts(value: Iterable[VolumeMount] | None) -> tuple[VolumeMount, ...] | None:
    """Convert as `to_tuple` does; None stays None."""
    return None if value is None else to_tuple(value)


@attrs.frozen(kw_only=True)
class EmptyDir:
    """A temporary directory: `medium` is empty (the disk), "Memory" or "HugePages", `size_limit` a text."""

    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    medium: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    size_limit: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@attrs.frozen(kw_only=True)
class ServiceVolume:
    """A volume of a service, to be mounted by its `name`; `enable_empty_dir_volume` gives way to `empty_dir`."""

    name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    nfs: NfsVolume | None = attrs.field(default=None, validator=type_validator(NfsVolume))
    secret_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    empty_dir: EmptyDir | None = attrs.field(default=None, validator=type_validator(EmptyDir))


@attrs.frozen(kw_only=True)
class ServiceVolumeMount:
    """Where the containers of a service see one of its volumes."""

    name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    mount_path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    read_only: bool | None = attrs.field(default=None, validator=OPTIONAL_BOOL)
    sub_path: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    mount_propagation: str | None = attrs.field(default=None, validator=OPTIONAL_STR)


@attrs.frozen(kw_only=True)
class Capabilities:
    """Linux capabilities that a container gets (`add`) and loses (`drop`)."""

    add: tuple[str, ...] | None = attrs.field(default=None, converter=to_str_tuple_or_none, validator=_OPTIONAL_STRS)
    drop: tuple[str, ...] | None = attrs.field(default=None, converter=to_str_tuple_or_none, validator=_OPTIONAL_STRS)


@attrs.frozen(kw_only=True)
class Security:
    """What a container may do."""

    capabilities: Capabilities | None = attrs.field(default=None, validator=type_validator(Capabilities))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class SidecarSpec:
    """A container beside that of a version.

    `cpu` counts cores, `mem` megabytes (that of the version itself counts gigabytes). `env_var` are its environment
    variables, shown in no repr.
    """

    container_image: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    container_port: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    container_name: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    env_var: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=OPTIONAL_VARIABLES,
        repr=False,
        hash=False,
        metadata=wire_format(JSON_IN_STRING),
    )
    initial_delay_seconds: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    security: Security | None = attrs.field(default=None, validator=type_validator(Security))
    volume_mount_infos: tuple[VolumeMount, ...] | None = attrs.field(
        default=None, converter=as_volume_mounts, validator=optional_tuple_of(VolumeMount)
    )


@attrs.frozen(kw_only=True)
class PolicyDetail:
    """When a version gets more replicas: above so many percent (`policy_threshold`) of cpu, mem and the like."""

    policy_type: str | None = attrs.field(default=None, validator=OPTIONAL_STR)
    policy_threshold: int | None = attrs.field(default=None, validator=OPTIONAL_INT)
