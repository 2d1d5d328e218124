"""Cloud functions: deploy, list, wait, trigger, invoke (official group: cloudbase-batch/scf-mgnt)."""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import attrs
import orjson

from wxtcb import validation
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, interned, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._pagination import by_offset
from wxtcb.api._times import parse_time
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "BATCH_UPDATE_TRIGGERS",
    "BATCH_UPLOAD_SCF",
    "BATCH_UPLOAD_SCF_CODE",
    "CREDENTIAL_FILES",
    "DEFAULT_EXCLUDES",
    "DELETE_SCF",
    "ENDPOINTS",
    "GET_SCF_LIST",
    "GET_TRIGGERS",
    "INVOKE_CLOUD_FUNCTION",
    "MAX_ZIP_BYTES",
    "UPDATE_SCF_CONFIG",
    "Code",
    "EnvFailure",
    "Function",
    "FunctionConfig",
    "FunctionEvent",
    "FunctionList",
    "FunctionVpc",
    "InvocationResult",
    "MultiEnvResult",
    "PublicNet",
    "StatusReason",
    "Switch",
    "Trigger",
    "TriggerInfo",
    "Triggers",
    "batch_update_triggers",
    "batch_upload_scf",
    "batch_upload_scf_code",
    "delete_scf",
    "get_scf_list",
    "get_triggers",
    "invoke_cloud_function",
    "iter_functions",
    "pack",
    "update_scf_config",
    "wait_until_active",
]


# Code
MAX_ZIP_BYTES: Final = LIMITS.zip_bytes
DEFAULT_EXCLUDES: Final = frozenset({".git", ".hg", ".svn", ".DS_Store", "Thumbs.db", "__pycache__"})

# Patterns of names, in lower case. Everyone who may read the code of a function can read the files in it.
CREDENTIAL_FILES: Final = frozenset(
    {
        *(".env", ".env.*", ".envrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".netrc", "_netrc", ".htpasswd"),
        *(".git-credentials", ".dockercfg", ".aws", ".azure", ".docker", ".gnupg", ".kube", ".ssh", ".tccli"),
        *("*credentials", "*credentials.*", "service-account*.json", "service_account*.json", "*.wxtcb.db*"),
        *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
        *("*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore", "*.kdbx"),
    }
)

_SIZE_LIMIT: Final = f"the limit is 20 MB ({MAX_ZIP_BYTES:,} bytes)"
# A name that leads out of the folder into which a zip is unpacked, on any system.
_ESCAPING_NAME: Final = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\].*)?$", re.DOTALL)


def _check_zip(_: Code, attribute: attrs.Attribute[bytes], data: bytes) -> None:
    """Raise `InvalidArgument` unless *data* is a zip of allowed size with a file at its root."""
    name = f"Code: {attribute.name}"
    if len(data) > MAX_ZIP_BYTES:
        sizes = f"{len(data):,} bytes, and {4 * ((len(data) + 2) // 3):,} as base64"
        raise InvalidArgument(f"{name} is too large: {sizes}; {_SIZE_LIMIT}")
    names = _zip_names(data)
    if names is None:
        raise InvalidArgument(f"{name} is not a zip ({len(data):,} bytes)")
    if escaping := next(filter(_ESCAPING_NAME.match, names), None):
        raise InvalidArgument(
            f"{name} contains a file named {escaping!r}, which is outside of the folder of the code; remove it"
        )
    # Documented: the code must be at the root of the zip, not inside a folder.
    if not any("/" not in each for each in names):
        folders = ", ".join(sorted({each.split("/")[0] for each in names})[:3])
        found = f"only folders: {folders}" if names else "nothing"
        raise InvalidArgument(
            f"{name} must contain the code at the root of the zip, not inside a folder; it contains {found}"
        )


def _zip_names(data: bytes) -> list[str] | None:
    """Return the names in a zip, or None if *data* is not a zip."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None


@attrs.frozen(repr=False)
class Code:
    """Code of a function: a zip of at most 20 MB with the code at its root, and its base64.

    The documentation does not say whether the 20 MB apply to the zip or to its base64; wxtcb checks the zip. The repr
    shows only the size, and `left_out`: the credentials that `pack` did not pack. `pack` creates the code from a
    folder, `from_zip` from a zip, both in a worker thread; this constructor blocks for up to about 50 ms.
    """

    data: bytes = attrs.field(validator=_check_zip)
    left_out: tuple[str, ...] = attrs.field(default=(), kw_only=True, eq=False)
    base64: str = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # Encoded once: the same code is usually uploaded to many environments.
        object.__setattr__(self, "base64", b64encode(self.data).decode())

    @classmethod
    async def from_zip(cls, source: bytes | str | os.PathLike[str]) -> Self:
        """Return the code of a zip in memory or of the file at a path.

        Raises `InvalidArgument` if it is not a zip, has no file at its root, has a name that leads out of the folder
        (such as ``../x``), is over 20 MB, or the file does not exist.
        """
        if isinstance(source, bytes):
            return await asyncio.to_thread(cls, source)
        path = Path(source)
        return await asyncio.to_thread(lambda: cls(_read_zip_file(path)))

    def __repr__(self) -> str:
        left_out = f", without {', '.join(self.left_out)}" if self.left_out else ""
        return f"<Code of {len(self.data):,} bytes{left_out}>"


async def pack(
    folder: str | os.PathLike[str], *, exclude: Collection[str] = DEFAULT_EXCLUDES, include: Collection[str] = ()
) -> Code:
    """Zip a *folder*, with its contents at the root of the zip; equal files give an equal zip.

    *exclude* are names of files and folders that are skipped at any depth. Credentials, such as ``.env``, ``.npmrc``
    and ``*.pem`` (all patterns: `CREDENTIAL_FILES`), are skipped too, unless their names are in *include*, which may
    contain patterns; `Code.left_out` has their paths. Links to files inside the folder are packed as these files.
    Dependencies are installed in the cloud, so ``node_modules`` may be excluded too. Raises `InvalidArgument` if the
    folder does not exist or has no file at its root, for a link to a folder or out of the folder, for a special file,
    for a name that is not UTF-8, for a file that changes meanwhile, and for more than 20 MB zipped or 500 MiB unzipped.
    Raises `OSError` for a file that cannot be read.
    """
    options = {"exclude": validation.to_str_tuple(exclude), "include": validation.to_str_tuple(include)}
    for name, names in options.items():
        validation.check_strings(name, names)
    return await asyncio.to_thread(_pack_folder, Path(folder), *map(frozenset, options.values()))


def _read_zip_file(path: Path) -> bytes:
    if not path.is_file():
        raise InvalidArgument(f"there is no zip file at {path}")
    if (size := path.stat().st_size) > MAX_ZIP_BYTES:
        raise InvalidArgument(f"{path} is too large: {size:,} bytes; {_SIZE_LIMIT}")
    return path.read_bytes()


def _pack_folder(folder: Path, exclude: frozenset[str], include: frozenset[str]) -> Code:
    if not folder.is_dir():
        reason = "there is no folder at" if not folder.exists() else "not a folder:"
        raise InvalidArgument(f"{reason} {folder}")
    # Imported here: zipfile is needed only to pack code.
    from wxtcb.api._packing import FolderZip

    folder_zip = FolderZip(folder.resolve(), exclude, CREDENTIAL_FILES, include, MAX_ZIP_BYTES)
    return Code(folder_zip.build(), left_out=tuple(folder_zip.left_out))


# Deployment
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


@validation.hide_arguments_in_traceback
@attrs.frozen(kw_only=True)
class FunctionConfig:
    """Changes to the settings of a function; None keeps a setting.

    `memory_size` is in MB, `timeout` in seconds. `environment_variables` are shown in no repr; presumably they replace
    all existing variables.
    """

    memory_size: int | None = None
    timeout: int | None = None
    environment_variables: Mapping[str, Secret] | None = attrs.field(
        default=None,
        converter=validation.to_variables,
        validator=validation.validator(validation.check_variables, optional=True),
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
    (``index.main``) and the runtime cannot be chosen here. Raises `PartialFailure` if some environments failed; in the
    others the function is being deployed. Raises `OutcomeUnknown` if the reply was lost: check with `get_scf_list`
    which environments have the function. Check this too if `maybe_acted` of a failure is above 0: an earlier attempt,
    which the platform answered with -1, may have created the function in environments that are reported as failed.
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
    return {"functionname": function_name, "envs": validation.require_strings("envs", envs), "zipfile": code.base64}


# Lists
@attrs.frozen(kw_only=True)
class StatusReason:
    """Reason why a function failed; `errcode` is a string such as ``ResourceNotFound.File``."""

    errcode: str
    errmsg: str


FunctionStatus: TypeAlias = Literal[
    "Creating",
    "CreateFailed",
    "Active",
    "Updating",
    "UpdateFailed",
    "Publishing",
    "PublishFailed",
    "Deleting",
    "DeleteFailed",
]


@attrs.frozen(kw_only=True)
class Function:
    """One function of the list.

    `status` is Active if the function is usable; at run time it may be a text that `FunctionStatus` does not contain.
    The times are ``YYYY-MM-DD HH:MM:SS`` without a time zone; `created_at` and `updated_at` take them for China
    Standard Time.
    """

    function_name: str = attrs.field(metadata=wire_name("name"))
    runtime: str = attrs.field(metadata=interned())
    status: FunctionStatus = attrs.field(metadata=interned())
    status_reason: tuple[StatusReason, ...] = ()
    add_time: str
    mod_time: str

    @property
    def created_at(self) -> datetime | None:
        """`add_time` with its time zone, or None if it is not a time."""
        return parse_time(self.add_time)

    @property
    def updated_at(self) -> datetime | None:
        """`mod_time` with its time zone, or None if it is not a time."""
        return parse_time(self.mod_time)


@attrs.frozen(kw_only=True)
class FunctionList(Reply):
    """A page of the functions of an environment; `total_count` is the number of functions on all pages."""

    total_count: int
    functions: tuple[Function, ...]


GET_SCF_LIST: Final = Endpoint(
    "/componenttcb/getscflist",
    FunctionList,
    Repeat.READ,
    name="get_scf_list",
    official="getCloudFunctionList",
    max_reply_bytes=LIMITS.list_reply_bytes,
)


async def get_scf_list(
    session: Session, env: str, *, offset: int | None = None, limit: int | None = None, search_key: str | None = None
) -> FunctionList:
    """Return a page of the functions of environment *env*: *limit* of them (default 20), from *offset* (default 0) on.

    *search_key* selects functions whose names contain it. `iter_functions` iterates over all pages.
    Official interface: getCloudFunctionList, page cloudbase-batch/scf-mgnt/getCloudFunctionList.
    """
    body = {"env": env, "offset": offset, "limit": limit, "searchkey": search_key}
    return await session.call(GET_SCF_LIST, body)


def iter_functions(
    session: Session, env: str, *, page_size: int | None = None, search_key: str | None = None
) -> AsyncIterator[Function]:
    """Iterate over all functions of environment *env*, *page_size* per call; *search_key* is as in `get_scf_list`.

    If functions are created or deleted meanwhile, others may be skipped or repeated at the edge of a page.
    """
    if page_size is not None:
        validation.check_positive_int("page_size", page_size)

    async def fetch(offset: int) -> tuple[Sequence[Function], int]:
        page = await get_scf_list(session, env, offset=offset, limit=page_size, search_key=search_key)
        return page.functions, page.total_count

    return by_offset(GET_SCF_LIST, fetch)


async def wait_until_active(
    session: Session, env: str, function_name: str, *, timeout: float = 300.0, interval: float = 5.0
) -> Function:
    """Wait until a function is Active, after it was created or changed, and return it.

    It polls every *interval* seconds. Creating, Updating and unknown statuses keep waiting, and so does a poll with a
    transient error. Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` with the platform's reason for
    CreateFailed, UpdateFailed and the like, and `OperationNotFound` if the function is missing from at least 3 polls in
    a row over 30 seconds.
    """

    async def find() -> Function | None:
        # The search also returns functions whose names only contain this one.
        found = iter_functions(session, env, search_key=function_name)
        exact = [each async for each in found if each.function_name == function_name]
        return exact[0] if exact else None

    condition = WaitCondition[Function | None, Function](
        resource=f"function {function_name} of {env}",
        find=lambda function: function,
        status_of=lambda function: function.status,
        ready_statuses=frozenset({"Active"}),
        # From Tencent Cloud's API: the platform's pages show only some of the statuses.
        failure_statuses={
            "CreateFailed": "it could not be created; delete it before you create it again",
            "UpdateFailed": "it could not be updated",
            "PublishFailed": "its version could not be published",
            "DeleteFailed": "it could not be deleted",
        },
        reason_of=lambda function: "; ".join(f"{each.errcode}: {each.errmsg}" for each in function.status_reason),
    )
    return await wait_until(session.poller(find), condition, timeout=timeout, interval=interval)


# Triggers
_TRIGGER_NAME_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")


# CloudBase's rule for trigger names; the page of updateTriggers says only "name".
def _check_trigger_name(name: str, value: object) -> None:
    if not _TRIGGER_NAME_PATTERN.fullmatch(str(value)):
        rule = "it must start with a letter and contain at most 60 of a-z, A-Z, 0-9, '-' and '_'"
        raise InvalidArgument(f"{name} {value!r} is invalid: {rule}")


def _check_cron(name: str, value: object) -> None:
    if len(str(value).split()) != 7:
        rule = "it must have 7 fields: second, minute, hour, day, month, weekday and year, such as '0 0 2 1 * * *'"
        raise InvalidArgument(f"{name} {value!r} is invalid: {rule}")


@attrs.frozen(kw_only=True)
class Trigger:
    """A trigger to set: `config` is a schedule of 7 fields: second, minute, hour, day, month, weekday, year.

    `trigger_name` starts with a letter and contains at most 60 of a-z, A-Z, 0-9, '-' and '_'. `type` is always Timer.
    """

    trigger_name: str = attrs.field(validator=validation.validator(_check_trigger_name))
    config: str = attrs.field(validator=validation.validator(_check_cron))
    type: str = attrs.field(init=False, default="Timer")


@attrs.frozen(kw_only=True)
class TriggerInfo:
    """One trigger of the list."""

    trigger_name: str
    config: str
    type: str

    @property
    def is_timer(self) -> bool:
        """Whether its type is Timer, in any spelling: getTriggers returns timer, updateTriggers documents Timer."""
        return self.type.casefold() == "timer"


@attrs.frozen(kw_only=True)
class Triggers(Reply):
    """Triggers of a function."""

    triggers: tuple[TriggerInfo, ...]


GET_TRIGGERS: Final = Endpoint(
    "/componenttcb/gettriggers",
    Triggers,
    Repeat.READ,
    name="get_triggers",
    official="getTriggers",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
BATCH_UPDATE_TRIGGERS: Final = Endpoint(
    "/componenttcb/batchupdatetriggers",
    MultiEnvResult,
    Repeat.SET,
    name="batch_update_triggers",
    official="updateTriggers",
)


async def get_triggers(session: Session, env: str, function_name: str) -> Triggers:
    """Return the triggers of a function.

    Official interface: getTriggers, page cloudbase-batch/scf-mgnt/getTriggers.
    """
    return await session.call(GET_TRIGGERS, {"env": env, "funcname": function_name})


async def batch_update_triggers(
    session: Session, envs: Iterable[str], function_name: str, triggers: Iterable[Trigger]
) -> MultiEnvResult:
    """Set the triggers of one function in several environments; presumably they replace the existing ones.

    CloudBase's guide allows one trigger per function. The documentation does not say whether an empty list removes all
    triggers. Raises `PartialFailure` if some environments failed; in the others the triggers are set.
    Official interface: updateTriggers, page cloudbase-batch/scf-mgnt/updateTriggers.
    """
    body = {"funcname": function_name, "envs": validation.require_strings("envs", envs), "triggers": tuple(triggers)}
    return await session.call(BATCH_UPDATE_TRIGGERS, body)


# Invocation
FunctionEvent = Mapping[str, object] | Sequence[object] | str | bytes | None


@attrs.frozen
class InvocationResult(Reply):
    """Return value of a function: `resp_data` is the text that the platform returned, or None."""

    resp_data: str | None = None

    # A function returns any JSON value, so `Any`: `object` would force a cast on every caller.
    @property
    def result(self) -> Any:
        """`resp_data` parsed as JSON, or the text itself if it is not JSON; see `is_json`."""
        return self._parsed[0]

    @property
    def is_json(self) -> bool:
        """Whether `resp_data` is JSON."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[Any, bool]:
        if self.resp_data is None:
            return None, False
        try:
            return orjson.loads(self.resp_data), True
        except orjson.JSONDecodeError:
            return self.resp_data, False


# Only the caller knows whether the function may run twice.
INVOKE_CLOUD_FUNCTION: Final = Endpoint(
    "/tcb/invokecloudfunction",
    InvocationResult,
    Repeat.NEVER,
    name="invoke_cloud_function",
    official="invokeCloudFunction",
    max_reply_bytes=LIMITS.document_reply_bytes,
)


async def invoke_cloud_function(
    session: Session, env: str, function_name: str, event: FunctionEvent = None, *, token: str | Secret | None = None
) -> InvocationResult:
    """Invoke a function with *event*, wait for it, and return its result.

    Bytes are sent unchanged, a string as UTF-8, everything else as JSON, and an empty event as ``{}``. The call uses
    the session's token, or *token*, the access token of an authoriser. The platform allows 5 seconds, and passes no
    OPENID to the function. A call that may have run the function is never sent again, not even if the platform is busy
    (-1): it raises `OutcomeUnknown`. Raises `InvalidArgument` for an event that cannot be written as JSON.
    Official interface: invokeCloudFunction, page cloudbase-batch/scf-mgnt/invokeCloudFunction.
    """
    token = validation.to_secret(token)
    query = {"env": env, "name": function_name}
    return await session.call(INVOKE_CLOUD_FUNCTION, _encode_event(event) or b"{}", query=query, token=token)


def _encode_event(event: FunctionEvent) -> bytes:
    if event is None or isinstance(event, bytes):
        return event or b""
    if isinstance(event, str):
        if not validation.is_valid_unicode(event):
            raise InvalidArgument("event is not valid Unicode: it contains a lone surrogate")
        return event.encode()
    try:
        data = orjson.dumps(event, default=_json_default)
    except orjson.JSONEncodeError as error:
        raise InvalidArgument(f"event cannot be written as JSON: {error}") from error
    # orjson writes NaN and infinity as null. Searching the bytes first avoids the walk through most events.
    if b"null" in data and not _is_finite(event):
        raise InvalidArgument("event cannot be written as JSON: it contains NaN or infinity")
    return data


def _is_finite(value: object) -> bool:
    """Return whether all numbers in an event are finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, Sequence) or isinstance(value, str) or all(map(_is_finite, value))


def _json_default(value: object) -> object:
    """Return a dict or list for a mapping or sequence that orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return list(value)
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


ENDPOINTS: Final = (
    BATCH_UPLOAD_SCF,
    BATCH_UPLOAD_SCF_CODE,
    UPDATE_SCF_CONFIG,
    DELETE_SCF,
    GET_SCF_LIST,
    GET_TRIGGERS,
    BATCH_UPDATE_TRIGGERS,
    INVOKE_CLOUD_FUNCTION,
)
