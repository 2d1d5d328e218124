"""CPU time of decoding a reply and of encoding a body, compared with code written by hand.

The code written by hand uses orjson and the constructors of the same classes, by keyword, without checks. Both include
the cost of orjson.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any, Final

import attrs
import orjson
from environments import environment_list
from figures import Figure, Interval
from harness import interleave, main, work_block

from wxtcb._protocol.codec import encode_body, read_reply
from wxtcb.api.environment import CREATE_ENV, DESCRIBE_ENVS, EnvInfo, EnvList, NewEnv

NEW: Final = b'{"errcode":0,"errmsg":"ok","tranid":"20251122000001","env":"bench-0123456789abcdef"}'
LIST: Final = environment_list(100)


def parse_success(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a successful reply; raise `ValueError` for another errcode than 0."""
    fields: dict[str, Any] = orjson.loads(data)
    if fields.get("errcode", 0) != 0:
        raise ValueError(fields["errcode"])
    return fields


def environments_by_hand() -> EnvList:
    """Decode 100 environments by hand."""
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
            for each in parse_success(LIST)["info_list"]
        )
    )


def new_by_hand() -> NewEnv:
    """Decode the reply of `create_env` by hand."""
    fields = parse_success(NEW)
    return NewEnv(tranid=fields["tranid"], env=fields["env"])


def body_by_hand() -> bytes:
    """Encode the body of `create_env` by hand."""
    return orjson.dumps({"alias": "bench"})


def body_by_wxtcb() -> object:
    """Encode the body of `create_env` as wxtcb does."""
    return encode_body({"alias": "bench", "EnvType": None}, endpoint=CREATE_ENV.path)


@attrs.frozen
class Case:
    """One operation, by wxtcb and by hand, and how often a block repeats it."""

    name: str
    by_wxtcb: Callable[[], object]
    by_hand: Callable[[], object]
    times: int
    limit: float | None = None


CASES: Final = (
    Case("decode 100 environments", lambda: read_reply(DESCRIBE_ENVS, LIST), environments_by_hand, 20, 2.0),
    Case("decode the reply of create_env", lambda: read_reply(CREATE_ENV, NEW), new_by_hand, 2_000),
    Case("encode the body of create_env", body_by_wxtcb, body_by_hand, 5_000),
)


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure case by case; both ways must return equal values."""
    assert read_reply(DESCRIBE_ENVS, LIST) == environments_by_hand()
    assert read_reply(CREATE_ENV, NEW) == new_by_hand()
    return [await _measure(case, 2 if options.quick else 100, quick=options.quick) for case in CASES]


async def _measure(case: Case, rounds: int, *, quick: bool) -> Figure:
    times = 1 if quick else case.times
    works = {"baseline": case.by_hand, "wxtcb": case.by_wxtcb, "control": case.by_hand}
    costs = await interleave({name: work_block(work, times) for name, work in works.items()}, rounds)
    return Figure(
        case.name,
        Interval.ratio(costs["wxtcb"], costs["baseline"]),
        limit=case.limit,
        value=statistics.median(costs["wxtcb"]),
        baseline=statistics.median(costs["baseline"]),
        value_unit="us CPU",
        baseline_name="code written by hand",
        control=Interval.ratio(costs["control"], costs["baseline"]),
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
