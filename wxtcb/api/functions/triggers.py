"""What starts functions by the clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.api.functions.deployment import MultiEnvResult, validate_envs
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_list_of, check_string, to_tuple, validator

if TYPE_CHECKING:
    from wxtcb.session import Session

_TRIGGER_NAME_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")


def _check_trigger_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not _TRIGGER_NAME_PATTERN.fullmatch(value):
        rule = "start with a letter and hold at most 60 of a-z, A-Z, 0-9, '-' and '_'"
        raise InvalidArgument(f"{name} must {rule}, not {value!r}")


def _check_cron(name: str, value: object) -> None:
    if not isinstance(value, str) or len(value.split()) != 7:
        fields = "second, minute, hour, day, month, weekday and year, for instance '0 0 2 1 * * *'"
        raise InvalidArgument(f"{name} must have 7 fields: {fields}; not {value!r}")


@attrs.frozen(kw_only=True)
class Trigger:
    """A trigger to be set: `config` says when, in 7 fields: second, minute, hour, day, month, weekday, year.

    `trigger_name` starts with a letter and holds at most 60 of a-z, A-Z, 0-9, '-' and '_'. `type` is always Timer.
    """

    trigger_name: str = attrs.field(validator=validator(_check_trigger_name))
    config: str = attrs.field(validator=validator(_check_cron))
    type: str = attrs.field(init=False, default="Timer")


@attrs.frozen(kw_only=True)
class TriggerInfo:
    """A trigger as the platform lists it."""

    trigger_name: str
    config: str
    type: str

    @property
    def is_timer(self) -> bool:
        """Whether its type is Timer, which the platform spells in more than one way."""
        return self.type.casefold() == "timer"


@attrs.frozen(kw_only=True)
class Triggers(Reply):
    """The triggers of a function."""

    triggers: tuple[TriggerInfo, ...]


GET_TRIGGERS: Final = Endpoint(
    "/componenttcb/gettriggers", Triggers, Repeat.READ, name="get_triggers", official="getTriggers"
)
BATCH_UPDATE_TRIGGERS: Final = Endpoint(
    "/componenttcb/batchupdatetriggers",
    MultiEnvResult,
    Repeat.SET,
    name="batch_update_triggers",
    official="updateTriggers",
)

ENDPOINTS: Final = (GET_TRIGGERS, BATCH_UPDATE_TRIGGERS)


async def get_triggers(session: Session, env: str, function_name: str) -> Triggers:
    """Read the triggers of a function.

    Official interface: getTriggers, page cloudbase-batch/scf-mgnt/getTriggers.
    """
    check_string("env", env)
    check_string("function_name", function_name)
    return await session.call(GET_TRIGGERS, {"env": env, "funcname": function_name})


async def batch_update_triggers(
    session: Session, envs: Iterable[str], function_name: str, triggers: Iterable[Trigger]
) -> MultiEnvResult:
    """Set the triggers of one function in several environments, presumably instead of those that there are.

    CloudBase's guide allows one per function. Whether an empty list takes all away is not documented.

    Raises `PartialFailure` when some environments failed, with the triggers set in all others.

    Official interface: updateTriggers, page cloudbase-batch/scf-mgnt/updateTriggers.
    """
    check_string("function_name", function_name)
    timers = to_tuple(triggers)
    check_list_of("triggers", timers, Trigger)
    body = {"funcname": function_name, "envs": validate_envs(envs), "triggers": timers}
    return await session.call(BATCH_UPDATE_TRIGGERS, body)
