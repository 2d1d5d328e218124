"""Creating, changing and deleting functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import also_spelled, wire
from wxtcb.api.functions.packaging import Code
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    Variables,
    as_texts,
    as_variables,
    check_entries,
    check_kind,
    check_text,
    check_texts,
    check_variables,
    field_is,
    forgetful,
    kind_is,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

Switch = Literal["ENABLE", "DISABLE"]


@attrs.frozen(kw_only=True)
class EnvFailure:
    """An environment in which it failed, and the platform's reason."""

    env: str
    errmsg: str = attrs.field(default="", metadata=also_spelled("errormsg"))


@attrs.frozen(kw_only=True)
class Rollout(Reply):
    """How a call for several environments went: those in which it failed."""

    err_list: tuple[EnvFailure, ...] = attrs.field(default=(), metadata=also_spelled("fail_env_list", "fail_list"))

    @property
    def failed(self) -> Sequence[EnvFailure]:
        return self.err_list


def _check_switch(name: str, value: object) -> None:
    if value not in ("ENABLE", "DISABLE"):
        raise InvalidArgument(f"{name} must be 'ENABLE' or 'DISABLE', not {value!r}")


@attrs.frozen(kw_only=True)
class PublicNet:
    """Whether a function reaches the internet, and whether from an address that stays the same."""

    public_net_status: Switch = attrs.field(validator=field_is(_check_switch))
    eip_status: Switch = attrs.field(validator=field_is(_check_switch))


@attrs.frozen(kw_only=True)
class FunctionVpc:
    """The private network of a function."""

    vpc_id: str | None = attrs.field(default=None, metadata=wire("vpcid"), validator=kind_is(str))
    subnet_id: str | None = attrs.field(default=None, metadata=wire("subnetid"), validator=kind_is(str))


@forgetful
@attrs.frozen(kw_only=True)
class FunctionConfig:
    """What is to be changed of a function's settings; what is None is left as it is.

    `memory_size` is in MB, `timeout` in seconds. `environment_variables`, shown in no repr, presumably replace those
    that there are.
    """

    memory_size: int | None = attrs.field(default=None, validator=kind_is(int))
    timeout: int | None = attrs.field(default=None, validator=kind_is(int))
    environment_variables: Variables | None = attrs.field(
        default=None,
        converter=as_variables,
        validator=field_is(check_variables, optional=True),
        repr=False,
        hash=False,
    )
    public_net: PublicNet | None = attrs.field(default=None, validator=kind_is(PublicNet))
    vpc: FunctionVpc | None = attrs.field(default=None, validator=kind_is(FunctionVpc))


BATCH_UPLOAD_SCF: Final = Endpoint(
    "/componenttcb/batchuploadscf",
    Rollout,
    Repeat.ONCE,
    name="batch_upload_scf",
    official="batchuUloadCloudFunction",
)
BATCH_UPLOAD_SCF_CODE: Final = Endpoint(
    "/componenttcb/batchuploadscfcode",
    Rollout,
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


async def batch_upload_scf(
    session: Session,
    envs: Iterable[str],
    function_name: str,
    code: Code,
    *,
    vpc_id: str | None = None,
    subnet_id: str | None = None,
) -> Rollout:
    """Create one function in several environments, which goes on afterwards: `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`; dependencies are installed in the cloud. Entry (``index.main``) and
    runtime cannot be chosen here.

    Raises `PartialFailure` when some environments failed, with the function under way in all others, and
    `OutcomeUnknown` when the answer was lost: look with `get_scf_list` in which environments it is. Look too where the
    `maybe_acted` of a failure is above 0: an earlier attempt, which the platform answered with -1, may have created it
    in environments that are told as failed.

    Official interface: batchuUloadCloudFunction, page cloudbase-batch/scf-mgnt/batchuUloadCloudFunction.
    """
    body = _upload(envs, function_name, code)
    for name, value in (("vpc_id", vpc_id), ("subnet_id", subnet_id)):
        if value is not None:
            check_text(name, value)
    return await session.call(BATCH_UPLOAD_SCF, {**body, "vpcid": vpc_id, "subnetid": subnet_id})


async def batch_upload_scf_code(session: Session, envs: Iterable[str], function_name: str, code: Code) -> Rollout:
    """Replace the code of one function in several environments, which goes on afterwards: `wait_until_active` in each.

    *code* comes from `pack` or `Code.from_zip`. A function that is still being updated refuses.

    Raises `PartialFailure` when some environments failed, with all others under way, and `OutcomeUnknown` when the
    answer was lost: wait until the function is Active, and compare, before you send it again.

    Official interface: uploadCloudFunctionCode, page cloudbase-batch/scf-mgnt/uploadCloudFunctionCode.
    """
    return await session.call(BATCH_UPLOAD_SCF_CODE, _upload(envs, function_name, code))


async def update_scf_config(session: Session, env: str, function_name: str, config: FunctionConfig) -> Done:
    """Change memory, timeout, variables and networks of a function, which goes on afterwards: `wait_until_active`.

    A function that is still being updated refuses. After `OutcomeUnknown` wait until it is Active, and compare, before
    you send it again.

    Official interface: uploadCloudFunctionConfig, page cloudbase-batch/scf-mgnt/uploadCloudFunctionConfig.
    """
    check_text("env", env)
    check_text("function_name", function_name)
    check_kind("config", config, FunctionConfig)
    names = {"env": env, "functionname": function_name}
    return await session.call(UPDATE_SCF_CONFIG, names | _settings(config))


async def delete_scf(session: Session, env: str, function_name: str) -> Done:
    """Delete a function from an environment.

    Tried again after an answer that was lost, it may be refused because nothing is left: look with `get_scf_list`.

    Official interface: deleteCloudFunction, page cloudbase-batch/scf-mgnt/deleteCloudFunction.
    """
    check_text("env", env)
    check_text("function_name", function_name)
    return await session.call(DELETE_SCF, {"functionname": function_name, "env": env})


def _settings(config: FunctionConfig) -> dict[str, object]:
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


def _upload(envs: Iterable[str], function_name: str, code: Code) -> dict[str, object]:
    check_text("function_name", function_name)
    check_kind("code", code, Code)
    return {"functionname": function_name, "envs": check_envs(envs), "zipfile": code.base64}


def check_envs(envs: Iterable[str]) -> tuple[str, ...]:
    """Return the environments that a call is for; there must be some."""
    names = as_texts(envs)
    check_texts("envs", names)
    check_entries("envs", names)
    return names
