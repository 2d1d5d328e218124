"""How the traffic of a service is split between its versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.containers.shared_models import BatchResult
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_list_of, check_not_empty, check_string, check_type, int_range, to_tuple, validator

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class VersionFlow:
    """A version and its share of the traffic, in percent."""

    version_name: str = attrs.field(validator=validator(check_string))
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))


def _as_flows(value: Iterable[VersionFlow]) -> tuple[VersionFlow, ...]:
    return to_tuple(value)


def _check_flows(name: str, value: object) -> None:
    check_list_of(name, value, VersionFlow)
    check_not_empty(name, value)
    total = sum(flow.flow_ratio for flow in cast("tuple[VersionFlow, ...]", value))
    if total not in (0, 100):
        raise InvalidArgument(f"{name}: the flow ratios must total 100 or 0, not {total}")


@attrs.frozen(kw_only=True)
class TrafficSplit:
    """How the traffic of one service is split; the shares total 100 or 0, and a version not named gets 0."""

    env: str = attrs.field(validator=validator(check_string))
    service_name: str = attrs.field(validator=validator(check_string))
    items: tuple[VersionFlow, ...] = attrs.field(converter=_as_flows, validator=validator(_check_flows))


SET_CS_PROPOTION: Final = Endpoint(
    "/componenttcb/setcspropotion", Done, Repeat.SET, name="set_cs_propotion", official="setcspropotion"
)
BATCH_SET_CS_PROPOTION: Final = Endpoint(
    "/componenttcb/batchsetcspropotion",
    BatchResult,
    Repeat.SET,
    name="batch_set_cs_propotion",
    official="batchsetcspropotion",
)

ENDPOINTS: Final = (SET_CS_PROPOTION, BATCH_SET_CS_PROPOTION)


async def set_cs_propotion(session: Session, split: TrafficSplit) -> Done:
    """Split the traffic of a service between its versions; afterwards those that are not named get none.

    Official interface: setcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/setcspropotion.
    """
    check_type("split", split, TrafficSplit)
    return await session.call(SET_CS_PROPOTION, wire_fields(split))


async def batch_set_cs_propotion(session: Session, items: Iterable[TrafficSplit]) -> BatchResult:
    """Split the traffic of many services, each for itself.

    Raises `PartialFailure` when some failed, with the services of the others in ``.reply.succ_list``.

    Official interface: batchsetcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchSetCSPropotion.
    """
    splits = to_tuple(items)
    check_list_of("items", splits, TrafficSplit)
    check_not_empty("items", splits)
    return await session.call(BATCH_SET_CS_PROPOTION, {"items": splits})
