"""Writes what is made from the calls and their samples; run it after a change of either: python tests/generated.py."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import wxtcb
from wxtcb import api
from wxtcb._protocol.endpoint import Endpoint, Repeat
from wxtcb.cli.config import credential_fields
from wxtcb.cli.endpoints import endpoint_groups

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "tests" / "samples"
EFFECTS = "; ".join(f"`{each.name.lower()}` {each.value}" for each in Repeat)
PAGE_BEGINS = f"""\
# Endpoints

Each call of the platform is a coroutine of its group in `wxtcb.api`, which takes the session first, and a name that
`wxtcb call` takes. *Repeat* says what a call does when it reaches the platform twice:
{EFFECTS}.

Written by `tests/generated.py` from the code.
"""
OFFICIAL = re.compile(r"Official interface: (?P<name>\S+), page (?P<page>.+)\.$")


def examples() -> str:
    """Return the documented request and reply of each call, as one gives them to `wxtcb call`, a line each."""
    lines = [f'"{endpoint.name}":{compact(example(endpoint))}' for endpoint in wxtcb.endpoints() if sample_of(endpoint)]
    return "{" + ",\n".join(lines) + "}\n"


def example(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Return what to give, without what the command line fills in itself, and what comes back."""
    sample, filled_in = sample_of(endpoint), {"action", *credential_fields(endpoint)}
    return {
        "request": {name: value for name, value in sample["request"].items() if name not in filled_in},
        "query": {name: value for name, value in sample.get("query", {}).items() if name not in filled_in},
        "reply": sample["reply"],
    }


def sample_of(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Return the sample that has the name of a call, or an empty one."""
    file = SAMPLES / f"{endpoint.name}.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def compact(value: object) -> str:
    """Write JSON without spaces, on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def page() -> str:
    """Return the table of all calls, group by group, with what stands on them."""
    groups = dict.fromkeys(endpoint_groups().values())
    return "\n".join([PAGE_BEGINS, *(line for name in groups for line in group_lines(getattr(api, name), name))])


def group_lines(group: ModuleType, name: str) -> Iterator[str]:
    """Go through the lines about one group."""
    yield f"## `wxtcb.api.{name}`\n"
    yield f"{first_sentence(group)}\n"
    yield "| coroutine | path | official interface | repeat | what it does |"
    yield "| --- | --- | --- | --- | --- |"
    for endpoint in group.ENDPOINTS:
        verb = getattr(group, endpoint.name)
        action = f" ({endpoint.action})" if endpoint.action else ""
        official, where = official_of(verb)
        yield (
            f"| `{endpoint.name}` | `{endpoint.path}`{action} | {official}, {where} | {endpoint.repeat.name.lower()} "
            f"| {first_sentence(verb)} |"
        )
    yield ""
    if more := dict(sorted(standing_on(group).items())):
        yield "Beside these:\n"
        yield from (f"- `{verb}`: {first_sentence(made)}" for verb, made in more.items())
        yield ""


def standing_on(group: ModuleType) -> dict[str, Callable[..., object]]:
    """Return the public functions of a group that are no call: what waits, goes through pages, or does several."""
    calls = {endpoint.name for endpoint in group.ENDPOINTS}
    public = getattr(group, "__all__", [name for name in vars(group) if not name.startswith("_")])
    found = {name: getattr(group, name) for name in public if name not in calls}
    return {name: made for name, made in found.items() if is_flow(made, group)}


def is_flow(made: object, group: ModuleType) -> bool:
    """Tell whether it is a function of the group, and not one that only says what is awaited."""
    own = inspect.isfunction(made) and made.__module__.startswith(group.__name__)
    return own and not str(inspect.signature(made).return_annotation).startswith("WaitCondition")


def official_of(verb: Callable[..., object]) -> tuple[str, str]:
    """Return the name of the official interface and its page, as the docstring ends."""
    told = OFFICIAL.search(" ".join(str(verb.__doc__).split()))
    return (told["name"], f"`{told['page']}`") if told else ("", "")


def first_sentence(made: object) -> str:
    """Return how the docstring of something begins, on one line."""
    words = " ".join(str(inspect.getdoc(made)).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", words.replace("|", "\\|").replace("``", "`"), maxsplit=1)[0]


FILES = {ROOT / "wxtcb" / "cli" / "examples.json": examples, ROOT / "docs" / "endpoints.md": page}

if __name__ == "__main__":
    for path, made in FILES.items():
        path.write_text(made(), encoding="utf-8")
