"""Cloud functions of the environments."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import orjson
from attrs import define, field

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import Readiness, ServiceContext, run_batch

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler

FunctionHandler = Callable[[bytes], object]

_TRIGGER_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")
# Every other field of the two calls is stored as a setting.
_NON_SETTINGS: Final = frozenset({"env", "functionname", "envs", "zipfile"})


@define
class CloudFunction:
    """A function of one environment. While `readiness` is set, it is not ready, and `transition` says why."""

    env: str
    name: str
    code: bytes = field(repr=False)
    add_time: str
    mod_time: str
    readiness: Readiness | None
    transition: str = "Creating"
    failure: tuple[str, str] | None = None
    settings: dict[str, object] = field(factory=dict[str, object])
    triggers: list[dict[str, str]] = field(factory=list[dict[str, str]])

    @property
    def status(self) -> str:
        if self.readiness is not None:
            return self.transition
        failed = "CreateFailed" if self.transition == "Creating" else "UpdateFailed"
        return failed if self.failure else "Active"


@define(eq=False)
class Functions:
    """The cloud functions. New and changed ones become ready later. One list call is one poll."""

    _context: ServiceContext = field(repr=False)
    functions: dict[tuple[str, str], CloudFunction] = field(init=False, factory=dict[tuple[str, str], CloudFunction])
    _handlers: dict[str, FunctionHandler] = field(init=False, repr=False, factory=dict[str, FunctionHandler])
    _failures: dict[str, tuple[str, str]] = field(init=False, repr=False, factory=dict[str, tuple[str, str]])

    def set_handler(self, name: str, handler: FunctionHandler) -> None:
        """Set the handler of functions of this name, whose result is sent as JSON, or unchanged if it is a string."""
        self._handlers[name] = handler

    def set_failure(
        self, name: str, errcode: str = "ResourceNotFound.File", errmsg: str = "entry file not found"
    ) -> None:
        """Make functions of this name fail when they are created or changed, until `clear_failure`."""
        self._failures[name] = (errcode, errmsg)

    def clear_failure(self, name: str) -> None:
        self._failures.pop(name, None)

    def create(self, body: Body) -> Mapping[str, object]:
        """Start creating a function in each environment, which must be NORMAL. The name must be unused there."""
        name, code, settings = body.string("functionname"), _decode_zip(body.string("zipfile")), _settings(body)

        def create_in(env: str) -> None:
            self._context.require_normal(env)
            if (env, name) in self.functions:
                raise platform_error(40097, f"a function of this name exists: {name}")
            now, operation = self._context.format_now(), self._context.start_operation()
            # A copy for each environment: the settings are changed independently later.
            self.functions[env, name] = CloudFunction(env, name, code, now, now, operation, settings=dict(settings))

        return {"fail_env_list": _for_each_env(body, create_in)}

    def replace_code(self, body: Body) -> Mapping[str, object]:
        """Start replacing the code in each environment; failures are listed with `errormsg` here."""
        name, code = body.string("functionname"), _decode_zip(body.string("zipfile"))

        def replace_in(env: str) -> None:
            self._begin_update(env, name).code = code

        return {"fail_list": _for_each_env(body, replace_in, "errormsg")}

    def configure(self, body: Body) -> None:
        """Start changing settings of a function. Each given setting replaces the old value."""
        self._begin_update(body.string("env"), body.string("functionname")).settings |= _settings(body)

    def delete(self, body: Body) -> None:
        function = self._get(body.string("env"), body.string("functionname"))
        del self.functions[function.env, function.name]

    def list(self, body: Body) -> Mapping[str, object]:
        """List a page of the functions whose names contain the search key, and count a poll of each match."""
        page, env, key = body.page(), body.string("env"), body.optional_string("searchkey") or ""
        self._context.require_normal(env)
        found = [function for function in self.functions.values() if function.env == env and key in function.name]
        for function in found:
            if function.readiness is not None:
                function.readiness.poll(self._context.clock())
            self._update_status(function)
        return {"total_count": len(found), "functions": [_function_row(function) for function in found[page]]}

    def list_triggers(self, body: Body) -> Mapping[str, object]:
        """List the triggers of one function; unlike in the request, their type is in lower case."""
        return {"triggers": self._get(body.string("env"), body.string("funcname")).triggers}

    def set_triggers(self, body: Body) -> Mapping[str, object]:
        name, triggers = body.string("funcname"), [_parse_trigger(row) for row in body.objects("triggers")]

        def set_in(env: str) -> None:
            # A list for each environment: they are changed independently later.
            self._get(env, name).triggers = triggers.copy()

        return {"err_list": _for_each_env(body, set_in)}

    def invoke(self, body: Body) -> Mapping[str, object]:
        """Run a function that was ready at least once. Raise `PlatformError` -504002 if it fails."""
        name, event = body.string("name"), body.raw_body
        function = self._get(body.string("env"), name)
        # One that was ready once can also be invoked while it is updated, and after a failed update.
        if function.transition == "Creating" and function.status != "Active":
            raise platform_error(-504002, f"{name} is {function.status}")
        handler = self._handlers.get(name)
        try:
            value = _default_result(function, event) if handler is None else handler(event)
            return {"resp_data": value if isinstance(value, str) else orjson.dumps(value).decode()}
        # The handler belongs to a test and may raise anything; so may the code of a real function.
        except Exception as error:
            raise platform_error(-504002, f"{name}: {error!r}") from error

    def _get(self, env: str, name: str) -> CloudFunction:
        self._context.require_normal(env)
        function = self.functions.get((env, name))
        if function is None:
            raise platform_error(-501009, f"a function of this name is not in {env}: {name}")
        self._update_status(function)
        return function

    def _begin_update(self, env: str, name: str) -> CloudFunction:
        function = self._get(env, name)
        if function.readiness is not None or function.status == "CreateFailed":
            raise platform_error(40097, f"FailedOperation.FunctionStatusError: {name} is {function.status}")
        function.readiness, function.transition, function.failure = self._context.start_operation(), "Updating", None
        function.mod_time = self._context.format_now()
        return function

    def _update_status(self, function: CloudFunction) -> None:
        if function.readiness is not None and function.readiness.is_ready(self._context.clock()):
            function.readiness, function.failure = None, self._failures.get(function.name)


def _decode_zip(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise platform_error(40097, "zipfile is not base64") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise platform_error(40097, "zipfile is not a zip") from None
    # The page leaves open whether the 20 MB apply to the zip or to its base64. Clients are given the larger limit.
    if len(data) > 20 << 20:
        raise platform_error(40097, f"zipfile has {len(data)} bytes, and 20 MB are allowed")
    if all("/" in name for name in names):
        raise platform_error(40097, "zipfile has no file at its root")
    return data


def _for_each_env(body: Body, action: Callable[[str], None], message_name: str = "errmsg") -> list[dict[str, str]]:
    """Run *action* for each environment. Return the environments where it was rejected, and why."""
    items = [Body({"env": env}) for env in body.strings("envs")]
    return run_batch(("env",), items, lambda item: action(item.string("env")), message_name)["fail_list"]


def _default_result(function: CloudFunction, event: bytes) -> object:
    try:
        shown: object = orjson.loads(event)
    except orjson.JSONDecodeError:
        shown = event.decode(errors="replace")
    return {"event": shown, "sha256": hashlib.sha256(function.code).hexdigest()}


def _settings(body: Body) -> dict[str, object]:
    return {name: value for name, value in body.fields.items() if name not in _NON_SETTINGS}


def _parse_trigger(row: Body) -> dict[str, str]:
    name, config = row.string("trigger_name"), row.string("config")
    if row.string("type") != "Timer":
        raise platform_error(40097, "type must be Timer")
    if _TRIGGER_NAME.fullmatch(name) is None:
        message = "trigger_name must start with a letter and have at most 60 characters of a-zA-Z0-9-_"
        raise platform_error(40097, message)
    # Cron with seconds and years: second, minute, hour, day, month, weekday, year.
    if len(config.split()) != 7:
        raise platform_error(40097, "config must have 7 fields")
    return {"trigger_name": name, "config": config, "type": "timer"}


def _function_row(function: CloudFunction) -> dict[str, object]:
    reasons = [dict(zip(("errcode", "errmsg"), function.failure, strict=True))] if function.failure else []
    row: dict[str, object] = {"name": function.name, "runtime": "Nodejs8.9", "status": function.status}
    return {**row, "status_reason": reasons, "add_time": function.add_time, "mod_time": function.mod_time}


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/batchuploadscf": lambda world, body: world.functions.create(body),
    "/componenttcb/batchuploadscfcode": lambda world, body: world.functions.replace_code(body),
    "/componenttcb/updatescfconfig": lambda world, body: world.functions.configure(body),
    "/componenttcb/deletescf": lambda world, body: world.functions.delete(body),
    "/componenttcb/getscflist": lambda world, body: world.functions.list(body),
    "/componenttcb/gettriggers": lambda world, body: world.functions.list_triggers(body),
    "/componenttcb/batchupdatetriggers": lambda world, body: world.functions.set_triggers(body),
    "/tcb/invokecloudfunction": lambda world, body: world.functions.invoke(body),
}
