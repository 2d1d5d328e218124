"""New versions of container services, in one environment or in many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_fields, wire_format, wire_name
from wxtcb.api.containers.shared_models import VARIABLES_FORMAT, BatchResult
from wxtcb.secret import Secret
from wxtcb.validation import (
    Variables,
    check_not_empty,
    check_number,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    int_range,
    to_secret_or_none,
    to_str_tuple,
    to_variables,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session


# The fields of the next four classes are those of `cloudrun.models`, but this family spells some of their names without
# underscores on the wire (ispublic, tagname, fullname, registryserver, username), so the classes cannot be shared.
@attrs.frozen(kw_only=True)
class ImageInfo:
    """Image of a version: its repository and tag in the registry `server_addr`, and the address for a pull."""

    repository_name: str
    is_public: bool = attrs.field(metadata=wire_name("ispublic"))
    tag_name: str = attrs.field(metadata=wire_name("tagname"))
    server_addr: str
    image_url: str


@attrs.frozen(kw_only=True)
class RepositoryName:
    """Name of a code repository; `full_name` is owner/name."""

    name: str | None = None
    full_name: str | None = attrs.field(default=None, metadata=wire_name("fullname"))


@attrs.frozen(kw_only=True)
class CodeDetail:
    """Code repository of a version: its name and its URL."""

    name: RepositoryName | None = None
    url: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """Account of a private registry; `password` is shown in no repr."""

    registry_server: str | None = attrs.field(default=None, metadata=wire_name("registryserver"))
    user_name: str | None = attrs.field(default=None, metadata=wire_name("username"))
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))
    email: str | None = None


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class CsVersion:
    """A new version of a container service.

    `upload_type` is "package", "repository" or "image", `repository_type` "coding", "gitlab" or "github", `policy_type`
    "cpu"; other texts are sent unchanged. `flow_ratio` is the percentage of the traffic, `cpu` is in cores, `mem` in
    gigabytes, `min_num` (at least 0) and `max_num` (at most 50) are numbers of replicas. `env_params` are environment
    variables, shown in no repr. `mount_wx_token` pushes WeChat's token into the container.
    """

    service_name: str
    upload_type: str
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"), validator=int_range(0))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"), validator=int_range(0, 50))
    policy_type: str | None = None
    policy_threshold: int | None = None
    container_port: int | None = None
    repository_type: str | None = None
    dockerfile_path: str | None = None
    build_dir: str | None = None
    env_params: Variables | None = attrs.field(
        default=None,
        repr=False,
        hash=False,
        metadata=wire_format(VARIABLES_FORMAT),
        converter=to_variables,
        validator=validator(check_variables, optional=True),
    )
    repository: str | None = None
    branch: str | None = None
    version_remark: str | None = None
    package_name: str | None = None
    package_version: str | None = None
    image_info: ImageInfo | None = None
    code_detail: CodeDetail | None = None
    # A dict instead of `ImageSecretInfo` would show its password in the repr.
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=type_validator(ImageSecretInfo))
    # "pulls" is the platform's spelling.
    image_pull_secret: str | None = attrs.field(default=None, metadata=wire_name("image_pulls_secret"))
    custom_logs: str | None = None
    mount_wx_token: bool | None = None


@attrs.frozen(kw_only=True)
class NewCsVersion(Reply):
    """A new version; the platform chooses its name."""

    version_name: str | None = None


CREATE_CS_VERSION: Final = Endpoint(
    "/componenttcb/createcsversion", NewCsVersion, Repeat.ONCE, name="create_cs_version", official="createcsversion"
)
BATCH_CREATE_CS_VERSION: Final = Endpoint(
    "/componenttcb/batchcreatecsversion",
    BatchResult,
    Repeat.ONCE,
    name="batch_create_cs_version",
    official="batchcreatecsversion",
)

ENDPOINTS: Final = (CREATE_CS_VERSION, BATCH_CREATE_CS_VERSION)


async def create_cs_version(session: Session, version: CsVersion, *, env: str) -> NewCsVersion:
    """Start building a version of a service in environment *env*; every success starts another one.

    It is built in the background: call `wait_until_version_normal` before you give it traffic. Raises `OutcomeUnknown`
    if the reply was lost: check with `get_cs_version_list` for a newer version before you retry.

    Official interface: createcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/createcsversion.
    """
    return await session.call(CREATE_CS_VERSION, {"env": env, **wire_fields(version)})


async def batch_create_cs_version(session: Session, version: CsVersion, *, envs: Iterable[str]) -> BatchResult:
    """Start building the same version in many environments, each of which must have the service.

    Raises `PartialFailure` if some environments failed; the others and their version names are in ``.reply.succ_list``.
    Raises `OutcomeUnknown` if the reply was lost: check each environment with `get_cs_version_list` before you retry.
    The documentation does not say whether `mount_wx_token` applies here.

    Official interface: batchcreatecsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchcreatecsversion.
    """
    names = to_str_tuple(envs)
    check_strings("envs", names)
    check_not_empty("envs", names)
    return await session.call(BATCH_CREATE_CS_VERSION, {"envs": names, **wire_fields(version)})
