"""What a version is made of: its code or image, its volumes, its sidecars, its scaling, where its logs go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from wxtcb._protocol.fields import JSON_TEXT, written_as
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import (
    Variables,
    as_secret_or_none,
    as_texts_or_none,
    as_tuple,
    as_variables,
    check_kinds,
    check_number,
    check_texts,
    check_variables,
    field_is,
    forgetful,
    kind_is,
)

TEXT: Final = kind_is(str)
WHOLE: Final = kind_is(int)
FLAG: Final = kind_is(bool)

_TEXTS: Final = field_is(check_texts, optional=True)


def many(kind: type) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    """Make an attrs validator that accepts a tuple whose entries are all of *kind*, and None."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, tuple):
            raise InvalidArgument(f"{name} must be a list of {kind.__name__}, not {type(value).__name__}")
        check_kinds(name, value, kind)

    return field_is(check, optional=True)


VARIABLES: Final = field_is(check_variables, optional=True)


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in a registry: `server_addr` is the registry's host, `image_url` the full address to pull from."""

    repository_name: str | None = attrs.field(default=None, validator=TEXT)
    is_public: bool | None = attrs.field(default=None, validator=FLAG)
    tag_name: str | None = attrs.field(default=None, validator=TEXT)
    server_addr: str | None = attrs.field(default=None, validator=TEXT)
    image_url: str | None = attrs.field(default=None, validator=TEXT)


@forgetful
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """The account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = attrs.field(default=None, validator=TEXT)
    user_name: str | None = attrs.field(default=None, validator=TEXT)
    password: Secret | None = attrs.field(default=None, converter=as_secret_or_none, validator=kind_is(Secret))
    email: str | None = attrs.field(default=None, validator=TEXT)


@attrs.frozen(kw_only=True)
class RepositoryName:
    """How a code repository is called: `name` alone, and `full_name`, which is owner/name."""

    name: str | None = attrs.field(default=None, validator=TEXT)
    full_name: str | None = attrs.field(default=None, validator=TEXT)


@attrs.frozen(kw_only=True)
class CodeDetail:
    """A code repository: its `name`, which is an object, and its URL."""

    name: RepositoryName | None = attrs.field(default=None, validator=kind_is(RepositoryName))
    url: str | None = attrs.field(default=None, validator=TEXT)


@forgetful
@attrs.frozen(kw_only=True)
class EsInfo:
    """The Elasticsearch that takes the logs of a service; `password` is shown in no repr."""

    id: int | None = attrs.field(default=None, validator=WHOLE)
    secret_name: str | None = attrs.field(default=None, validator=TEXT)
    ip: str | None = attrs.field(default=None, validator=TEXT)
    port: int | None = attrs.field(default=None, validator=WHOLE)
    index: str | None = attrs.field(default=None, validator=TEXT)
    account: str | None = attrs.field(default=None, validator=TEXT)
    password: Secret | None = attrs.field(default=None, converter=as_secret_or_none, validator=kind_is(Secret))


@attrs.frozen(kw_only=True)
class NfsVolume:
    """A network file system: its `server` and the `path` there; `secret_name` names its credentials."""

    server: str | None = attrs.field(default=None, validator=TEXT)
    path: str | None = attrs.field(default=None, validator=TEXT)
    read_only: bool | None = attrs.field(default=None, validator=FLAG)
    secret_name: str | None = attrs.field(default=None, validator=TEXT)
    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=FLAG)


def _as_nfs_volumes(value: Iterable[NfsVolume] | None) -> tuple[NfsVolume, ...] | None:
    return None if value is None else as_tuple(value)


@attrs.frozen(kw_only=True)
class VolumeMount:
    """Network file systems, and where a container sees them."""

    name: str | None = attrs.field(default=None, validator=TEXT)
    mount_path: str | None = attrs.field(default=None, validator=TEXT)
    read_only: bool | None = attrs.field(default=None, validator=FLAG)
    nfs_volumes: tuple[NfsVolume, ...] | None = attrs.field(
        default=None, converter=_as_nfs_volumes, validator=many(NfsVolume)
    )


def as_mounts(value: Iterable[VolumeMount] | None) -> tuple[VolumeMount, ...] | None:
    """Convert as `as_tuple` does; None stays None."""
    return None if value is None else as_tuple(value)


@attrs.frozen(kw_only=True)
class EmptyDir:
    """A temporary directory: `medium` is empty (the disk), "Memory" or "HugePages", `size_limit` a text."""

    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=FLAG)
    medium: str | None = attrs.field(default=None, validator=TEXT)
    size_limit: str | None = attrs.field(default=None, validator=TEXT)


@attrs.frozen(kw_only=True)
class ServiceVolume:
    """A volume of a service, to be mounted by its `name`; `enable_empty_dir_volume` gives way to `empty_dir`."""

    name: str | None = attrs.field(default=None, validator=TEXT)
    nfs: NfsVolume | None = attrs.field(default=None, validator=kind_is(NfsVolume))
    secret_name: str | None = attrs.field(default=None, validator=TEXT)
    enable_empty_dir_volume: bool | None = attrs.field(default=None, validator=FLAG)
    empty_dir: EmptyDir | None = attrs.field(default=None, validator=kind_is(EmptyDir))


@attrs.frozen(kw_only=True)
class ServiceVolumeMount:
    """Where the containers of a service see one of its volumes."""

    name: str | None = attrs.field(default=None, validator=TEXT)
    mount_path: str | None = attrs.field(default=None, validator=TEXT)
    read_only: bool | None = attrs.field(default=None, validator=FLAG)
    sub_path: str | None = attrs.field(default=None, validator=TEXT)
    mount_propagation: str | None = attrs.field(default=None, validator=TEXT)


@attrs.frozen(kw_only=True)
class Capabilities:
    """Linux capabilities that a container gets (`add`) and loses (`drop`)."""

    add: tuple[str, ...] | None = attrs.field(default=None, converter=as_texts_or_none, validator=_TEXTS)
    drop: tuple[str, ...] | None = attrs.field(default=None, converter=as_texts_or_none, validator=_TEXTS)


@attrs.frozen(kw_only=True)
class Security:
    """What a container may do."""

    capabilities: Capabilities | None = attrs.field(default=None, validator=kind_is(Capabilities))


@forgetful
@attrs.frozen(kw_only=True)
class SidecarSpec:
    """A container beside that of a version.

    `cpu` counts cores, `mem` megabytes (that of the version itself counts gigabytes). `env_var` are its environment
    variables, shown in no repr.
    """

    container_image: str | None = attrs.field(default=None, validator=TEXT)
    container_port: int | None = attrs.field(default=None, validator=WHOLE)
    container_name: str | None = attrs.field(default=None, validator=TEXT)
    env_var: Variables | None = attrs.field(
        default=None,
        converter=as_variables,
        validator=VARIABLES,
        repr=False,
        hash=False,
        metadata=written_as(JSON_TEXT),
    )
    initial_delay_seconds: int | None = attrs.field(default=None, validator=WHOLE)
    cpu: float | None = attrs.field(default=None, validator=field_is(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=field_is(check_number, optional=True))
    security: Security | None = attrs.field(default=None, validator=kind_is(Security))
    volume_mount_infos: tuple[VolumeMount, ...] | None = attrs.field(
        default=None, converter=as_mounts, validator=many(VolumeMount)
    )


@attrs.frozen(kw_only=True)
class PolicyDetail:
    """When a version gets more replicas: above so many percent (`policy_threshold`) of cpu, mem and the like."""

    policy_type: str | None = attrs.field(default=None, validator=TEXT)
    policy_threshold: int | None = attrs.field(default=None, validator=WHOLE)
