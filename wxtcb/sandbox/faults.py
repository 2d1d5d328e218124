"""Which fault strikes which request: decided here, played elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from math import inf
from random import Random
from typing import Final, TypedDict, Unpack, cast

from attrs import Attribute, Factory, define, field, fields, frozen
from attrs.validators import instance_of, optional

from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, Credential

__all__ = ["Fault", "FaultKind", "Faults", "InvalidFault", "parse_fault", "validate_positive_seconds"]


class FaultKind(Enum):
    """What goes wrong; `_AFTER` and everything that only changes the reply: the call took effect first."""

    BUSY = "busy"
    BUSY_AFTER = "busy-after"
    SYSTEM_ERROR_AFTER = "system-error-after"
    ERRCODE = "errcode"
    EXPIRE_TOKEN = "kill-token"
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
    INCOMPLETE_LIST = "hiccup"
    ECHO_PAGE = "echo-page"
    ECHO_MESSAGE = "echo-message"


class InvalidFault(ValueError):
    """A fault that was described in JSON is not one; the message names the place."""


def _validate_int(_fault: object, attribute: Attribute[int], value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"{attribute.name} must be an integer")


def _to_str_tuple(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("envs must be a list")
    return tuple(str(name) for name in cast("list[object]", value))


_IS_STRING: Final = instance_of(str)


def _validate_range(minimum: float, maximum: float = inf) -> Callable[[object, Attribute[float], object], None]:
    def check(_fault: object, attribute: Attribute[float], value: object) -> None:
        if type(value) not in (int, float) or not minimum <= cast("float", value) <= maximum:
            raise ValueError(f"{attribute.name} is out of range")

    return check


def _validate_status(fault: Fault, _attribute: Attribute[int], value: object) -> None:
    least, most = (300, 399) if fault.trouble is FaultKind.REDIRECT else (200, 599)
    if type(value) is not int or (value != 0 and not least <= value <= most):
        raise ValueError(f"status must be an integer from {least} to {most}, or 0")


def _validate_positive_int(_fault: object, attribute: Attribute[int], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{attribute.name} must be an integer from 1 on")


@frozen(kw_only=True)
class Fault:
    """A fault to play.

    `path`: None stands for every call that carries a token; calls without one must be named, and so must what goes to
    object storage: `/_cos/post` and `/_cos/put` (uploads), `/_cos/get` (downloads). `times`: after so many
    plays it is over; None: never. `probability`: of being played on a request that it fits, from the seeded stream.

    What else counts depends on `trouble`: `errcode` for ERRCODE and ECHO_MESSAGE; `status` for HTTP, HTTP_AFTER and
    ECHO_PAGE (0 means 502, else 200 to 599: a proxy's page can come under any) and REDIRECT (0 means 307, else 300 to
    399); `seconds` for SLOW; `megabytes` for HUGE; `text`, the raw reply, for NOT_OBJECT; `name`, a dotted one, for
    MISSING; `envs` or `newest` for HICCUP (neither: all vanish).
    """

    trouble: FaultKind = field(kw_only=False, validator=instance_of(FaultKind))
    path: str | None = field(default=None, validator=optional(_IS_STRING))
    times: int | None = field(default=None, validator=optional(_validate_positive_int))
    probability: float = field(default=1.0, validator=_validate_range(0, 1))
    errcode: int = field(default=-1, validator=_validate_int)
    status: int = field(default=0, validator=_validate_status)
    seconds: float = field(default=0.0, validator=_validate_range(0))
    megabytes: int = field(default=1, validator=_validate_positive_int)
    text: str = field(default="[]", validator=_IS_STRING)
    name: str = field(default="errcode", validator=_IS_STRING)
    envs: tuple[str, ...] = field(default=(), converter=_to_str_tuple)
    newest: int | None = field(default=None, validator=optional(_validate_positive_int))


def parse_fault(entry: object, location: str) -> Fault:
    """Read a fault from its JSON form: `{"trouble": "busy-after", "times": 1, ...}`. Strict: `InvalidFault`."""
    if not isinstance(entry, dict):
        raise InvalidFault(f"{location} must be an object")
    given = dict(cast("Mapping[str, object]", entry))
    unknown = sorted(given.keys() - {known.name for known in fields(Fault)})
    if unknown:
        raise InvalidFault(f"{location}.{unknown[0]} is unknown")
    try:
        trouble = FaultKind(given.pop("trouble", None))
        return cast("Callable[..., Fault]", Fault)(trouble, **given)
    except (TypeError, ValueError) as problem:
        raise InvalidFault(f"{location}: {problem.args[0]}") from None


class FaultOptions(TypedDict, total=False):
    """What every recipe takes: on which requests, how often, how likely; see `Fault`."""

    path: str | None
    times: int | None
    probability: float


def validate_positive_seconds(_owner: object, attribute: Attribute[float], value: object) -> None:
    """Refuse what is no length of time."""
    if type(value) not in (int, float) or not 0 < cast("float", value) < inf:
        raise ValueError(f"{attribute.name} must be a positive, finite number of seconds, or None")


@define
class _ActiveFault:
    fault: Fault
    remaining: int | None


def _matches_path(fault: Fault, path: str) -> bool:
    if fault.path is None:
        call = ENDPOINT_SCHEMAS.get(path)
        return call is not None and call.credential is not Credential.NONE
    return fault.path == path


@define(eq=False)
class Faults:
    """The faults in force.

    A path's script comes first: one entry per request, None for a request that nothing befalls. Then the first fault
    in order of adding that fits, has plays left and wins its toss. Tosses come from `seed`.

    Every trouble has a verb that adds it and returns the fault, so that tests read as sentences.

    `expire_token_every`: seconds (finite, above 0) of the world's clock after which the next call that carries a token
    finds the living one ended; None: never. Counted from the last such kill, at first from the first call; no timer
    runs.
    """

    seed: int = 0
    expire_token_every: float | None = field(default=None, validator=optional(validate_positive_seconds))
    _random: Random = field(init=False, repr=False)
    _active: list[_ActiveFault] = field(init=False, repr=False, default=Factory(list[_ActiveFault]))
    _scripts: dict[str, deque[Fault | None]] = field(
        init=False, repr=False, default=Factory(dict[str, deque[Fault | None]])
    )
    _last_expiry_at: float | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"faults {self.seed}")

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force, behind those already there."""
        self._active.append(_ActiveFault(fault, fault.times))
        return fault

    def script(self, path: str, faults: Iterable[Fault | None]) -> None:
        """Lay down what befalls the next requests to a path, one each; scripts laid later are appended.

        `path`, `times` and `probability` of a scripted fault are not looked at.
        """
        self._scripts.setdefault(path, deque()).extend(faults)

    def clear(self) -> None:
        """Lift every fault and script, and stop killing tokens."""
        self._active.clear()
        self._scripts.clear()
        self.expire_token_every = self._last_expiry_at = None

    def load(self, entries: object) -> int:
        """Add faults described in JSON: all of them, or none and `InvalidFault`; returns how many."""
        if not isinstance(entries, list):
            raise InvalidFault("$ must be an array")
        faults = [parse_fault(entry, f"$[{index}]") for index, entry in enumerate(cast("list[object]", entries))]
        for fault in faults:
            self.add(fault)
        return len(faults)

    def next_fault(self, path: str) -> Fault | None:
        """Decide what befalls this request, and use it up."""
        script = self._scripts.get(path)
        if script:
            return script.popleft()
        return next((armed.fault for armed in self._active if self._consume_if_applicable(armed, path)), None)

    def is_expiry_due(self, now: float) -> bool:
        """Say whether a living token has to end now, and count the time from here if so."""
        if self.expire_token_every is None:
            return False
        if self._last_expiry_at is None:
            self._last_expiry_at = now
        if now - self._last_expiry_at < self.expire_token_every:
            return False
        self._last_expiry_at = now
        return True

    def _consume_if_applicable(self, active: _ActiveFault, path: str) -> bool:
        if active.remaining == 0 or not _matches_path(active.fault, path):
            return False
        if self._random.random() >= active.fault.probability:
            return False
        active.remaining = active.remaining and active.remaining - 1
        return True

    def busy(self, **options: Unpack[FaultOptions]) -> Fault:
        """Answer -1 without having acted."""
        return self.add(Fault(FaultKind.BUSY, **options))

    def busy_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer -1 all the same."""
        return self.add(Fault(FaultKind.BUSY_AFTER, **options))

    def system_error_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer -1000 all the same."""
        return self.add(Fault(FaultKind.SYSTEM_ERROR_AFTER, **options))

    def errcode(self, errcode: int, **options: Unpack[FaultOptions]) -> Fault:
        """Answer this errcode without having acted."""
        return self.add(Fault(FaultKind.ERRCODE, errcode=errcode, **options))

    def reject_ticket(self, **options: Unpack[FaultOptions]) -> Fault:
        """Answer 61006 on the token call, unless another path is named."""
        where: FaultOptions = {"path": "/cgi-bin/component/api_component_token", **options}
        return self.errcode(61006, **where)

    def expire_token(self, **options: Unpack[FaultOptions]) -> Fault:
        """End the living token, then let the platform answer: 42001 to a call that carries it."""
        return self.add(Fault(FaultKind.EXPIRE_TOKEN, **options))

    def drop(self, **options: Unpack[FaultOptions]) -> Fault:
        """Close the connection without an answer and without having acted."""
        return self.add(Fault(FaultKind.DROP, **options))

    def drop_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, then close the connection without an answer."""
        return self.add(Fault(FaultKind.DROP_AFTER, **options))

    def truncate(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, announce the whole length, send half, close."""
        return self.add(Fault(FaultKind.TRUNCATE, **options))

    def slow(self, seconds: float, **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer so many real seconds later."""
        return self.add(Fault(FaultKind.SLOW, seconds=seconds, **options))

    def hang(self, **options: Unpack[FaultOptions]) -> Fault:
        """Never answer, never act; ends when the client leaves or the sandbox closes."""
        return self.add(Fault(FaultKind.HANG, **options))

    def hang_after(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, then never answer."""
        return self.add(Fault(FaultKind.HANG_AFTER, **options))

    def http(self, status: int, **options: Unpack[FaultOptions]) -> Fault:
        """Answer an HTML page with this HTTP status, without having acted."""
        return self.add(Fault(FaultKind.HTTP, status=status, **options))

    def http_after(self, status: int, **options: Unpack[FaultOptions]) -> Fault:
        """Act, then answer an HTML page with this HTTP status."""
        return self.add(Fault(FaultKind.HTTP_AFTER, status=status, **options))

    def redirect(self, status: int = 307, **options: Unpack[FaultOptions]) -> Fault:
        """Point the client at the very same URL, where a 307 that is followed would act."""
        return self.add(Fault(FaultKind.REDIRECT, status=status, **options))

    def plain(self, **options: Unpack[FaultOptions]) -> Fault:
        """Send the right answer as text/plain."""
        return self.add(Fault(FaultKind.PLAIN, **options))

    def gzip(self, **options: Unpack[FaultOptions]) -> Fault:
        """Send the right answer compressed, whatever the client accepts."""
        return self.add(Fault(FaultKind.GZIP, **options))

    def empty(self, **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer 200 with no body."""
        return self.add(Fault(FaultKind.EMPTY, **options))

    def not_object(self, text: str = "[]", **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer 200 with this text, which need not be JSON."""
        return self.add(Fault(FaultKind.NOT_OBJECT, text=text, **options))

    def missing(self, name: str, **options: Unpack[FaultOptions]) -> Fault:
        """Leave a field out of the reply; `info_list.status` takes it from every row."""
        return self.add(Fault(FaultKind.MISSING, name=name, **options))

    def huge(self, megabytes: int, **options: Unpack[FaultOptions]) -> Fault:
        """Stretch the right answer by so many megabytes of padding, sent in chunks without a length."""
        return self.add(Fault(FaultKind.HUGE, megabytes=megabytes, **options))

    def incomplete_list(self, *envs: str, newest: int | None = None, **options: Unpack[FaultOptions]) -> Fault:
        """Let describeenvs omit these environments, or the newest so many, or all."""
        return self.add(Fault(FaultKind.INCOMPLETE_LIST, envs=envs, newest=newest, **options))

    def echo_page(self, status: int = 502, **options: Unpack[FaultOptions]) -> Fault:
        """Act, and answer an HTML page that repeats the request: its URL with the token, its body."""
        return self.add(Fault(FaultKind.ECHO_PAGE, status=status, **options))

    def echo_message(self, errcode: int = 40097, **options: Unpack[FaultOptions]) -> Fault:
        """Answer an errcode whose errmsg repeats the request, without having acted."""
        return self.add(Fault(FaultKind.ECHO_MESSAGE, errcode=errcode, **options))
