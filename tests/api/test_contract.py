"""What every call owes: each test fails by the name of the call that lacks something.

`paths.json` holds what the platform's pages say: all paths, the name of each interface, what it does to the world, and
what it carries. It is not written from the code.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import attrs
import pytest

import wxtcb
from wxtcb import Repeat, Secret, api
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS

HERE = Path(__file__).parent
PAGES = json.loads((HERE / "paths.json").read_text("utf-8"))
GROUPS = {name: getattr(api, name) for name in api.__all__ if name != "endpoints"}
OFFICIAL = re.compile(r"Official interface: (\S+), page (?:\S*/)?(\w+)(?:\.html)?\.$")
ALLOWED = {
    "read": {"READ"},
    "create-not-idempotent": {"ONCE", "NEVER"},
    "invoke": {"ONCE", "NEVER"},
    "update-idempotent": {"SET", "ONCE", "NEVER"},  # not set, where a late repeat would undo what is newer
    "delete": {"SET", "ONCE", "NEVER"},
}

each_call = pytest.mark.parametrize("endpoint", wxtcb.endpoints(), ids=lambda endpoint: endpoint.name)
each_page = pytest.mark.parametrize(("path", "page"), PAGES.items(), ids=PAGES)


def coroutine_of(endpoint):
    """Return the coroutine function of a call, which its group has under the name of the call."""
    [group] = [group for group in GROUPS.values() if endpoint in group.ENDPOINTS]
    verb = getattr(group, endpoint.name, None)
    assert verb, f"{group.__name__} has no coroutine {endpoint.name}"
    assert verb.__module__.startswith(group.__name__)
    return verb


def effect_of(endpoint):
    """Return what the platform's page says that a call does, or None for a call that is newer than the list."""
    effect = PAGES.get(endpoint.path, {}).get("effect")
    return effect[endpoint.action] if isinstance(effect, dict) else effect


def holds_secret(kind):
    """Tell whether a value of an attrs class, or one deep inside, may be secret."""
    attrs.resolve_types(kind)
    return any(map(is_secret, (field.type for field in attrs.fields(kind))))


def is_secret(kind):
    """Tell whether a value of this type may hold a secret."""
    parts = getattr(kind, "__args__", ())
    return (
        kind is Secret
        or any(map(is_secret, parts))
        or (isinstance(kind, type) and attrs.has(kind) and holds_secret(kind))
    )


@each_page
def test_every_path_of_the_platform_is_there(path, page):
    """All of batch cloud development, and of the layer below: under its official name, with all of its actions."""
    found = [endpoint for endpoint in wxtcb.endpoints() if endpoint.path == path]
    assert {endpoint.official for endpoint in found} == {page["official"]}
    assert {endpoint.credential.name.lower() for endpoint in found} == {page["credential"]}
    actions = [*page["effect"]] if isinstance(page["effect"], dict) else [None]
    assert sorted((endpoint.action for endpoint in found), key=str) == sorted(actions, key=str)


def test_no_name_is_given_twice():
    """A name leads to one call, and a path with its action too."""
    names = [endpoint.name for endpoint in wxtcb.endpoints()]
    places = [(endpoint.path, endpoint.action) for endpoint in wxtcb.endpoints()]
    assert sorted(set(names)) == sorted(names)
    assert len(set(places)) == len(places)


@each_call
def test_a_call_is_a_public_coroutine_of_its_group(endpoint):
    """It takes the session first."""
    verb = coroutine_of(endpoint)
    assert inspect.iscoroutinefunction(verb)
    assert next(iter(inspect.signature(verb).parameters)) == "session"
    assert not endpoint.name.startswith("_")


@each_call
def test_a_call_is_typed_from_end_to_end(endpoint):
    """Every argument says what it is, and what comes back is the reply of the endpoint."""
    signature = inspect.signature(coroutine_of(endpoint))
    assert [each.name for each in signature.parameters.values() if each.annotation is each.empty] == []
    assert signature.return_annotation == endpoint.reply.__name__


@each_call
def test_a_call_names_the_official_interface_and_its_page(endpoint):
    """In the last paragraph of its docstring, which says first what it does."""
    docstring = inspect.getdoc(coroutine_of(endpoint))
    assert docstring, "it has no docstring"
    paragraphs = docstring.split("\n\n")
    assert paragraphs[0].endswith(".")
    told = OFFICIAL.search(" ".join(paragraphs[-1].split()))
    assert told, "the last line must be: Official interface: NAME, page PAGE."
    assert told[1] == endpoint.official
    assert told[2].casefold() == endpoint.official.casefold()


@each_call
def test_a_call_is_repeated_as_its_effect_allows(endpoint):
    """What adds something is never repeated on doubt, and what changes something is no read."""
    assert endpoint.repeat.name in ALLOWED.get(effect_of(endpoint), Repeat.__members__)


@each_call
def test_a_reply_with_a_secret_keeps_no_copy_of_it(endpoint):
    """`wxtcb.raw` of it would show the secret."""
    if holds_secret(endpoint.reply):
        assert not endpoint.reply.keeps_raw


@each_call
def test_a_call_has_a_documented_sample(endpoint):
    """By the name of the call, and of its path."""
    file = HERE.parent / "samples" / f"{endpoint.name}.json"
    assert file.is_file(), f"there is no {file.name}"
    sample = json.loads(file.read_text("utf-8"))
    assert sample["path"] == endpoint.path


@each_call
def test_the_sandbox_knows_the_facts_of_a_call(endpoint):
    """Under the official name, with the same credential, and the action where there are several."""
    assert endpoint.path in ENDPOINT_SCHEMAS
    facts = ENDPOINT_SCHEMAS[endpoint.path]
    assert facts.name == endpoint.official
    assert facts.credential.name == endpoint.credential.name
    assert endpoint.action in facts.body_schemas


@each_call
def test_the_sandbox_simulates_a_call(endpoint):
    """There is a handler for its path."""
    assert endpoint.path in HANDLERS
