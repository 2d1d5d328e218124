"""Traffic split of a service between its versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.containers.shared_models import BatchResult
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_not_empty, int_range

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class VersionFlow:
    """A version and its percentage of the traffic."""

    version_name: str
    flow_ratio: int = attrs.field(validator=int_range(0, 100, optional=False))


def _as_flows(value: Iterable[VersionFlow]) -> tuple[VersionFlow, ...]:
    return tuple(value)


def _check_flows(_: TrafficSplit, attribute: attrs.Attribute[Any], flows: tuple[VersionFlow, ...]) -> None:
    name = f"TrafficSplit: {attribute.name}"
    check_not_empty(name, flows)
    total = sum(flow.flow_ratio for flow in flows)
    if total not in (0, 100):
        raise InvalidArgument(f"{name}: the flow ratios must add up to 100 or 0, not {total}")


@attrs.frozen(kw_only=True)
class TrafficSplit:
    """Traffic split of one service; the percentages add up to 100 or 0, and a version that is not listed gets 0."""

    env: str
    service_name: str
    items: tuple[VersionFlow, ...] = attrs.field(converter=_as_flows, validator=_check_flows)


# "propotion" is the platform's own spelling, in the paths and the official names.
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
    """Split the traffic of a service between its versions; versions that are not listed get none.

    Official interface: setcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/setcspropotion.
    """
    return await session.call(SET_CS_PROPOTION, wire_fields(split))


async def batch_set_cs_propotion(session: Session, items: Iterable[TrafficSplit]) -> BatchResult:
    """Split the traffic of many services, each between its own versions.

    Raises `PartialFailure` if some services failed; the others are in ``.reply.succ_list``.

    Official interface: batchsetcspropotion, page Third-party_Platforms/2.0/api/cloudbase/batch/batchSetCSPropotion.
    """
    splits = tuple(items)
    check_not_empty("items", splits)
    return await session.call(BATCH_SET_CS_PROPOTION, {"items": splits})
