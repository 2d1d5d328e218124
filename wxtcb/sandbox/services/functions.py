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

from wxtcb.sandbox.context import Ground, Ripening
from wxtcb.sandbox.errors import Refused, refuse

__all__ = ["Behaviour", "Function", "Functions", "Trigger", "each_env", "open_zip"]

Behaviour = Callable[[bytes], object]

_MOST: Final = 20 << 20
_FAILED: Final = {"Creating": "CreateFailed", "Updating": "UpdateFailed"}
_NAME: Final = "a function of this name"


@frozen
class Trigger:
    """What starts a function by the clock."""

    trigger_name: str
    config: str


@define
class Function:
    """A function in one environment; `settings` are those that updatescfconfig has set, under their names there.

    `code` is the zip. While `work` is there it is not ready, and `doing` says why.
    """

    env: str
    name: str
    code: bytes = field(repr=False)
    add_time: str
    mod_time: str
    work: Ripening | None
    doing: str = "Creating"
    failure: tuple[str, str] | None = None
    settings: dict[str, object] = field(factory=dict[str, object])
    triggers: list[Trigger] = field(factory=list[Trigger])

    @property
    def status(self) -> str:
        """What it is called in a list."""
        if self.work is not None:
            return self.doing
        return _FAILED[self.doing] if self.failure else "Active"

    @property
    def sha256(self) -> str:
        """The digest of its zip."""
        return hashlib.sha256(self.code).hexdigest()


@define(eq=False)
class Functions:
    """The cloud functions of the environments; what is created or changed gets ready in time, each list a look."""

    _ground: Ground = field(repr=False)
    rows: dict[tuple[str, str], Function] = field(init=False, factory=dict[tuple[str, str], Function])
    _behaviours: dict[str, Behaviour] = field(init=False, repr=False, factory=dict[str, Behaviour])
    _failures: dict[str, tuple[str, str]] = field(init=False, repr=False, factory=dict[str, tuple[str, str]])

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """Let *behaviour* answer calls of functions of this name; what it returns is sent as JSON, a text as it is.

        It is given the bytes of the event. Without one a function returns the event and the sha256 of its zip.
        """
        self._behaviours[name] = behaviour

    def fail(self, name: str, errcode: str = "ResourceNotFound.File", errmsg: str = "entry file not found") -> None:
        """Let functions of this name fail whenever they are created or changed, until `mend`."""
        self._failures[name] = (errcode, errmsg)

    def mend(self, name: str) -> None:
        """Let them get ready again from now on."""
        self._failures.pop(name, None)

    def create(self, env: str, name: str, code: bytes, settings: Mapping[str, object]) -> None:
        """Begin to create a function in a NORMAL environment that has none of the name."""
        self._ground.need_normal(env)
        if (env, name) in self.rows:
            raise refuse(40097, f"{_NAME} exists: {name}")
        stamp = self._ground.stamp()
        row = Function(env, name, code, stamp, stamp, self._ground.begin(), settings=dict(settings))
        self.rows[env, name] = row

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
        del self.rows[env, self.find(env, name).name]

    def find(self, env: str, name: str) -> Function:
        """Return a function as it is now, or refuse one that is not there."""
        self._ground.need_normal(env)
        row = self.rows.get((env, name))
        if row is None:
            raise refuse(-501009, f"{_NAME} is not in {env}: {name}")
        self._ripen(row)
        return row

    def list(self, env: str, key: str) -> list[Function]:
        """Return the functions of an environment whose names hold *key*, oldest first: a look at each of them."""
        self._ground.need_normal(env)
        found = [row for row in self.rows.values() if row.env == env and key in row.name]
        for row in found:
            if row.work is not None:
                row.work.look(self._ground.clock())
            self._ripen(row)
        return found

    def invoke(self, env: str, name: str, event: bytes) -> str:
        """Run a function that is there and was once ready; one that fails is refused with -504002."""
        row = self.find(env, name)
        if row.doing == "Creating" and row.status != "Active":
            raise refuse(-504002, f"{name} is {row.status}")
        behaviour = self._behaviours.get(name)
        try:
            value = _echo(row, event) if behaviour is None else behaviour(event)
            return value if isinstance(value, str) else orjson.dumps(value).decode()
        except Exception as error:
            raise refuse(-504002, f"{name}: {error!r}") from error

    def _begin_update(self, env: str, name: str) -> Function:
        row = self.find(env, name)
        if row.work is not None or row.status == "CreateFailed":
            raise refuse(40097, f"FailedOperation.FunctionStatusError: {name} is {row.status}")
        row.work, row.doing, row.failure = self._ground.begin(), "Updating", None
        row.mod_time = self._ground.stamp()
        return row

    def _ripen(self, row: Function) -> None:
        if row.work is not None and row.work.is_ready(self._ground.clock()):
            row.work, row.failure = None, self._failures.get(row.name)


def open_zip(text: str) -> bytes:
    """Return the bytes of a zip in base64, or refuse what is none, is over 20 MB, or has no file at its root."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise refuse(40097, "zipfile is not base64") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise refuse(40097, "zipfile is not a zip") from None
    if len(data) > _MOST:
        raise refuse(40097, f"zipfile has {len(data)} bytes, and 20 MB are allowed")
    if all("/" in name for name in names):
        raise refuse(40097, "zipfile has no file at its root")
    return data


def each_env(envs: list[str], act: Callable[[str], None]) -> list[tuple[str, str]]:
    """Act on each environment; return those where that was refused, and why."""
    failed: list[tuple[str, str]] = []
    for env in envs:
        try:
            act(env)
        except Refused as no:
            failed.append((env, no.message))
    return failed


def _echo(row: Function, event: bytes) -> object:
    try:
        shown: object = orjson.loads(event)
    except orjson.JSONDecodeError:
        shown = event.decode(errors="replace")
    return {"event": shown, "sha256": row.sha256}
