"""Properties of all endpoints: request classes reach the wire unchanged, and replies are read or rejected by path.

The classes are found by the annotations of the coroutines, so a new endpoint is tested automatically.
"""

from __future__ import annotations

import collections.abc
import copy
import enum
import functools
import itertools
import json
import re
import types
import typing
from pathlib import Path

import attrs
import orjson
import pytest
from hypothesis import Phase, given, reject, settings, strategies as st

import wxtcb
from wxtcb import BadReply, InvalidArgument, Secret, api
from wxtcb._protocol.codec import encode_body, read_reply
from wxtcb._protocol.fields import ALIASES, wire_name_of
from wxtcb._protocol.structuring import make_converter

SAMPLES = [json.loads(file.read_text("utf-8")) for file in (Path(__file__).parents[1] / "samples").glob("*.json")]
GROUPS = [getattr(api, name) for name in api.__all__ if name != "endpoints"]
NAMES = {**vars(typing), **vars(collections.abc), **{name: getattr(wxtcb, name) for name in wxtcb.__all__}}
PLACE = re.compile(r"@ (\$[^\s;]*?)\.?(?=;|$)")
PHASES = (Phase.generate, Phase.shrink)  # to explain a failure takes minutes where classes are large
NEW = "new_of_2027"
WRONG = [None, 5, -1.5, "text", "", True, [], {}, [None], {"x": None}]


def request_classes():
    """Return every attrs class that a coroutine takes as an argument, including nested ones."""
    found = {}
    for group in GROUPS:
        for endpoint in group.ENDPOINTS:
            hints = typing.get_type_hints(getattr(group, endpoint.name), localns=NAMES)
            for name in hints.keys() - {"session", "return"}:
                found |= dict.fromkeys(classes_in(hints[name]))
    return sorted(filter(is_json, found), key=str)


def is_json(kind):
    """Return whether a class is sent field by field; one with bytes, such as a zip, has a form of its own."""
    return bytes not in {field.type for field in attrs.fields(kind)}


def classes_in(kind):
    """Yield the attrs classes in a type, including those of their fields."""
    if isinstance(kind, type) and attrs.has(kind) and kind is not Secret:
        yield kind
        for field in attrs.fields(attrs.resolve_types(kind)):
            yield from classes_in(field.type)
    for part in typing.get_args(kind):
        yield from classes_in(part)


def texts_of_samples(node, name=""):
    """Yield the strings and numbers of JSON with their names."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts_of_samples(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from texts_of_samples(value, name)
    else:
        yield name, node


SEEN = {}
for _name, _value in dict.fromkeys(pair for sample in SAMPLES for pair in texts_of_samples(sample["request"])):
    SEEN.setdefault(_name, []).append(_value)

PLAIN = {
    str: st.text(max_size=8) | st.text("abcxyz019-", min_size=1, max_size=8),
    int: st.integers(0, 100) | st.integers(-(2**63), 2**63 - 1),
    float: st.sampled_from([0.5, 1.0, 2.0, 32.0]) | st.floats(-(2**53), 2**53),
    bool: st.booleans(),
    types.NoneType: st.none(),
    Secret: st.text('abc"\\\u5bc6', min_size=1, max_size=8).map(Secret),
}

COMMON = {
    str: ["", " ", "a", "abc", "a-1", "run", 'say "\\"', "\u5bc6\u7801"],
    int: [0, 1, 2, 50, 99, 100, 101, 8080, -1, 2**53, 2**63 - 1, -(2**63)],
    float: [0.5, 1.0, 32.0, -1.0],
}


def values(kind, seen=()):
    """Generate values of a type; *seen* are examples from samples."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        shown = [value for value in seen if type(value) is kind]
        return PLAIN[kind] | st.sampled_from(shown) if shown else PLAIN[kind]
    if origin in (types.UnionType, typing.Union):
        return st.one_of(values(part, seen) for part in parts if not (part is Secret and str in parts))
    if origin is typing.Literal:
        return st.sampled_from(parts)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=2)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        return st.lists(values(parts[0], seen), max_size=3).map(tuple)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if kind in (object, typing.Any):
        return PLAIN[str] | PLAIN[bool]
    assert attrs.has(kind), f"no values are known of the type {kind}"
    return HINTS.get(kind.__name__, instances)(kind)


@functools.cache
def instances(kind):
    """Generate values of an attrs class whose fields satisfy their own rules; rules between fields filter the rest."""
    fields = [field for field in attrs.fields(attrs.resolve_types(kind)) if field.init]
    return st.fixed_dictionaries({field.alias: valid(kind, field) for field in fields}).map(
        lambda given: build(kind, given)
    )


def build(kind, given):
    """Build a value or reject the attempt; the ends of a range are sorted."""
    if None not in (given.get("min_num"), given.get("max_num")):
        given["min_num"], given["max_num"] = sorted((given["min_num"], given["max_num"]))
    try:
        return kind(**given)
    except InvalidArgument:
        reject()


def valid(kind, field):
    """Generate values of one field that its validator accepts, and None if that is the default."""
    seen = SEEN.get(wire_name_of(field), ())
    made, plain = values(field.type, seen), plain_part(field.type)
    known = [value for value in (*COMMON.get(plain, ()), *seen) if type(value) is plain]
    passing = [value for value in known if passes(kind, field, value)]
    if len(passing) < len(known):
        made = st.sampled_from(passing)  # there is a rule, which few values keep by chance
    made = made.filter(lambda value: passes(kind, field, value))
    return st.none() | made if field.default is None else made


def plain_part(kind):
    """Return the string or number type of a field, with or without None."""
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return next((part for part in (typing.get_args(kind) if union else [kind]) if part in COMMON), None)


def passes(kind, field, value):
    """Return whether the converter and the validator of a field accept a value."""
    try:
        value = field.converter(value) if field.converter else value
        if field.validator:
            field.validator(object.__new__(kind), field, value)
    except (AttributeError, InvalidArgument) as error:
        return isinstance(error, AttributeError)
    return True


def splits(kind):
    """Generate traffic splits whose percentages add up to 100 or 0."""
    (flow,) = classes_in(attrs.fields(attrs.resolve_types(kind)).items.type)
    shares = st.sampled_from([(100,), (30, 70), (0, 0, 100), (0,)])
    flows = shares.map(lambda each: [flow(version_name=f"v{at}", flow_ratio=share) for at, share in enumerate(each)])
    return st.builds(kind, env=PLAIN[str].filter(str.strip), service_name=st.just("s"), items=flows)


# Classes with rules between their fields that few values keep by chance.
HINTS = {"Split": splits}


def make_reader():
    """Return a converter that reads requests back: secrets become strings."""
    converter = make_converter()
    converter.register_structure_hook_func(lambda kind: kind == str | Secret, lambda value, _: value)
    converter.register_structure_hook_func(lambda kind: kind in (object, typing.Any), lambda value, _: value)
    return converter


READER = make_reader()


@pytest.mark.parametrize("kind", request_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_request_class_round_trips(kind):
    """A value becomes JSON with the platform's names, and is read back unchanged."""

    @settings(deadline=None, max_examples=25, phases=PHASES)
    @given(values(kind))
    def try_one(value):
        written = orjson.loads(encode_body({"value": value}, endpoint="/x").data)["value"]
        assert READER.structure(written, kind) == value
        names = {wire_name_of(field) for field in attrs.fields(kind)}
        assert written.keys() <= names

    try_one()


def places(node, steps=()):
    """Yield all paths of a JSON value, except errcode and errmsg."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, inner in entries:
        if (*steps, step) not in {("errcode",), ("errmsg",)}:
            yield (*steps, step)
            yield from places(inner, (*steps, step))


def changed(reply, steps, *value):
    """Return a copy of a reply with another *value* at a path, or without it."""
    made = holder = copy.deepcopy(reply)
    for step in steps[:-1]:
        holder = holder[step]
    if value:
        holder[steps[-1]] = value[0]
    else:
        del holder[steps[-1]]
    return made


def written(steps):
    """Return a path in the form of an error message."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def read(endpoint, reply):
    """Read a reply as the codec does."""
    return read_reply(endpoint, orjson.dumps(reply))


def spellings(kind):
    """Return the other names that the fields of an attrs class, including nested ones, may have in replies."""
    fields = [field for each in classes_in(kind) for field in attrs.fields(each)]
    return {name for field in fields for name in field.metadata.get(ALIASES, ())}


def is_about(error, steps, others):
    """Return whether an error names a path, one around or inside of it, or its alias in *others*."""
    place = written(itertools.takewhile(lambda step: step not in others, steps))
    return any(place.startswith(path) or path.startswith(place) for path in PLACE.findall(error.reason))


@pytest.fixture(params=wxtcb.endpoints(), ids=lambda endpoint: endpoint.name)
def endpoint(request):
    """Return one endpoint after the other."""
    return request.param


@pytest.fixture
def replies(endpoint):
    """Return the replies in the samples of an endpoint."""
    action = endpoint.action
    of_path = [sample for sample in SAMPLES if sample["path"] == endpoint.path]
    shown = [sample["reply"] for sample in of_path if action in (None, sample["request"].get("action"))]
    assert shown, "there is no sample of it"
    return shown


def test_reply_with_one_mutation_is_read_or_rejected_by_path(endpoint, replies):
    """Each field in turn is missing, null, or of another type; no other error is raised."""
    others = spellings(endpoint.reply)
    for reply in replies:
        for steps in places(reply):
            lacking = [changed(reply, steps)] if isinstance(steps[-1], str) else []
            for broken in (*lacking, *(changed(reply, steps, value) for value in WRONG)):
                made = read(endpoint, broken)
                assert isinstance(made, endpoint.reply) or (type(made) is BadReply and is_about(made, steps, others)), (
                    broken
                )


def grown(reply):
    """Yield copies of a reply that have a new field, each in another of its objects."""
    for steps in [(), *places(reply)]:
        made = holder = copy.deepcopy(reply)
        for step in steps:
            holder = holder[step]
        if isinstance(holder, dict):
            holder[NEW] = "new"
            yield made


def test_unknown_field_is_ignored(endpoint, replies):
    """The platform may add fields to every object; only a mapping with free names contains it."""
    for reply in replies:
        known = read(endpoint, reply)
        for made in (read(endpoint, each) for each in grown(reply)):
            assert made == known or NEW in str(made)


def test_reply_with_many_mutations_is_read_or_rejected(endpoint, replies):
    """The result is a reply or a `BadReply` that names a path."""
    jsons = st.recursive(st.sampled_from([*WRONG, 2**63, "1"]), lambda inner: st.lists(inner, max_size=2), max_leaves=3)

    @settings(deadline=None, max_examples=12, phases=PHASES)
    @given(st.data())
    def try_one(data):
        reply = data.draw(st.sampled_from(replies))
        for _ in range(data.draw(st.integers(1, 3))):
            if open_places := list(places(reply)):
                reply = changed(reply, data.draw(st.sampled_from(open_places)), data.draw(jsons))
        made = read(endpoint, reply)
        assert isinstance(made, endpoint.reply) or (type(made) is BadReply and PLACE.search(made.reason))

    try_one()
