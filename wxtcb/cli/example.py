"""`wxtcb call NAME --example`: the documented request and reply of a call, out of `examples.json`."""

from __future__ import annotations

import shlex
from importlib import resources
from typing import TypedDict, cast

import orjson

from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.cli.console import echo_err, print_json


class Example(TypedDict):
    """What to give to a call, and what comes back."""

    request: dict[str, object]
    query: dict[str, str]
    reply: dict[str, object]


def print_example(endpoint: Endpoint[Reply]) -> int:
    """Print the request, which the call takes as it is; how it is sent and what comes back is told beside it."""
    example = read_examples()[endpoint.name]
    print_json(example["request"])
    query = [f"--query {shlex.quote(f'{name}={value}')}" for name, value in example["query"].items()]
    file = ["@FILE"] if example["request"] else []
    reply = orjson.dumps(example["reply"], option=orjson.OPT_INDENT_2).decode()
    echo_err(f"\nIt is sent by: {' '.join(['wxtcb call', endpoint.name, *query, *file])}\nThe reply:\n{reply}")
    return 0


def read_examples() -> dict[str, Example]:
    """Return the examples by the names of their calls."""
    data = resources.files("wxtcb.cli").joinpath("examples.json").read_bytes()
    return cast("dict[str, Example]", orjson.loads(data))
