"""Deployment of functions: create, replace the code, configure, delete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, wire_name
from wxtcb.api.functions.packaging import Code
from wxtcb.validation import (
    Variables,
    check_not_empty,
    check_strings,
    check_variables,
    hide_arguments_in_traceback,
    to_str_tuple,
    to_variables,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

Switch = Literal["ENABLE", "DISABLE"]


@attrs.frozen(kw_only=True)
class EnvFailure:
    """An environment in which the call failed, and the platform's reason."""

    env: str
    errmsg: str = attrs.field(default="", metadata=aliases("errormsg"))


@attrs.frozen(kw_only=True)
class MultiEnvResult(Reply):
    """Result of a call for several environments: those in which it failed."""

    # err_list (triggers), fail_env_list (create) and fail_list (code) on the pages of the three calls.
    err_list: tuple[EnvFailure, ...] = attrs.field(default=(), metadata=aliases("fail_env_list", "fail_list"))

    @property
    def failed(self) -> Sequence[EnvFailure]:
        return self.err_list


@attrs.frozen(kw_only=True)
class PublicNet:
    """Internet access of a function, and whether it uses a fixed IP address."""

    public_net_status: Switch
    eip_status: Switch


@attrs.frozen(kw_only=True)
class FunctionVpc:
    """Private network of a function."""

    vpc_id: str | None = attrs.field(default=None, metadata=wire_name("vpcid"))
    subnet_id: str | None = attrs.field(default=None, metadata=wire_name("subnetid"))


@hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class FunctionConfig:
    """Changes to the settings of a function; None keeps a setting.

    `memory_size` is in MB, `timeout` in seconds. `environment_variables` are shown in no repr; presumably they replace
    all existing variables.
    """

    memory_size: int | None = None
    timeout: int | None = None
    environment_variables: Variables | None = attrs.field(
        default=None,
        converter=to_variables,
        validator=validator(check_variables, optional=True),
        repr=False,
        hash=False,
    )
    public_net: PublicNet | None = None
    vpc: FunctionVpc | None = None


# "batchuUload" is the platform's spelling. None of the changes is SET: a function that is being updated rejects another
# update, so a repeat could fail although the first attempt took effect.
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
    """Create one function in several environments; it is deployed in the background: call `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`; dependencies are installed in the cloud. The entry point
    (``index.main``) and the runtime cannot be chosen here.

    Raises `PartialFailure` if some environments failed; in the others the function is being deployed. Raises
    `OutcomeUnknown` if the reply was lost: check with `get_scf_list` which environments have the function. Check this
    too if `maybe_acted` of a failure is above 0: an earlier attempt, which the platform answered with -1, may have
    created the function in environments that are reported as failed.

    Official interface: batchuUloadCloudFunction, page cloudbase-batch/scf-mgnt/batchuUloadCloudFunction.
    """
    body = _upload_body(envs, function_name, code)
    return await session.call(BATCH_UPLOAD_SCF, {**body, "vpcid": vpc_id, "subnetid": subnet_id})


async def batch_upload_scf_code(
    session: Session, envs: Iterable[str], function_name: str, code: Code
) -> MultiEnvResult:
    """Replace the code of one function in several environments, in the background: call `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`. The platform rejects the call while the function is being updated.

    Raises `PartialFailure` if some environments failed; the others are being updated. Raises `OutcomeUnknown` if the
    reply was lost: wait until the function is Active and compare the code before you retry.

    Official interface: uploadCloudFunctionCode, page cloudbase-batch/scf-mgnt/uploadCloudFunctionCode.
    """
    return await session.call(BATCH_UPLOAD_SCF_CODE, _upload_body(envs, function_name, code))


async def update_scf_config(session: Session, env: str, function_name: str, config: FunctionConfig) -> Done:
    """Change memory, timeout, variables or networks of a function, in the background: call `wait_until_active`.

    The platform rejects the call while the function is being updated. After `OutcomeUnknown`, wait until the function
    is Active and compare the settings before you retry.

    Official interface: uploadCloudFunctionConfig, page cloudbase-batch/scf-mgnt/uploadCloudFunctionConfig.
    """
    return await session.call(UPDATE_SCF_CONFIG, {"env": env, "functionname": function_name, **_config_body(config)})


async def delete_scf(session: Session, env: str, function_name: str) -> Done:
    """Delete a function from an environment.

    A retry after a lost reply may be rejected because the function is already deleted: check with `get_scf_list`.

    Official interface: deleteCloudFunction, page cloudbase-batch/scf-mgnt/deleteCloudFunction.
    """
    return await session.call(DELETE_SCF, {"functionname": function_name, "env": env})


# A function of its own, so that no frame in the traceback of a failed call has the plain variables as locals.
def _config_body(config: FunctionConfig) -> dict[str, object]:
    variables = config.environment_variables
    pairs = None if variables is None else [{"key": key, "value": value} for key, value in variables.items()]
    return {
        "memorysize": config.memory_size,
        "timeout": config.timeout,
        "environment_variables": pairs,
        "public_net_config": config.public_net,
        "vpc_config": config.vpc,
    }


def _upload_body(envs: Iterable[str], function_name: str, code: Code) -> dict[str, object]:
    return {"functionname": function_name, "envs": validate_envs(envs), "zipfile": code.base64}


def validate_envs(envs: Iterable[str]) -> tuple[str, ...]:
    """Return environment ids as a tuple; raise `InvalidArgument` for an empty list or a single string."""
    names = to_str_tuple(envs)
    check_strings("envs", names)
    check_not_empty("envs", names)
    return names
