"""What does it cost to read a reply and to write a body, beside code written by hand for them?

By hand: orjson and the constructors of the same classes, by keyword, without any check. orjson's part is in both.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any, Final

import attrs
import orjson
from environments import listing
from figures import Figure, Interval
from harness import interleave, main, working

from wxtcb._protocol.codec import encode_body, read_reply
from wxtcb.api.environment import CREATE_ENV, DESCRIBE_ENVS, EnvInfo, EnvList, NewEnv

NEW: Final = b'{"errcode":0,"errmsg":"ok","tranid":"20251122000001","env":"bench-0123456789abcdef"}'
LISTED: Final = listing(100)


def opened(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a success."""
    fields: dict[str, Any] = orjson.loads(data)
    if fields.get("errcode", 0) != 0:
        raise ValueError(fields["errcode"])
    return fields


def environments_by_hand() -> EnvList:
    """Read 100 environments as a careful author would by hand."""
    return EnvList(
        info_list=tuple(
            EnvInfo(
                env=each["env"],
                alias=each["alias"],
                create_time=each["create_time"],
                update_time=each["update_time"],
                status=each["status"],
                package_id=each.get("package_id"),
                package_name=each.get("package_name"),
                dbinstance_id=each.get("dbinstance_id"),
                bucket_id=each.get("bucket_id"),
            )
            for each in opened(LISTED)["info_list"]
        )
    )


def new_by_hand() -> NewEnv:
    """Read the reply of `create_env` by hand."""
    fields = opened(NEW)
    return NewEnv(tranid=fields["tranid"], env=fields["env"])


def body_by_hand() -> bytes:
    """Write the body of `create_env` by hand."""
    return orjson.dumps({"alias": "bench"})


def body() -> object:
    """Write the body of `create_env` as the library does."""
    return encode_body({"alias": "bench", "EnvType": None}, endpoint=CREATE_ENV.path)


@attrs.frozen
class Case:
    """One thing to do, through the library and by hand; `times` make a block."""

    name: str
    library: Callable[[], object]
    by_hand: Callable[[], object]
    times: int
    bar: float | None = None


CASES: Final = (
    Case("read 100 environments", lambda: read_reply(DESCRIBE_ENVS, LISTED), environments_by_hand, 20, 2.0),
    Case("read the reply of create_env", lambda: read_reply(CREATE_ENV, NEW), new_by_hand, 2_000),
    Case("write the body of create_env", body, body_by_hand, 5_000),
)


async def measure(chosen: argparse.Namespace) -> list[Figure]:
    """Take turns, case by case; both ways must read the same."""
    assert read_reply(DESCRIBE_ENVS, LISTED) == environments_by_hand()
    assert read_reply(CREATE_ENV, NEW) == new_by_hand()
    return [await _measure(case, 2 if chosen.quick else 100, quick=chosen.quick) for case in CASES]


async def _measure(case: Case, rounds: int, *, quick: bool) -> Figure:
    times = 1 if quick else case.times
    ways = {"floor": case.by_hand, "ours": case.library, "control": case.by_hand}
    costs = await interleave({name: working(work, times) for name, work in ways.items()}, rounds)
    return Figure(
        case.name,
        Interval.ratio(costs["ours"], costs["floor"]),
        bar=case.bar,
        ours=statistics.median(costs["ours"]),
        floor=statistics.median(costs["floor"]),
        measure="us CPU",
        beside="code written by hand",
        control=Interval.ratio(costs["control"], costs["floor"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
