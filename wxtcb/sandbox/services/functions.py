"""Cloud functions of the environments."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from attrs import define, field, frozen

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.errors import PlatformError, platform_error

__all__ = ["Function", "FunctionHandler", "Functions", "Trigger", "decode_zip", "for_each_env"]

FunctionHandler = Callable[[bytes], object]

_MAX_ZIP_BYTES: Final = 20 << 20
_FAILURE_STATUSES: Final = {"Creating": "CreateFailed", "Updating": "UpdateFailed"}
_FUNCTION_LABEL: Final = "a function of this name"


@frozen
class Trigger:
    """A timer trigger of a function."""

    trigger_name: str
    config: str


@define
class Function:
    """A function of one environment.

    `settings` are those set by updatescfconfig, under their wire names. `code` is the zip. While `readiness` is
    set, the function is not ready, and `transition` says why.
    """

    env: str
    name: str
    code: bytes = field(repr=False)
    add_time: str
    mod_time: str
    readiness: Readiness | None
    transition: str = "Creating"
    failure: tuple[str, str] | None = None
    settings: dict[str, object] = field(factory=dict[str, object])
    triggers: list[Trigger] = field(factory=list[Trigger])

    @property
    def status(self) -> str:
        """Return the status as a list shows it."""
        if self.readiness is not None:
            return self.transition
        return _FAILURE_STATUSES[self.transition] if self.failure else "Active"

    @property
    def sha256(self) -> str:
        """Return the SHA-256 digest of the zip."""
        return hashlib.sha256(self.code).hexdigest()


@define(eq=False)
class Functions:
    """The cloud functions of the environments.

    New and changed functions become ready later. One list call is one poll.
    """

    _context: ServiceContext = field(repr=False)
    functions: dict[tuple[str, str], Function] = field(init=False, factory=dict[tuple[str, str], Function])
    _handlers: dict[str, FunctionHandler] = field(init=False, repr=False, factory=dict[str, FunctionHandler])
    _failures: dict[str, tuple[str, str]] = field(init=False, repr=False, factory=dict[str, tuple[str, str]])

    def set_handler(self, name: str, handler: FunctionHandler) -> None:
        """Let *handler* answer calls of functions of this name.

        It receives the bytes of the event. Its result is sent as JSON, or unchanged if it is a string. Without
        a handler, a function returns the event and the SHA-256 digest of its zip.
        """
        self._handlers[name] = handler

    def set_failure(
        self, name: str, errcode: str = "ResourceNotFound.File", errmsg: str = "entry file not found"
    ) -> None:
        """Let functions of this name fail when they are created or changed, until `clear_failure`."""
        self._failures[name] = (errcode, errmsg)

    def clear_failure(self, name: str) -> None:
        """Let functions of this name become ready again."""
        self._failures.pop(name, None)

    def create(self, env: str, name: str, code: bytes, settings: Mapping[str, object]) -> None:
        """Start creating a function in a NORMAL environment. The name must be unused."""
        self._context.require_normal(env)
        if (env, name) in self.functions:
            raise platform_error(40097, f"{_FUNCTION_LABEL} exists: {name}")
        stamp = self._context.format_now()
        row = Function(env, name, code, stamp, stamp, self._context.start_operation(), settings=dict(settings))
        self.functions[env, name] = row

    def replace_code(self, env: str, name: str, code: bytes) -> None:
        """Start replacing the code of a function."""
        row = self._begin_update(env, name)
        row.code = code

    def configure(self, env: str, name: str, settings: Mapping[str, object]) -> None:
        """Start changing settings of a function. Each given setting replaces the old value."""
        row = self._begin_update(env, name)
        row.settings |= settings

    def delete(self, env: str, name: str) -> None:
        """Delete a function."""
        del self.functions[env, self.get(env, name).name]

    def get(self, env: str, name: str) -> Function:
        """Return a function in its present state. Raise `PlatformError` if it does not exist."""
        self._context.require_normal(env)
        row = self.functions.get((env, name))
        if row is None:
            raise platform_error(-501009, f"{_FUNCTION_LABEL} is not in {env}: {name}")
        self._update_status(row)
        return row

    def list(self, env: str, key: str) -> list[Function]:
        """Return the functions whose names contain *key*, oldest first, and count a poll of each."""
        self._context.require_normal(env)
        found = [row for row in self.functions.values() if row.env == env and key in row.name]
        for row in found:
            if row.readiness is not None:
                row.readiness.poll(self._context.clock())
            self._update_status(row)
        return found

    def invoke(self, env: str, name: str, event: bytes) -> str:
        """Run a function that was ready at least once. Raise `PlatformError` -504002 if it fails."""
        row = self.get(env, name)
        if row.transition == "Creating" and row.status != "Active":
            raise platform_error(-504002, f"{name} is {row.status}")
        behaviour = self._handlers.get(name)
        try:
            value = _default_result(row, event) if behaviour is None else behaviour(event)
            return value if isinstance(value, str) else orjson.dumps(value).decode()
        except Exception as error:
            raise platform_error(-504002, f"{name}: {error!r}") from error

    def _begin_update(self, env: str, name: str) -> Function:
        row = self.get(env, name)
        if row.readiness is not None or row.status == "CreateFailed":
            raise platform_error(40097, f"FailedOperation.FunctionStatusError: {name} is {row.status}")
        row.readiness, row.transition, row.failure = self._context.start_operation(), "Updating", None
        row.mod_time = self._context.format_now()
        return row

    def _update_status(self, function: Function) -> None:
        if function.readiness is not None and function.readiness.is_ready(self._context.clock()):
            function.readiness, function.failure = None, self._failures.get(function.name)


def decode_zip(text: str) -> bytes:
    """Return the bytes of a base64-encoded zip.

    Raise `PlatformError` if it is not a zip, exceeds 20 MB, or has no file at its root.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise platform_error(40097, "zipfile is not base64") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise platform_error(40097, "zipfile is not a zip") from None
    if len(data) > _MAX_ZIP_BYTES:
        raise platform_error(40097, f"zipfile has {len(data)} bytes, and 20 MB are allowed")
    if all("/" in name for name in names):
        raise platform_error(40097, "zipfile has no file at its root")
    return data


def for_each_env(envs: list[str], action: Callable[[str], None]) -> list[tuple[str, str]]:
    """Run *action* for each environment. Return the environments where it was rejected, and why."""
    failed: list[tuple[str, str]] = []
    for env in envs:
        try:
            action(env)
        except PlatformError as no:
            failed.append((env, no.message))
    return failed


def _default_result(function: Function, event: bytes) -> object:
    try:
        shown: object = orjson.loads(event)
    except orjson.JSONDecodeError:
        shown = event.decode(errors="replace")
    return {"event": shown, "sha256": function.sha256}
