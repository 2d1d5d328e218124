"""One thing that goes wrong, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import inf
from typing import Final, cast

from attrs import Attribute, field, fields, frozen
from attrs.validators import instance_of, optional

__all__ = ["Fault", "FaultKind", "InvalidFault", "parse_fault"]


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
