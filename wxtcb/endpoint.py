"""What one call of the platform is: its path, its reply, and whether it may be repeated."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


class Repeat(Enum):
    """What happens when a call reaches the platform twice."""

    READ = "changes nothing"
    SET = "ends the same however often it runs"
    ONCE = "adds something each time"


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


@attrs.frozen
class Done(Reply):
    """The reply of a call that answers errcode 0 and nothing else."""


R_co = TypeVar("R_co", bound=Reply, covariant=True)


def _last_segment(endpoint: Endpoint[Reply]) -> str:
    return endpoint.path.rsplit("/", 1)[-1]


@attrs.frozen
class Endpoint(Generic[R_co]):
    """One call of the platform; always a POST with a JSON body.

    `path` begins with a slash, `reply` is the attrs class of its answer, `name` is what ``wxtcb call`` takes.
    """

    path: str
    reply: type[R_co]
    repeat: Repeat
    credential: Credential = Credential.COMPONENT
    name: str = attrs.field(kw_only=True, default=attrs.Factory(_last_segment, takes_self=True))
