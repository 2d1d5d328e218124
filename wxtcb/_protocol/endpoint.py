"""Endpoint descriptions: the path, the reply class and the idempotency of one call."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar, cast

import attrs

from wxtcb._protocol.limits import LIMITS
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_positive_int, check_string, type_validator, validator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


R = TypeVar("R", bound="Reply")
R_co = TypeVar("R_co", bound="Reply", covariant=True)

# Only plain path segments. The token is sent to base_url + path: "@host/", "?" or "#" in a path could send it to
# another host, or hide it from the platform.
_PATH: Final = re.compile(r"(/[A-Za-z0-9_.-]+)+")


class Repeat(Enum):
    """Repeat rule: the effect of a call that reaches the platform twice.

    - READ changes nothing.
    - SET has the same result however often it runs.
    - ONCE adds something each time. It is not sent again after an attempt that may have taken effect, except when the
      platform is busy (-1) and documents a retry.
    - NEVER is not sent again even then: only the caller can decide, for instance about an invoked function.
    """

    READ = "changes nothing"
    SET = "idempotent"
    ONCE = "adds something each time"
    NEVER = "only the caller can decide whether to repeat it"

    @property
    def is_unsafe_to_repeat(self) -> bool:
        """Whether a second execution has an effect of its own."""
        return self in _UNSAFE_TO_REPEAT


# Outside of the class, where a name would become a member.
_UNSAFE_TO_REPEAT: Final = frozenset({Repeat.ONCE, Repeat.NEVER})


class Credential(Enum):
    """Authentication method of a call."""

    COMPONENT = "component_access_token in the query"
    NONE = "no token; the body contains the credential"


class Reply:
    """Base class of all typed replies.

    `failed` contains the entries of a batch that failed although the errcode is 0. `maybe_acted` is the number of
    earlier attempts of the same call that may have taken effect: if it is above 0 after a create, check for
    duplicates. A class whose JSON contains a secret sets `keeps_raw` to False.
    """

    # Two slots beside the attrs fields of the subclasses: they are no part of a reply's value, so they take no part in
    # its repr, its comparison and its constructor. See `attach_metadata`.
    __slots__ = ("_maybe_acted", "_raw")

    keeps_raw: ClassVar[bool] = True

    _raw: bytes
    _maybe_acted: int

    @property
    def failed(self) -> Sequence[object]:
        return ()

    @property
    def maybe_acted(self) -> int:
        # An unset slot, the usual case, costs nothing when a reply is built.
        return getattr(self, "_maybe_acted", 0)

    # attrs generates `__getstate__` from the fields alone, which would lose the two slots.
    def __reduce__(self) -> tuple[object, ...]:
        cls = cast("type[attrs.AttrsInstance]", type(self))
        fields = {field.alias: getattr(self, field.name) for field in attrs.fields(cls) if field.init}
        return _rebuild_reply, (cls, fields, getattr(self, "_raw", None), self.maybe_acted)


def _rebuild_reply(cls: type[R], fields: Mapping[str, object], raw: bytes | None, maybe_acted: int) -> R:
    return attach_metadata(cls(**fields), raw=raw, maybe_acted=maybe_acted)


def attach_metadata(reply: R, *, raw: bytes | None = None, maybe_acted: int = 0) -> R:
    """Set the JSON and the number of earlier attempts of a reply that was just built, and return it."""
    # Reply classes are frozen, as seen by the caller. Writing the slots of a reply that no caller has yet is what the
    # `__init__` of a frozen attrs class does; a copy by `attrs.evolve` would build each reply twice.
    if raw is not None:
        object.__setattr__(reply, "_raw", raw)
    if maybe_acted:
        object.__setattr__(reply, "_maybe_acted", maybe_acted)
    return reply


@attrs.frozen
class Done(Reply):
    """The reply of a call that returns nothing but errcode 0."""


def _check_path(name: str, value: object) -> None:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise InvalidArgument(f"{name} must be a path such as /componenttcb/createenv, not {value!r}")


def _check_reply(name: str, value: object) -> None:
    if not (isinstance(value, type) and issubclass(value, Reply) and attrs.has(value)):
        raise InvalidArgument(f"{name} must be an attrs class derived from wxtcb.Reply, not {value!r}")


def _last_segment(endpoint: Endpoint[Reply]) -> str:
    # `str`, because the default is computed before the validator has checked the path.
    return str(endpoint.path).rsplit("/", 1)[-1]


@attrs.frozen
class Endpoint(Generic[R_co]):
    """One call of the platform; always a POST request.

    `path` begins with a slash. `reply` is the attrs class of the reply. `name` is the argument of ``wxtcb call``.
    `official` is the platform's name of the interface. If a path serves several purposes, `action` selects one; it is
    sent in the query and in the body. A reply of more than `max_reply_bytes`, after decompression, is a `BadReply`.
    """

    path: str = attrs.field(validator=validator(_check_path))
    reply: type[R_co] = attrs.field(validator=validator(_check_reply))
    # A wrong type here could make a create be sent twice, so both are checked at run time.
    repeat: Repeat = attrs.field(validator=type_validator(Repeat, optional=False))
    credential: Credential = attrs.field(
        default=Credential.COMPONENT, validator=type_validator(Credential, optional=False)
    )
    name: str = attrs.field(kw_only=True, default=attrs.Factory(_last_segment, takes_self=True))
    official: str = attrs.field(kw_only=True, default="", validator=type_validator(str, optional=False))
    # WeChat's pages disagree whether the action belongs into the query or into the body.
    action: str | None = attrs.field(kw_only=True, default=None, validator=validator(check_string, optional=True))
    max_reply_bytes: int = attrs.field(
        kw_only=True, default=LIMITS.reply_bytes, validator=validator(check_positive_int)
    )
