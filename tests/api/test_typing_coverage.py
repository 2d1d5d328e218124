"""Coverage of the files in `tests/typing`, which type checkers check and never run."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import wxtcb

HERE = Path(__file__).parent
PAGES = json.loads((HERE / "paths.json").read_text("utf-8"))
DOCUMENTED = [endpoint for endpoint in wxtcb.endpoints() if endpoint.path in PAGES]
TYPING_FILES = [file.read_text("utf-8") for file in sorted((HERE.parent / "typing").glob("*.py"))]


def asserted_types(block):
    """Yield the calls whose return type a function asserts by `assert_type`, and that type."""
    made = {}
    for node in ast.walk(block):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Await(value=ast.Call() as call)):
                made[name] = call
    for node in ast.walk(block):
        match node:
            case ast.Call(func=ast.Name(id="assert_type"), args=[ast.Await(value=ast.Call() as call), kind]):
                yield last_name(call.func), last_name(kind)
            case ast.Call(func=ast.Name(id="assert_type"), args=[ast.Name(id=name), kind]) if name in made:
                yield last_name(made[name].func), last_name(kind)


def rejected_calls(text):
    """Yield the names of the calls that the type checker must reject."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if "type: ignore" in lines[node.end_lineno - 1]:
                yield name


def last_name(node):
    """Return the last part of a dotted name."""
    return ast.unparse(node).rpartition(".")[2]


ASSERTED = {pair for text in TYPING_FILES for block in ast.parse(text).body for pair in asserted_types(block)}
REJECTED = {name for text in TYPING_FILES for name in rejected_calls(text)}


@pytest.mark.parametrize("endpoint", DOCUMENTED, ids=lambda endpoint: endpoint.name)
def test_types_of_an_endpoint_are_tested(endpoint):
    """Its return type is asserted, and a wrong call is rejected."""
    assert (endpoint.name, endpoint.reply.__name__) in ASSERTED
    assert endpoint.name in REJECTED
