"""What one call of the platform is: its path, its reply, and whether it may be repeated."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar, cast

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_string, type_validator, validator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


R = TypeVar("R", bound="Reply")
R_co = TypeVar("R_co", bound="Reply", covariant=True)

_PATH: Final = re.compile(r"(/[A-Za-z0-9_.-]+)+")


def _check_path(name: str, value: object) -> None:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise InvalidArgument(f"{name} must be a path such as /componenttcb/createenv, not {value!r}")


def _check_reply(name: str, value: object) -> None:
    if not (isinstance(value, type) and issubclass(value, Reply) and attrs.has(value)):
        raise InvalidArgument(f"{name} must be an attrs class derived from wxtcb.Reply, not {value!r}")


class Repeat(Enum):
    """What happens when a call reaches the platform twice.

    ONCE and NEVER are not sent again where the first may have acted; NEVER not even where the platform, being busy,
    asks for it.
    """

    READ = "changes nothing"
    SET = "ends the same however often it runs"
    ONCE = "adds something each time"
    NEVER = "does each time what only its caller can judge"

    @property
    def is_unsafe_to_repeat(self) -> bool:
        """Whether it matters how often the call acts."""
        return self in _UNSAFE_TO_REPEAT


_UNSAFE_TO_REPEAT: Final = frozenset({Repeat.ONCE, Repeat.NEVER})


class Credential(Enum):
    """What a call authenticates itself with."""

    COMPONENT = "component_access_token in the query"
    NONE = "nothing but what its body holds"


class Reply:
    """The base of every typed reply.

    `failed` lists the entries of a batch that failed under errcode 0. `maybe_acted` is the number of earlier attempts
    of the same call that may have acted as well: more than 0 after a create means that you should look for extras.
    A class whose JSON holds a secret sets `keeps_raw` to False.
    """

    __slots__ = ("_maybe_acted", "_raw")

    keeps_raw: ClassVar[bool] = True

    _raw: bytes
    _maybe_acted: int

    @property
    def failed(self) -> Sequence[object]:
        return ()

    @property
    def maybe_acted(self) -> int:
        return getattr(self, "_maybe_acted", 0)

    def __reduce__(self) -> tuple[object, ...]:
        kind = cast("type[attrs.AttrsInstance]", type(self))
        fields = {field.alias: getattr(self, field.name) for field in attrs.fields(kind) if field.init}
        return _rebuild_reply, (kind, fields, getattr(self, "_raw", None), self.maybe_acted)


def _rebuild_reply(cls: type[R], fields: Mapping[str, object], raw: bytes | None, maybe_acted: int) -> R:
    reply = cls(**fields)
    return attach_metadata(reply, raw=raw, maybe_acted=maybe_acted)


def attach_metadata(reply: R, *, raw: bytes | None = None, maybe_acted: int = 0) -> R:
    """Write on a frozen reply what is no field of it."""
    if raw is not None:
        object.__setattr__(reply, "_raw", raw)
    if maybe_acted:
        object.__setattr__(reply, "_maybe_acted", maybe_acted)
    return reply


@attrs.frozen
class Done(Reply):
    """The reply of a call that answers errcode 0 and nothing else."""


def _last_segment(endpoint: Endpoint[Reply]) -> str:
    return str(endpoint.path).rsplit("/", 1)[-1]


@attrs.frozen
class Endpoint(Generic[R_co]):
    """One call of the platform; always a POST.

    `path` begins with a slash, `reply` is the attrs class of its answer, `name` is what ``wxtcb call`` takes,
    `official` the platform's name of the interface. Where a path does several things, `action` says which one this is:
    it is sent in query and body, for the platform's pages disagree on its place.
    """

    path: str = attrs.field(validator=validator(_check_path))
    reply: type[R_co] = attrs.field(validator=validator(_check_reply))
    repeat: Repeat = attrs.field(validator=type_validator(Repeat, optional=False))
    credential: Credential = attrs.field(
        default=Credential.COMPONENT, validator=type_validator(Credential, optional=False)
    )
    name: str = attrs.field(kw_only=True, default=attrs.Factory(_last_segment, takes_self=True))
    official: str = attrs.field(kw_only=True, default="", validator=type_validator(str, optional=False))
    action: str | None = attrs.field(kw_only=True, default=None, validator=validator(check_string, optional=True))
