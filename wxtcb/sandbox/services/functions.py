"""The cloud functions of the environments."""

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
    """What starts a function by the clock."""

    trigger_name: str
    config: str


@define
class Function:
    """A function in one environment; `settings` are those that updatescfconfig has set, under their names there.

    `code` is the zip. While `readiness` is there it is not ready, and `transition` says why.
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
        """What it is called in a list."""
        if self.readiness is not None:
            return self.transition
        return _FAILURE_STATUSES[self.transition] if self.failure else "Active"

    @property
    def sha256(self) -> str:
        """The digest of its zip."""
        return hashlib.sha256(self.code).hexdigest()


@define(eq=False)
class Functions:
    """The cloud functions of the environments; what is created or changed gets ready in time, each list a look."""

    _context: ServiceContext = field(repr=False)
    functions: dict[tuple[str, str], Function] = field(init=False, factory=dict[tuple[str, str], Function])
    _handlers: dict[str, FunctionHandler] = field(init=False, repr=False, factory=dict[str, FunctionHandler])
    _failures: dict[str, tuple[str, str]] = field(init=False, repr=False, factory=dict[str, tuple[str, str]])

    def set_handler(self, name: str, handler: FunctionHandler) -> None:
        """Let *behaviour* answer calls of functions of this name; what it returns is sent as JSON, a text as it is.

        It is given the bytes of the event. Without one a function returns the event and the sha256 of its zip.
        """
        self._handlers[name] = handler

    def set_failure(
        self, name: str, errcode: str = "ResourceNotFound.File", errmsg: str = "entry file not found"
    ) -> None:
        """Let functions of this name fail whenever they are created or changed, until `clear_failure`."""
        self._failures[name] = (errcode, errmsg)

    def clear_failure(self, name: str) -> None:
        """Let them get ready again from now on."""
        self._failures.pop(name, None)

    def create(self, env: str, name: str, code: bytes, settings: Mapping[str, object]) -> None:
        """Begin to create a function in a NORMAL environment that has none of the name."""
        self._context.require_normal(env)
        if (env, name) in self.functions:
            raise platform_error(40097, f"{_FUNCTION_LABEL} exists: {name}")
        stamp = self._context.format_now()
        row = Function(env, name, code, stamp, stamp, self._context.start_operation(), settings=dict(settings))
        self.functions[env, name] = row

    def replace_code(self, env: str, name: str, code: bytes) -> None:
        """Begin to give a function another code."""
        row = self._begin_update(env, name)
        row.code = code

    def configure(self, env: str, name: str, settings: Mapping[str, object]) -> None:
        """Begin to change settings of a function; each that is given replaces what it was."""
        row = self._begin_update(env, name)
        row.settings |= settings

    def delete(self, env: str, name: str) -> None:
        """Delete a function."""
        del self.functions[env, self.get(env, name).name]

    def get(self, env: str, name: str) -> Function:
        """Return a function as it is now, or refuse one that is not there."""
        self._context.require_normal(env)
        row = self.functions.get((env, name))
        if row is None:
            raise platform_error(-501009, f"{_FUNCTION_LABEL} is not in {env}: {name}")
        self._update_status(row)
        return row

    def list(self, env: str, key: str) -> list[Function]:
        """Return the functions of an environment whose names hold *key*, oldest first: a look at each of them."""
        self._context.require_normal(env)
        found = [row for row in self.functions.values() if row.env == env and key in row.name]
        for row in found:
            if row.readiness is not None:
                row.readiness.poll(self._context.clock())
            self._update_status(row)
        return found

    def invoke(self, env: str, name: str, event: bytes) -> str:
        """Run a function that is there and was once ready; one that fails is refused with -504002."""
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
    """Return the bytes of a zip in base64, or refuse what is none, is over 20 MB, or has no file at its root."""
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
    """Act on each environment; return those where that was refused, and why."""
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
