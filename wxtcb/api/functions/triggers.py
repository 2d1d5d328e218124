"""Timer triggers of functions: read and set them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.api.functions.deployment import MultiEnvResult, validate_envs
from wxtcb.errors import InvalidArgument
from wxtcb.validation import validator

if TYPE_CHECKING:
    from wxtcb.session import Session

_TRIGGER_NAME_PATTERN: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,59}")


# CloudBase's rule for trigger names; the page of updateTriggers says only "name".
def _check_trigger_name(name: str, value: object) -> None:
    if not _TRIGGER_NAME_PATTERN.fullmatch(str(value)):
        rule = "it must start with a letter and contain at most 60 of a-z, A-Z, 0-9, '-' and '_'"
        raise InvalidArgument(f"{name} {value!r} is invalid: {rule}")


def _check_cron(name: str, value: object) -> None:
    if len(str(value).split()) != 7:
        rule = "it must have 7 fields: second, minute, hour, day, month, weekday and year, such as '0 0 2 1 * * *'"
        raise InvalidArgument(f"{name} {value!r} is invalid: {rule}")


@attrs.frozen(kw_only=True)
class Trigger:
    """A trigger to set: `config` is a schedule of 7 fields: second, minute, hour, day, month, weekday, year.

    `trigger_name` starts with a letter and contains at most 60 of a-z, A-Z, 0-9, '-' and '_'. `type` is always Timer.
    """

    trigger_name: str = attrs.field(validator=validator(_check_trigger_name))
    config: str = attrs.field(validator=validator(_check_cron))
    type: str = attrs.field(init=False, default="Timer")


@attrs.frozen(kw_only=True)
class TriggerInfo:
    """One trigger of the list."""

    trigger_name: str
    config: str
    type: str

    @property
    def is_timer(self) -> bool:
        """Whether its type is Timer, in any spelling: getTriggers returns timer, updateTriggers documents Timer."""
        return self.type.casefold() == "timer"


@attrs.frozen(kw_only=True)
class Triggers(Reply):
    """Triggers of a function."""

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
    """Return the triggers of a function.

    Official interface: getTriggers, page cloudbase-batch/scf-mgnt/getTriggers.
    """
    return await session.call(GET_TRIGGERS, {"env": env, "funcname": function_name})


async def batch_update_triggers(
    session: Session, envs: Iterable[str], function_name: str, triggers: Iterable[Trigger]
) -> MultiEnvResult:
    """Set the triggers of one function in several environments; presumably they replace the existing ones.

    CloudBase's guide allows one trigger per function. The documentation does not say whether an empty list removes all
    triggers.

    Raises `PartialFailure` if some environments failed; in the others the triggers are set.

    Official interface: updateTriggers, page cloudbase-batch/scf-mgnt/updateTriggers.
    """
    body = {"funcname": function_name, "envs": validate_envs(envs), "triggers": tuple(triggers)}
    return await session.call(BATCH_UPDATE_TRIGGERS, body)
