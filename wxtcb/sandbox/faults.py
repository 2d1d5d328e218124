"""Faults: what can go wrong with a request, and which fault applies to which request."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from math import inf
from random import Random
from typing import Final, TypedDict, Unpack, cast

import orjson
from attrs import Attribute, Factory, define, evolve, field, fields, frozen
from attrs.validators import instance_of, optional

from wxtcb.sandbox.cos.store import LinkMethod
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, CredentialKind


class FaultKind(Enum):
    """Kind of fault; the values are the names in the admin API and in `SeenRequest.outcome`."""

    BUSY = "busy"
    BUSY_AFTER = "busy-after"
    SYSTEM_ERROR_AFTER = "system-error-after"
    ERRCODE = "errcode"
    EXPIRE_TOKEN = "expire-token"
    DROP = "drop"
    DROP_AFTER = "drop-after"
    TRUNCATE = "truncate"
    SLOW = "slow"
    HANG = "hang"
    HANG_AFTER = "hang-after"
    HTTP = "http"
    HTTP_AFTER = "http-after"
    REDIRECT = "redirect"
    PLAIN = "plain"
    GZIP = "gzip"
    EMPTY = "empty"
    NOT_OBJECT = "not-object"
    MISSING = "missing"
    HUGE = "huge"
    INCOMPLETE_LIST = "incomplete-list"
    ECHO_PAGE = "echo-page"
    ECHO_MESSAGE = "echo-message"

    @property
    def takes_effect(self) -> bool:
        """Whether the platform handles the call before the fault changes the response."""
        return self not in _WITHOUT_EFFECT


_WITHOUT_EFFECT: Final = {
    *(FaultKind.BUSY, FaultKind.ERRCODE, FaultKind.ECHO_MESSAGE),
    *(FaultKind.DROP, FaultKind.HANG, FaultKind.HTTP, FaultKind.REDIRECT),
}


FAULT_KINDS: Final = tuple(kind.value for kind in FaultKind)


# By the last part, which is what a misspelled path is compared with: the paths have long beginnings in common.
_PATHS_BY_NAME: Final = {
    path.rpartition("/")[2]: path for path in (*ENDPOINT_SCHEMAS, *(method.value for method in LinkMethod))
}


class InvalidFault(ValueError):
    """A JSON description of faults is invalid."""


# The validators compare `type(value)` because a bool is an instance of int: `"times": true` is an error.
def _validate_int(_fault: object, attribute: Attribute[int], value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"{attribute.name} must be an integer")


def _validate_positive_int(_fault: object, attribute: Attribute[int], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{attribute.name} must be an integer of at least 1")


def _validate_range(minimum: float, maximum: float) -> Callable[[object, Attribute[float], object], None]:
    def validate(_fault: object, attribute: Attribute[float], value: object) -> None:
        if type(value) not in (int, float) or not minimum <= cast("float", value) <= maximum:
            raise ValueError(f"{attribute.name} must be a number from {minimum} to {maximum}")

    return validate


def _validate_status(fault: Fault, _attribute: Attribute[int], value: object) -> None:
    # A 1xx status is never final, and only 3xx is a redirect.
    minimum, maximum = (300, 399) if fault.kind is FaultKind.REDIRECT else (200, 599)
    if type(value) is not int or (value != 0 and not minimum <= value <= maximum):
        raise ValueError(f"status must be an integer from {minimum} to {maximum}, or 0 for the default")


def validate_positive_seconds(_owner: object, attribute: Attribute[float], value: object) -> None:
    """Raise `ValueError` unless *value* is a positive, finite number."""
    if type(value) not in (int, float) or not 0 < cast("float", value) < inf:
        raise ValueError(f"{attribute.name} must be a positive, finite number of seconds, or None")


def _validate_path(_fault: object, _attribute: Attribute[str], value: object) -> None:
    _check_path(value)


def _check_path(path: object) -> None:
    """Raise `TypeError` or `ValueError` unless a fault can apply to requests of *path*."""
    if not isinstance(path, str):
        raise TypeError("path must be a string")
    if path not in _PATHS_BY_NAME.values():
        similar = difflib.get_close_matches(path.rpartition("/")[2], _PATHS_BY_NAME, n=1)
        hint = (
            f"did you mean {_PATHS_BY_NAME[similar[0]]}?" if similar else "expected one such as /componenttcb/createenv"
        )
        raise ValueError(f"path {path!r} does not exist in the sandbox; {hint}")


def _to_str_tuple(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("envs must be a list")
    return tuple(str(name) for name in cast("list[object]", value))


@frozen(kw_only=True)
class Fault:
    """One fault, with the requests it applies to.

    - `path`: the path it applies to. None applies to every call that carries a token. A call without a token must be
      named, and so must object storage: `/_cos/post` and `/_cos/put` (uploads), `/_cos/get` (downloads).
    - `times`: number of requests after which the fault is used up; None for no limit.
    - `probability`: chance to apply to a matching request, from 0 to 1, drawn from the seed of `Faults`.

    The other fields are the arguments of the method of `Faults` for the `kind`. `status` is 200 to 599 (0 means 502)
    for HTTP, HTTP_AFTER and ECHO_PAGE, and 300 to 399 (0 means 307) for REDIRECT.

    Raises `TypeError` or `ValueError` for an invalid field, such as a `path` that does not exist.
    """

    kind: FaultKind = field(kw_only=False, validator=instance_of(FaultKind))
    path: str | None = field(default=None, validator=optional(_validate_path))
    times: int | None = field(default=None, validator=optional(_validate_positive_int))
    probability: float = field(default=1.0, validator=_validate_range(0, 1))
    errcode: int = field(default=-1, validator=_validate_int)
    # A proxy may put its own page behind any status, 200 included, so HTTP accepts more than errors.
    status: int = field(default=0, validator=_validate_status)
    seconds: float = field(default=0.0, validator=_validate_range(0, inf))
    megabytes: int = field(default=1, validator=_validate_positive_int)
    text: str = field(default="[]", validator=instance_of(str))
    name: str = field(default="errcode", validator=instance_of(str))
    envs: tuple[str, ...] = field(default=(), converter=_to_str_tuple)
    newest: int | None = field(default=None, validator=optional(_validate_positive_int))


def parse_fault(entry: object, location: str) -> Fault:
    """Return the fault that `{"kind": "busy-after", "times": 1, ...}` describes, or raise `InvalidFault`."""
    if not isinstance(entry, dict):
        raise InvalidFault(f"{location} must be an object")
    given = dict(cast("Mapping[str, object]", entry))
    kind = given.pop("kind", None)
    unknown = sorted(given.keys() - {known.name for known in fields(Fault) if known.name != "kind"})
    if unknown:
        raise InvalidFault(f"{location}.{unknown[0]} is unknown")
    if kind not in FAULT_KINDS:
        raise InvalidFault(f"{location}: kind {kind!r} is unknown; known are {', '.join(FAULT_KINDS)}")
    try:
        return cast("Callable[..., Fault]", Fault)(FaultKind(kind), **given)
    except (TypeError, ValueError) as error:
        # attrs puts the message first, followed by the attribute, the type and the value.
        raise InvalidFault(f"{location}: {error.args[0]}") from error


def parse_fault_option(text: str) -> Fault:
    """Return the fault that `KIND[:PATH[:TIMES]][,NAME=VALUE...]` describes, or raise `InvalidFault`.

    Each value is JSON, or a string if it is not: `slow:/componenttcb/createenv:2,seconds=3`.
    """
    target, *pairs = text.split(",")
    kind, *place = target.split(":")
    if len(place) > 2 or not all("=" in pair for pair in pairs):
        raise InvalidFault("expected KIND[:PATH[:TIMES]][,NAME=VALUE...], such as drop-after:/componenttcb/createenv:2")
    if len(place) == 2:
        pairs.append(f"times={place[1]}")
    options = {name: _parse_value(value) for name, value in (pair.split("=", 1) for pair in pairs)}
    return parse_fault({"kind": kind, "path": (place and place[0]) or None, **options}, kind)


def _parse_value(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class FaultOptions(TypedDict, total=False):
    """Fields of `Fault` that every method of `Faults` accepts."""

    path: str | None
    times: int | None
    probability: float


@define
class _ActiveFault:
    fault: Fault
    remaining: int | None


@define(eq=False)
class Faults:
    """The active faults, and the scripts of paths.

    A path's script comes first, with one entry for each request; None leaves a request undisturbed. After it, the
    first active fault applies that matches the path, is not used up, and wins its draw. Draws follow from `seed`.

    For each kind of fault there is a method that adds the fault and returns it.

    `expire_token_every`: seconds of the world's clock (finite, above 0) between forced expirations of the component
    token; None for none. The next call that carries a token finds it expired. The interval starts with the first
    such call, and again with each expiration; no timer runs.
    """

    seed: int = 0
    expire_token_every: float | None = field(default=None, validator=optional(validate_positive_seconds))
    _random: Random = field(init=False, repr=False)
    _active: list[_ActiveFault] = field(init=False, repr=False, default=Factory(list[_ActiveFault]))
    _scripts: dict[str, deque[Fault | None]] = field(init=False, repr=False, factory=dict[str, deque[Fault | None]])
    _last_expiry_at: float | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"faults {self.seed}")

    def add(self, fault: Fault) -> Fault:
        """Activate a fault, after those that are active already."""
        self._active.append(_ActiveFault(fault, fault.times))
        return fault

    def script(self, path: str, faults: Iterable[Fault | None]) -> None:
        """Append one entry to the path's script for each of the next requests.

        The fields `path`, `times` and `probability` of a scripted fault are ignored. Raises `ValueError` for a path
        that does not exist.
        """
        _check_path(path)
        self._scripts.setdefault(path, deque()).extend(faults)

    def clear(self) -> None:
        """Remove all faults and scripts, and stop expiring tokens."""
        self._active.clear()
        self._scripts.clear()
        self.expire_token_every = self._last_expiry_at = None

    @property
    def active(self) -> list[Fault]:
        """The active faults, with the remaining number of requests in `times`."""
        return [evolve(each.fault, times=each.remaining) for each in self._active if each.remaining != 0]

    def load(self, entries: object) -> int:
        """Add faults described in JSON and return their number, or raise `InvalidFault` and add none."""
        if not isinstance(entries, list):
            raise InvalidFault("$ must be an array")
        # All are parsed before the first is added, so that an invalid entry leaves no half of a list behind.
        faults = [parse_fault(entry, f"$[{index}]") for index, entry in enumerate(cast("list[object]", entries))]
        for fault in faults:
            self.add(fault)
        return len(faults)

    def next_fault(self, path: str) -> Fault | None:
        """Return the fault for a request to *path* and count it as used; None if no fault applies."""
        script = self._scripts.get(path)
        if script:
            return script.popleft()
        for active in self._active:
            # Draw last: a fault that cannot apply must not consume a random number, or the draws of the others shift.
            matches = active.remaining != 0 and _matches_path(active.fault, path)
            if matches and self._random.random() < active.fault.probability:
                if active.remaining is not None:
                    active.remaining -= 1
                return active.fault
        return None

    def is_expiry_due(self, now: float) -> bool:
        """Return whether the token must expire now; if so, the next interval starts."""
        if self.expire_token_every is None:
            return False
        if self._last_expiry_at is None:
            self._last_expiry_at = now
        is_due = now - self._last_expiry_at >= self.expire_token_every
        if is_due:
            self._last_expiry_at = now
        return is_due

    def busy(self, **options: Unpack[FaultOptions]) -> Fault:
        """Respond -1; the call has no effect."""
        return self.add(Fault(FaultKind.BUSY, **options))

    def busy_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Respond -1 although the call took effect."""
        return self.add(Fault(FaultKind.BUSY_AFTER, **options))

    def system_error_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Respond -1000 although the call took effect."""
        return self.add(Fault(FaultKind.SYSTEM_ERROR_AFTER, **options))

    def errcode(self, errcode: int, **options: Unpack[FaultOptions]) -> Fault:
        """Respond *errcode*; the call has no effect."""
        return self.add(Fault(FaultKind.ERRCODE, errcode=errcode, **options))

    def reject_ticket(self, **options: Unpack[FaultOptions]) -> Fault:
        """Respond 61006 to api_component_token, or to the path given."""
        with_path: FaultOptions = {"path": "/cgi-bin/component/api_component_token", **options}
        return self.errcode(61006, **with_path)

    def expire_token(self, **options: Unpack[FaultOptions]) -> Fault:
        """Expire the component token, then handle the call; a call that carries the token gets 42001."""
        return self.add(Fault(FaultKind.EXPIRE_TOKEN, **options))

    def drop(self, **options: Unpack[FaultOptions]) -> Fault:
        """Close the connection without a response; the call has no effect."""
        return self.add(Fault(FaultKind.DROP, **options))

    def drop_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Close the connection without a response after the call took effect."""
        return self.add(Fault(FaultKind.DROP_AFTER, **options))

    def truncate(self, **options: Unpack[FaultOptions]) -> Fault:
        """Announce the full length, send half of the response, and close the connection."""
        return self.add(Fault(FaultKind.TRUNCATE, **options))

    def slow(self, seconds: float, **options: Unpack[FaultOptions]) -> Fault:
        """Respond *seconds* after the call took effect, by the `sleep` of the sandbox."""
        return self.add(Fault(FaultKind.SLOW, seconds=seconds, **options))

    def hang(self, **options: Unpack[FaultOptions]) -> Fault:
        """Never respond; the request ends when the client disconnects or the sandbox closes. It has no effect."""
        return self.add(Fault(FaultKind.HANG, **options))

    def hang_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Never respond after the call took effect."""
        return self.add(Fault(FaultKind.HANG_AFTER, **options))

    def http(self, status: int, **options: Unpack[FaultOptions]) -> Fault:
        """Respond an HTML page with this HTTP status; the call has no effect."""
        return self.add(Fault(FaultKind.HTTP, status=status, **options))

    def http_after(self, status: int, **options: Unpack[FaultOptions]) -> Fault:
        """Respond an HTML page with this HTTP status after the call took effect."""
        return self.add(Fault(FaultKind.HTTP_AFTER, status=status, **options))

    def redirect(self, status: int = 307, **options: Unpack[FaultOptions]) -> Fault:
        """Redirect to the same URL; the call takes effect only if the client follows a 307 or 308."""
        return self.add(Fault(FaultKind.REDIRECT, status=status, **options))

    def plain(self, **options: Unpack[FaultOptions]) -> Fault:
        """Send the correct response as text/plain."""
        return self.add(Fault(FaultKind.PLAIN, **options))

    def gzip(self, **options: Unpack[FaultOptions]) -> Fault:
        """Send the correct response compressed, even if the client does not accept gzip."""
        return self.add(Fault(FaultKind.GZIP, **options))

    def empty(self, **options: Unpack[FaultOptions]) -> Fault:
        """Respond 200 with an empty body after the call took effect."""
        return self.add(Fault(FaultKind.EMPTY, **options))

    def not_object(self, text: str = "[]", **options: Unpack[FaultOptions]) -> Fault:
        """Respond 200 with this text, which need not be JSON, after the call took effect."""
        return self.add(Fault(FaultKind.NOT_OBJECT, text=text, **options))

    def missing(self, name: str, **options: Unpack[FaultOptions]) -> Fault:
        """Remove a field from the response; `info_list.status` removes it from every row."""
        return self.add(Fault(FaultKind.MISSING, name=name, **options))

    def huge(self, megabytes: int, **options: Unpack[FaultOptions]) -> Fault:
        """Pad the correct response by so many megabytes, sent in chunks without a Content-Length."""
        return self.add(Fault(FaultKind.HUGE, megabytes=megabytes, **options))

    def incomplete_list(self, *envs: str, newest: int | None = None, **options: Unpack[FaultOptions]) -> Fault:
        """Omit these environments from describeenvs, or the *newest* ones, or all."""
        return self.add(Fault(FaultKind.INCOMPLETE_LIST, envs=envs, newest=newest, **options))

    def echo_page(self, status: int = 502, **options: Unpack[FaultOptions]) -> Fault:
        """Respond an HTML page that contains the request, token included, after the call took effect."""
        return self.add(Fault(FaultKind.ECHO_PAGE, status=status, **options))

    def echo_message(self, errcode: int = 40097, **options: Unpack[FaultOptions]) -> Fault:
        """Respond an errcode whose errmsg contains the request; the call has no effect."""
        return self.add(Fault(FaultKind.ECHO_MESSAGE, errcode=errcode, **options))


def _matches_path(fault: Fault, path: str) -> bool:
    if fault.path is not None:
        return fault.path == path
    # Without a path, skip the calls that carry no token: a test of busy calls would otherwise never get a token.
    schema = ENDPOINT_SCHEMAS.get(path)
    return schema is not None and schema.credential is not CredentialKind.NONE
