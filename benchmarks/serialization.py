"""Measure what reading a reply and writing a body cost, beside code written by hand for them.

`python benchmarks/serialization.py` prints the processor time of reading 100 environments, of reading the reply of
`create_env`, and of writing its body: through the library, and by hand with orjson and the constructors of the same
classes, without any check. orjson's part is in both. They are measured in one run, in blocks that alternate; the code
by hand runs a second time as the control. If a control differs by more than 2 %, the run is void and exits with 1.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import attrs
import orjson
from call_overhead import TOLERANCE, interval, versions
from environments import listing

from wxtcb.api.environment import CREATE_ENV, DESCRIBE_ENVS, EnvInfo, EnvList, NewEnv
from wxtcb.wire import encode, read_reply

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


@attrs.frozen
class Case:
    """One thing to do, through the library and by hand; `times` make a block."""

    label: str
    library: Callable[[], object]
    by_hand: Callable[[], object]
    times: int


CASES: Final = (
    Case("read 100 environments", lambda: read_reply(DESCRIBE_ENVS, LISTED), environments_by_hand, 20),
    Case("read a new one", lambda: read_reply(CREATE_ENV, NEW), new_by_hand, 2000),
    Case(
        "write create_env",
        lambda: encode({"alias": "bench", "EnvType": None}, endpoint=CREATE_ENV.path),
        body_by_hand,
        5000,
    ),
)


def cost(work: Callable[[], object], times: int) -> float:
    """Return the microseconds of processor time that *work* takes, over *times* repetitions."""
    started = time.process_time_ns()
    for _ in range(times):
        work()
    return (time.process_time_ns() - started) / times / 1e3


def measure(case: Case, rounds: int) -> dict[str, list[float]]:
    """Return per way the costs of its pairs of blocks; within a round every way runs twice, mirrored."""
    ways = {"by hand": case.by_hand, "library": case.library, "control": case.by_hand}
    for work in ways.values():
        cost(work, case.times)
    gc.collect()
    gc.freeze()
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        pair = dict.fromkeys(ways, 0.0)
        for name in (*ways, *reversed(ways)):
            pair[name] += cost(ways[name], case.times) / 2
        for name, each in pair.items():
            costs[name].append(each)
    return costs


def report(case: Case, costs: dict[str, list[float]]) -> bool:
    """Print the figures of one case; return whether the control lets them count."""
    ratios = {
        name: interval([mine / floor for mine, floor in zip(costs[name], costs["by hand"], strict=True)])
        for name in ("library", "control")
    }
    middle, low, high = ratios["library"]
    off = ratios["control"][0]
    spent = " ".join(f"{name} {statistics.median(costs[name]):.2f} us," for name in ("library", "by hand"))
    print(f"{case.label:22} {middle:6.3f} (95 %: {low:.3f} to {high:.3f}); {spent} control {off:.3f}")
    return abs(off - 1) <= TOLERANCE


def main() -> int:
    """Measure, print, and exit with 1 if the run is void."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    chosen = parser.parse_args()
    assert read_reply(DESCRIBE_ENVS, LISTED) == environments_by_hand()
    assert read_reply(CREATE_ENV, NEW) == new_by_hand()
    print(versions())
    print(f"{chosen.rounds} rounds; {len(LISTED)} bytes of environments; ratio of the library to code by hand")
    steady = [report(case, measure(case, chosen.rounds)) for case in CASES]
    if not all(steady):
        print(f"VOID: a control is off by more than {TOLERANCE:.0%}; run again on a quieter machine")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
