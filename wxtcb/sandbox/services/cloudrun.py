"""Cloud hosting: its environments, their services, the versions of these and who gets the traffic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

import orjson
from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.context import Ground, Ripening
from wxtcb.sandbox.environments import Ready
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.hosted import HostedEnvironments

__all__ = ["CloudRun", "Service", "Version"]

_LATEST: Final = "latest"
_MOST_REPLICAS: Final = 50
_UPLOADED: Final = frozenset({"jar", "war"})
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WHOLE: Final = re.compile(r"-?[0-9]+")
_NUMBERS: Final = {"cpu": _DECIMAL, "mem": _DECIMAL, "min_num": _WHOLE, "max_num": _WHOLE, "policy_threshold": _WHOLE}
_NOT_KEPT: Final = frozenset({"env_id", "server_name", "version_name", "is_rebuild", "rollback", "snapshot_name"})


@frozen
class Service:
    """A cloud-run service; `body` is the request that established it."""

    env: str
    name: str
    body: Mapping[str, object] = field(repr=False)
    created_time: str = ""


@frozen
class Version:
    """A version of a service; `body` is what it was made from and rolled over to, `flow_ratio` its share in percent."""

    name: str
    flow_ratio: int
    body: Mapping[str, object] = field(repr=False)
    created_time: str
    updated_time: str
    building: Ripening = field(repr=False, eq=False)


@define
class _Line:
    """The versions of one service, oldest first; `made` counts those that are gone too."""

    versions: dict[str, Version] = Factory(dict[str, Version])
    made: int = 0
    released: str | None = None


@define(eq=False)
class CloudRun:
    """The cloud-hosting environments, and the services and versions of any environment.

    `release_fails` True: a release is answered with `failed` under errcode 0, and moves nothing.
    """

    _ground: Ground = field(repr=False)
    _environments_after: Callable[[], Ready] = field(repr=False)
    release_fails: bool = False
    services: dict[tuple[str, str], Service] = field(init=False, repr=False, factory=dict[tuple[str, str], Service])
    environments: HostedEnvironments = field(init=False, repr=False)
    authorised: set[str] = field(init=False, repr=False, factory=set[str])
    _lines: dict[tuple[str, str], _Line] = field(init=False, repr=False, factory=dict[tuple[str, str], _Line])
    _runs: int = field(init=False, default=0)
    _orders: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.environments = HostedEnvironments(self._ground, self._environments_after)

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> Service:
        """Open a service in a NORMAL environment; a name that the environment has already is refused with 40097."""
        self._ground.need_normal(env)
        if (env, name) in self.services:
            raise refuse(40097, f"service_name {name} exists")
        self._lines[env, name] = _Line()
        service = self.services[env, name] = Service(env, name, body, self._ground.stamp())
        return service

    def authorise(self, env: str) -> None:
        """Switch the micro services of an environment on; once more changes nothing."""
        self._ground.need_normal(env)
        self.authorised.add(env)

    def versions(self, env: str, service: str) -> Mapping[str, Version]:
        """Return the versions of a service by name, oldest first; none if there is no such service."""
        return MappingProxyType(self._lines.get((env, service), _Line()).versions)

    def released(self, env: str, service: str) -> str | None:
        """Return the version that was released last, if it is still there."""
        return self._lines.get((env, service), _Line()).released

    def deploy(self, env: str, service: str, body: Mapping[str, object]) -> tuple[Version, bool]:
        """Begin another version of a service; it comes back, and whether it is built already."""
        line = self._line(env, service)
        _check(body)
        stamp, building = self._ground.stamp(), self._ground.begin()
        line.made += 1
        name = f"{service}-{line.made:03d}"
        line.versions[name] = Version(name, 0, body, stamp, stamp, building)
        self._give(line, name, cast("int", body["flow_ratio"]))
        return line.versions[name], building.look(self._ground.clock())

    def roll(self, env: str, service: str | None, name: str, body: Mapping[str, object]) -> Version:
        """Roll a version that is built over to what *body* says; the rest of it stays."""
        self._ground.need_normal(env)
        line = self._line_of(env, name) if service is None else self._line(env, service)
        version = self._built(line, _newest(line) if name == _LATEST else name)
        changes = {key: value for key, value in _as_numbers(body).items() if key not in _NOT_KEPT}
        merged = {**version.body, **changes}
        _check(merged)
        line.versions[version.name] = evolve(version, body=merged, updated_time=self._ground.stamp())
        if "flow_ratio" in changes:
            self._give(line, version.name, cast("int", changes["flow_ratio"]))
        return line.versions[version.name]

    def release(self, env: str, service: str, name: str) -> tuple[bool, int]:
        """Give a version that is built all traffic; whether it went well and the number of the order come back."""
        line = self._line(env, service)
        version = self._built(line, name)
        self._orders += 1
        if not self.release_fails:
            self._give(line, version.name, 100)
            line.released = version.name
        return not self.release_fails, self._orders

    def delete(self, env: str, service: str, name: str, *, with_service: bool) -> None:
        """Delete a version, and the service if that was its last one and it is to go too."""
        line = self._line(env, service)
        del line.versions[_known(line, name).name]
        if line.released == name:
            line.released = None
        if with_service and not line.versions:
            del self.services[env, service], self._lines[env, service]

    def run_id(self) -> str:
        """Make the number of an operation's record."""
        self._runs += 1
        return f"run{self._ground.random.getrandbits(40):010x}{self._runs:04d}"

    def _line(self, env: str, service: str) -> _Line:
        self._ground.need_normal(env)
        if (env, service) not in self.services:
            raise refuse(40097, f"server_name {service} is not there")
        return self._lines.setdefault((env, service), _Line())

    def _line_of(self, env: str, version: str) -> _Line:
        """Find the service, where it is not named, by the name of its version."""
        found = [line for (place, _), line in self._lines.items() if place == env and version in line.versions]
        if len(found) != 1:
            raise refuse(40097, f"server_name is missing, and version_name {version} does not tell it")
        return found[0]

    def _built(self, line: _Line, name: str) -> Version:
        version = _known(line, name)
        if not version.building.look(self._ground.clock()):
            raise refuse(40097, f"version_name {version.name} is still creating")
        return version

    def _give(self, line: _Line, name: str, ratio: int) -> None:
        """Give a version so much of the traffic; what goes over 100 is taken from the others, the newest first."""
        line.versions[name] = evolve(line.versions[name], flow_ratio=ratio)
        excess = sum(each.flow_ratio for each in line.versions.values()) - 100
        for other in [each for each in reversed(line.versions.values()) if each.name != name]:
            taken = min(max(excess, 0), other.flow_ratio)
            line.versions[other.name] = evolve(other, flow_ratio=other.flow_ratio - taken)
            excess -= taken


def _newest(line: _Line) -> str:
    return next(reversed(line.versions), _LATEST)


def _known(line: _Line, name: str) -> Version:
    if name not in line.versions:
        raise refuse(40097, f"version_name {name} is not there")
    return line.versions[name]


def _as_numbers(body: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a roll-over with its numbers, which come as strings, as numbers."""
    return {name: _as_number(name, cast("str", value)) if name in _NUMBERS else value for name, value in body.items()}


def _as_number(name: str, text: str) -> float:
    if not _NUMBERS[name].fullmatch(text):
        raise refuse(40097, f"{name} must be a number in a string")
    return float(text) if "." in text else int(text)


def _check(body: Mapping[str, object]) -> None:
    """Refuse what goes against a documented rule of versions."""
    flow, least, most = (cast("int", body[name]) for name in ("flow_ratio", "min_num", "max_num"))
    if not 0 <= flow <= 100:
        raise refuse(40097, "flow_ratio must be 0 to 100")
    if not 0 <= least <= most <= _MOST_REPLICAS:
        raise refuse(40097, f"min_num must be 0 or more, max_num at most {_MOST_REPLICAS} and not below it")
    if body["upload_type"] in _UPLOADED and not body.get("upload_filename"):
        raise refuse(40097, "upload_filename is required for jar and war")
    _check_variables("env_params", body.get("env_params"))
    for number, sidecar in enumerate(cast("list[dict[str, object]]", body.get("sidecar_specs", []))):
        _check_variables(f"sidecar_specs[{number}].env_var", sidecar.get("env_var"))


def _check_variables(path: str, text: object) -> None:
    if text is None:
        return
    try:
        read = orjson.loads(cast("str", text))
    except orjson.JSONDecodeError:
        read = None
    if type(read) is not dict:
        raise refuse(40097, f"{path} must be a JSON object in a string")
