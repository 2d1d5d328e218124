"""New versions: what each is made of, in one environment or the same in many."""

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
    check_string,
    check_strings,
    check_type,
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


@attrs.frozen(kw_only=True)
class ImageInfo:
    """The image that a version is made of: its repository and tag at the registry `server_addr`, and where to pull."""

    repository_name: str = attrs.field(validator=validator(check_string))
    is_public: bool = attrs.field(metadata=wire_name("ispublic"), validator=type_validator(bool, optional=False))
    tag_name: str = attrs.field(metadata=wire_name("tagname"), validator=validator(check_string))
    server_addr: str = attrs.field(validator=validator(check_string))
    image_url: str = attrs.field(validator=validator(check_string))


@attrs.frozen(kw_only=True)
class RepositoryName:
    """What a code repository is called; `full_name` is its owner and its name, parted by a slash."""

    name: str | None = attrs.field(default=None, validator=type_validator(str))
    full_name: str | None = attrs.field(default=None, metadata=wire_name("fullname"), validator=type_validator(str))


@attrs.frozen(kw_only=True)
class CodeDetail:
    """The code repository that a version is made of."""

    name: RepositoryName | None = attrs.field(default=None, validator=type_validator(RepositoryName))
    url: str | None = attrs.field(default=None, validator=type_validator(str))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class ImageSecretInfo:
    """The account at the registry of a private image; `password` is shown in no repr."""

    registry_server: str | None = attrs.field(
        default=None, metadata=wire_name("registryserver"), validator=type_validator(str)
    )
    user_name: str | None = attrs.field(default=None, metadata=wire_name("username"), validator=type_validator(str))
    password: Secret | None = attrs.field(default=None, converter=to_secret_or_none, validator=type_validator(Secret))
    email: str | None = attrs.field(default=None, validator=type_validator(str))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class CsVersion:
    """A version of a container service to be created.

    `upload_type` is "package", "repository" or "image", `repository_type` "coding", "gitlab" or "github", `policy_type`
    "cpu"; another text is passed on as it is. `flow_ratio` is the share of the traffic in percent, `cpu` counts cores,
    `mem` gigabytes, `min_num` (0 or more) and `max_num` (50 at most) replicas. `env_params` are the environment
    variables, in no repr. With `mount_wx_token` WeChat's token is pushed into the container.
    """

    service_name: str = attrs.field(validator=validator(check_string))
    upload_type: str = attrs.field(validator=validator(check_string))
    flow_ratio: int | None = attrs.field(default=None, validator=int_range(0, 100))
    cpu: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    mem: float | None = attrs.field(default=None, validator=validator(check_number, optional=True))
    min_num: int | None = attrs.field(default=None, metadata=wire_name("minnum"), validator=int_range(0))
    max_num: int | None = attrs.field(default=None, metadata=wire_name("maxnum"), validator=int_range(0, 50))
    policy_type: str | None = attrs.field(default=None, validator=type_validator(str))
    policy_threshold: int | None = attrs.field(default=None, validator=type_validator(int))
    container_port: int | None = attrs.field(default=None, validator=type_validator(int))
    repository_type: str | None = attrs.field(default=None, validator=type_validator(str))
    dockerfile_path: str | None = attrs.field(default=None, validator=type_validator(str))
    build_dir: str | None = attrs.field(default=None, validator=type_validator(str))
    env_params: Variables | None = attrs.field(
        default=None,
        repr=False,
        hash=False,
        metadata=wire_format(VARIABLES_FORMAT),
        converter=to_variables,
        validator=validator(check_variables, optional=True),
    )
    repository: str | None = attrs.field(default=None, validator=type_validator(str))
    branch: str | None = attrs.field(default=None, validator=type_validator(str))
    version_remark: str | None = attrs.field(default=None, validator=type_validator(str))
    package_name: str | None = attrs.field(default=None, validator=type_validator(str))
    package_version: str | None = attrs.field(default=None, validator=type_validator(str))
    image_info: ImageInfo | None = attrs.field(default=None, validator=type_validator(ImageInfo))
    code_detail: CodeDetail | None = attrs.field(default=None, validator=type_validator(CodeDetail))
    image_secret_info: ImageSecretInfo | None = attrs.field(default=None, validator=type_validator(ImageSecretInfo))
    image_pull_secret: str | None = attrs.field(
        default=None, metadata=wire_name("image_pulls_secret"), validator=type_validator(str)
    )
    custom_logs: str | None = attrs.field(default=None, validator=type_validator(str))
    mount_wx_token: bool | None = attrs.field(default=None, validator=type_validator(bool))


@attrs.frozen(kw_only=True)
class NewCsVersion(Reply):
    """A new version, by the name that the platform gave it."""

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
    """Begin to build a version of a service in environment *env*; every success begins another one.

    It is built afterwards: `wait_until_version_normal` before you give it traffic. When no answer comes,
    `OutcomeUnknown`: look with `get_cs_version_list` for a newer version before you try again.

    Official interface: createcsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/createcsversion.
    """
    check_type("version", version, CsVersion)
    check_string("env", env)
    return await session.call(CREATE_CS_VERSION, {"env": env, **wire_fields(version)})


async def batch_create_cs_version(session: Session, version: CsVersion, *, envs: Iterable[str]) -> BatchResult:
    """Begin to build the same version in many environments, each of which must have the service.

    Raises `PartialFailure` when some failed, with the environments and names of the others in ``.reply.succ_list``.
    When no answer comes, `OutcomeUnknown`: look at each environment with `get_cs_version_list` before you try again.
    Whether `mount_wx_token` counts here is not documented.

    Official interface: batchcreatecsversion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchcreatecsversion.
    """
    check_type("version", version, CsVersion)
    names = to_str_tuple(envs)
    check_strings("envs", names)
    check_not_empty("envs", names)
    return await session.call(BATCH_CREATE_CS_VERSION, {"envs": names, **wire_fields(version)})
