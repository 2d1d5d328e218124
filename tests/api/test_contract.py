"""Requirements of every endpoint; each test fails with the name of the endpoint that misses something.

`paths.json` contains facts of the platform's pages, not of the code: all paths, the official name of each interface,
its effect, and its credential.
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
from wxtcb.sandbox.routes import HANDLERS
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
    """Return the coroutine function of an endpoint, which has the endpoint's name."""
    [group] = [group for group in GROUPS.values() if endpoint in group.ENDPOINTS]
    verb = getattr(group, endpoint.name, None)
    assert verb, f"{group.__name__} has no coroutine {endpoint.name}"
    assert verb.__module__.startswith(group.__name__)
    return verb


def effect_of(endpoint):
    """Return the documented effect of an endpoint, or None for an endpoint that is newer than the list."""
    effect = PAGES.get(endpoint.path, {}).get("effect")
    return effect[endpoint.action] if isinstance(effect, dict) else effect


def holds_secret(kind):
    """Return whether a value of an attrs class may contain a secret."""
    attrs.resolve_types(kind)
    return any(map(is_secret, (field.type for field in attrs.fields(kind))))


def is_secret(kind):
    """Return whether a value of this type may contain a secret."""
    parts = getattr(kind, "__args__", ())
    return (
        kind is Secret
        or any(map(is_secret, parts))
        or (isinstance(kind, type) and attrs.has(kind) and holds_secret(kind))
    )


@each_page
def test_every_documented_path_has_endpoints(path, page):
    """Each path has its official name, its credential and all its actions."""
    found = [endpoint for endpoint in wxtcb.endpoints() if endpoint.path == path]
    assert {endpoint.official for endpoint in found} == {page["official"]}
    assert {endpoint.credential.name.lower() for endpoint in found} == {page["credential"]}
    actions = [*page["effect"]] if isinstance(page["effect"], dict) else [None]
    assert sorted((endpoint.action for endpoint in found), key=str) == sorted(actions, key=str)


def test_names_and_paths_are_unique():
    """A name, and a path with its action, identifies one endpoint."""
    names = [endpoint.name for endpoint in wxtcb.endpoints()]
    places = [(endpoint.path, endpoint.action) for endpoint in wxtcb.endpoints()]
    assert sorted(set(names)) == sorted(names)
    assert len(set(places)) == len(places)


@each_call
def test_endpoint_has_a_public_coroutine(endpoint):
    """Its first parameter is the session."""
    verb = coroutine_of(endpoint)
    assert inspect.iscoroutinefunction(verb)
    assert next(iter(inspect.signature(verb).parameters)) == "session"
    assert not endpoint.name.startswith("_")


@each_call
def test_coroutine_is_fully_annotated(endpoint):
    """Every parameter has a type, and the return type is the reply class of the endpoint."""
    signature = inspect.signature(coroutine_of(endpoint))
    assert [each.name for each in signature.parameters.values() if each.annotation is each.empty] == []
    assert signature.return_annotation == endpoint.reply.__name__


@each_call
def test_docstring_names_the_official_interface(endpoint):
    """The last paragraph has the interface and its page."""
    docstring = inspect.getdoc(coroutine_of(endpoint))
    assert docstring, "it has no docstring"
    paragraphs = docstring.split("\n\n")
    assert paragraphs[0].endswith(".")
    match = OFFICIAL.search(" ".join(paragraphs[-1].split()))
    assert match, "the last line must be: Official interface: NAME, page PAGE."
    assert match[1] == endpoint.official
    assert match[2].casefold() == endpoint.official.casefold()


@each_call
def test_repeat_rule_fits_the_documented_effect(endpoint):
    """A create is never SET, and a change is never READ."""
    assert endpoint.repeat.name in ALLOWED.get(effect_of(endpoint), Repeat.__members__)


@each_call
def test_reply_with_a_secret_has_no_raw_json(endpoint):
    """`wxtcb.raw` of it would show the secret."""
    if holds_secret(endpoint.reply):
        assert not endpoint.reply.keeps_raw


def fields_of(kind):
    """Return the names and types of all fields of an attrs class, and of the attrs classes in it."""
    if not (isinstance(kind, type) and attrs.has(kind)):
        return {name: each for part in getattr(kind, "__args__", ()) for name, each in fields_of(part).items()}
    attrs.resolve_types(kind)
    fields = {f"{kind.__name__}.{field.name}": field.type for field in attrs.fields(kind)}
    return fields | {name: each for part in fields.values() for name, each in fields_of(part).items()}


SECRET_NAME = re.compile("url|link|auth|token|ticket|secret|password|signature|credential", re.IGNORECASE)
# Fields whose value gives no access, although their name sounds like it.
NOT_SECRET = {
    "ShareLink.url": "page on which the administrator of the mini program has to log in and confirm",
    "CsVersionDetail.image_url": "name of an image in a registry, which has its own login",
}


@each_call
def test_field_named_like_a_secret_is_a_secret(endpoint):
    """A signed URL gives access to everyone who has it, such as everyone who can read a log."""
    named = {name: kind for name, kind in fields_of(endpoint.reply).items() if SECRET_NAME.search(name.split(".")[1])}
    assert [name for name, kind in named.items() if not is_secret(kind) and name not in NOT_SECRET] == []


def test_every_exception_for_a_secret_name_is_needed():
    """An exception whose field was renamed would later hide another field."""
    names = {name for endpoint in wxtcb.endpoints() for name in fields_of(endpoint.reply)}
    assert NOT_SECRET.keys() <= names


@each_call
def test_endpoint_has_a_documented_sample(endpoint):
    """The sample has the endpoint's name and path."""
    file = HERE.parent / "samples" / f"{endpoint.name}.json"
    assert file.is_file(), f"there is no {file.name}"
    sample = json.loads(file.read_text("utf-8"))
    assert sample["path"] == endpoint.path


@each_call
def test_sandbox_has_the_schema_of_an_endpoint(endpoint):
    """The schema has the same official name, credential and action."""
    assert endpoint.path in ENDPOINT_SCHEMAS
    facts = ENDPOINT_SCHEMAS[endpoint.path]
    assert facts.name == endpoint.official
    assert facts.credential.name == endpoint.credential.name
    assert endpoint.action in facts.body_schemas


@each_call
def test_sandbox_has_a_handler_for_an_endpoint(endpoint):
    """There is a handler for its path."""
    assert endpoint.path in HANDLERS
