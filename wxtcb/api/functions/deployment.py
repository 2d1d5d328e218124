"""Creating, changing and deleting functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, wire_name
from wxtcb.api.functions.packaging import Code
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    Variables,
    check_not_empty,
    check_string,
    check_strings,
    check_type,
    check_variables,
    hide_arguments_in_traceback,
    to_str_tuple,
    to_variables,
    type_validator,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

Switch = Literal["ENABLE", "DISABLE"]


@attrs.frozen(kw_only=True)
class EnvFailure:
    """An environment in which it failed, and the platform's reason."""

    env: str
    errmsg: str = attrs.field(default="", metadata=aliases("errormsg"))


@attrs.frozen(kw_only=True)
class MultiEnvResult(Reply):
    """How a call for several environments went: those in which it failed."""

    err_list: tuple[EnvFailure, ...] = attrs.field(default=(), metadata=aliases("fail_env_list", "fail_list"))

    @property
    def failed(self) -> Sequence[EnvFailure]:
        return self.err_list


def _check_switch(name: str, value: object) -> None:
    if value not in ("ENABLE", "DISABLE"):
        raise InvalidArgument(f"{name} must be 'ENABLE' or 'DISABLE', not {value!r}")


@attrs.frozen(kw_only=True)
class PublicNet:
    """Whether a function reaches the internet, and whether from an address that stays the same."""

    public_net_status: Switch = attrs.field(validator=validator(_check_switch))
    eip_status: Switch = attrs.field(validator=validator(_check_switch))


@attrs.frozen(kw_only=True)
class FunctionVpc:
    """The private network of a function."""

    vpc_id: str | None = attrs.field(default=None, metadata=wire_name("vpcid"), validator=type_validator(str))
    subnet_id: str | None = attrs.field(default=None, metadata=wire_name("subnetid"), validator=type_validator(str))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class FunctionConfig:
    """What is to be changed of a function's settings; what is None is left as it is.

    `memory_size` is in MB, `timeout` in seconds. `environment_variables`, shown in no repr, presumably replace those
    that there are.
    """

    memory_size: int | None = attrs.field(default=None, validator=type_validator(int))
    timeout: int | None = attrs.field(default=None, validator=type_validator(int))
    environment_variables: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=validator(check_variables, optional=True),
        repr=False,
        hash=False,
    )
    public_net: PublicNet | None = attrs.field(default=None, validator=type_validator(PublicNet))
    vpc: FunctionVpc | None = attrs.field(default=None, validator=type_validator(FunctionVpc))


BATCH_UPLOAD_SCF: Final = Endpoint(
    "/componenttcb/batchuploadscf",
    MultiEnvResult,
    Repeat.ONCE,
    name="batch_upload_scf",
    official="batchuUloadCloudFunction",
)
BATCH_UPLOAD_SCF_CODE: Final = Endpoint(
    "/componenttcb/batchuploadscfcode",
    MultiEnvResult,
    Repeat.ONCE,
    name="batch_upload_scf_code",
    official="uploadCloudFunctionCode",
)
UPDATE_SCF_CONFIG: Final = Endpoint(
    "/componenttcb/updatescfconfig", Done, Repeat.ONCE, name="update_scf_config", official="uploadCloudFunctionConfig"
)
DELETE_SCF: Final = Endpoint(
    "/componenttcb/deletescf", Done, Repeat.SET, name="delete_scf", official="deleteCloudFunction"
)

ENDPOINTS: Final = (BATCH_UPLOAD_SCF, BATCH_UPLOAD_SCF_CODE, UPDATE_SCF_CONFIG, DELETE_SCF)


async def batch_upload_scf(
    session: Session,
    envs: Iterable[str],
    function_name: str,
    code: Code,
    *,
    vpc_id: str | None = None,
    subnet_id: str | None = None,
) -> MultiEnvResult:
    """Create one function in several environments, which goes on afterwards: `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`; dependencies are installed in the cloud. Entry (``index.main``) and
    runtime cannot be chosen here.

    Raises `PartialFailure` when some environments failed, with the function under way in all others, and
    `OutcomeUnknown` when the answer was lost: look with `get_scf_list` in which environments it is. Look too where the
    `maybe_acted` of a failure is above 0: an earlier attempt, which the platform answered with -1, may have created it
    in environments that are told as failed.

    Official interface: batchuUloadCloudFunction, page cloudbase-batch/scf-mgnt/batchuUloadCloudFunction.
    """
    body = _upload_body(envs, function_name, code)
    for name, value in (("vpc_id", vpc_id), ("subnet_id", subnet_id)):
        if value is not None:
            check_string(name, value)
    return await session.call(BATCH_UPLOAD_SCF, {**body, "vpcid": vpc_id, "subnetid": subnet_id})


async def batch_upload_scf_code(
    session: Session, envs: Iterable[str], function_name: str, code: Code
) -> MultiEnvResult:
    """Replace the code of one function in several environments, which goes on afterwards: `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`. A function that is still being updated refuses.

    Raises `PartialFailure` when some environments failed, with all others under way, and `OutcomeUnknown` when the
    answer was lost: wait until the function is Active, and compare, before you send it again.

    Official interface: uploadCloudFunctionCode, page cloudbase-batch/scf-mgnt/uploadCloudFunctionCode.
    """
    return await session.call(BATCH_UPLOAD_SCF_CODE, _upload_body(envs, function_name, code))


async def update_scf_config(session: Session, env: str, function_name: str, config: FunctionConfig) -> Done:
    """Change memory, timeout, variables and networks of a function, which goes on afterwards: `wait_until_active`.

    A function that is still being updated refuses. After `OutcomeUnknown` wait until it is Active, and compare, before
    you send it again.

    Official interface: uploadCloudFunctionConfig, page cloudbase-batch/scf-mgnt/uploadCloudFunctionConfig.
    """
    check_string("env", env)
    check_string("function_name", function_name)
    check_type("config", config, FunctionConfig)
    names = {"env": env, "functionname": function_name}
    return await session.call(UPDATE_SCF_CONFIG, names | _config_body(config))


async def delete_scf(session: Session, env: str, function_name: str) -> Done:
    """Delete a function from an environment.

    Tried again after an answer that was lost, it may be refused because nothing is left: look with `get_scf_list`.

    Official interface: deleteCloudFunction, page cloudbase-batch/scf-mgnt/deleteCloudFunction.
    """
    check_string("env", env)
    check_string("function_name", function_name)
    return await session.call(DELETE_SCF, {"functionname": function_name, "env": env})


def _config_body(config: FunctionConfig) -> dict[str, object]:
    """Return the settings as they are sent; who can raise must not keep them, for a variable may hold a secret."""
    variables = config.environment_variables
    pairs = None if variables is None else [{"key": key, "value": text} for key, text in variables.items()]
    return {
        "memorysize": config.memory_size,
        "timeout": config.timeout,
        "environment_variables": pairs,
        "public_net_config": config.public_net,
        "vpc_config": config.vpc,
    }


def _upload_body(envs: Iterable[str], function_name: str, code: Code) -> dict[str, object]:
    check_string("function_name", function_name)
    check_type("code", code, Code)
    return {"functionname": function_name, "envs": validate_envs(envs), "zipfile": code.base64}


def validate_envs(envs: Iterable[str]) -> tuple[str, ...]:
    """Return the environments that a call is for; there must be some."""
    names = to_str_tuple(envs)
    check_strings("envs", names)
    check_not_empty("envs", names)
    return names
