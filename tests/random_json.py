"""Random JSON for decoders: documents that are nearly as documented, arbitrary JSON, and texts that are no JSON."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping

import attrs
from hypothesis import strategies as st

from wxtcb.errors import WxtcbError

ODD_VALUES = st.sampled_from(
    [None, True, False, 0, -1, 1.5, 10**30, -(2**63), 2**64, 1e308, "", "0", "-1", "null", "{}", "[]", "[1]", "\0"]
) | st.sampled_from(["{}" * 3, '{"a":1}', "2020-02-30 25:61:61", "0000-00-00 00:00:00", "1" * 5000, [], {}, [None]])
NAMES = st.sampled_from(["errcode", "errmsg", "env", "status", "info_list", "data", "format", "token"]) | st.text(
    max_size=5
)
ANY_JSON = st.recursive(
    ODD_VALUES | st.text(max_size=9) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
# Written as text, because `json.dumps` does not write them.
ODD_TEXTS = st.sampled_from(
    [
        b"",
        b"null",
        b"\xef\xbb\xbf{}",
        b"<html><body>502 Bad Gateway</body></html>",
        b'{"errcode":1e999}',
        b'{"errcode":0,"errcode":-1}',
        b'{"a":"\\ud800"}',
        b'{"errcode":NaN}',
        b'{"errcode":' + b"9" * 5000 + b"}",
        b"[" * 5000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"errcode":0}{"errcode":0}',
        b"\xff\xfe{\0}\0",
    ]
)


def _places(node: object, above: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the path of each value in *node*."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*above, key)
        yield from _places(value, (*above, key))


@st.composite
def documents(draw: st.DrawFn, samples: tuple[object, ...]) -> bytes:
    """Return the bytes of a document: one of *samples* with a few changes, or anything else, perhaps cut."""
    form = draw(st.integers(0, 9))
    if form == 0:
        return draw(ODD_TEXTS | st.binary(max_size=40))
    if form == 1:
        return json.dumps(draw(ANY_JSON)).encode()
    document = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 3))):
        if not (paths := [*_places(document)]):
            break
        *above, key = draw(st.sampled_from(paths))
        node = functools.reduce(lambda parent, name: parent[name], above, document)
        change = draw(st.integers(0, 3))
        if change == 0 and isinstance(node, dict):
            del node[key]
        elif change == 1 and isinstance(node, dict):
            node[draw(NAMES)] = node.pop(key)
        elif change == 2 and isinstance(node, list):
            node *= draw(st.integers(0, 3))
        else:
            # A copy: hypothesis draws the same list twice.
            node[key] = copy.deepcopy(draw(ANY_JSON))
    data = json.dumps(document, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    return data[: draw(st.integers(0, len(data)))] if form == 2 else data


def untyped_parts(value: object, kind: object, place: str = "") -> list[str]:
    """Return the places in *value* whose value is not of the annotated type *kind*."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        found = [untyped_parts(value, each, place) for each in arguments]
        return [] if [] in found else max(found, key=len)
    if origin is tuple and isinstance(value, tuple) and arguments[1:] == (...,):
        return [part for n, each in enumerate(value) for part in untyped_parts(each, arguments[0], f"{place}[{n}]")]
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return [part for key, each in value.items() for part in untyped_parts(each, arguments[1], f"{place}[{key!r}]")]
    if isinstance(kind, type) and attrs.has(kind) and isinstance(value, kind):
        fields = attrs.fields(attrs.resolve_types(kind))
        return [part for each in fields for part in untyped_parts(getattr(value, each.name), each.type, each.name)]
    if kind is typing.Any or kind is object or isinstance(kind, typing.TypeVar):
        return []
    # A list of values that the platform may extend at any time.
    expected = {type(each) for each in arguments} if origin is typing.Literal else {kind if origin is None else origin}
    if type(None) in expected or None in expected:
        return [] if value is None else [f"{place}: {value!r}"]
    allowed = {float, int} if float in expected else expected
    return [] if type(value) in allowed or type(value).__mro__[1] in allowed - {int} else [f"{place}: {value!r}"]


def read_everything(value: object) -> None:
    """Read every property of *value* and of the values in it; only errors of wxtcb may be raised."""
    if isinstance(value, tuple | list):
        for each in value:
            read_everything(each)
    elif attrs.has(type(value)):
        repr(value)
        for name, member in inspect.getmembers_static(type(value)):
            if isinstance(member, property | functools.cached_property):
                try:
                    found = getattr(value, name)
                    # Some properties are generators of parts.
                    [*found] if isinstance(found, Iterator) else repr(found)
                except WxtcbError:
                    pass
        for field in attrs.fields(type(value)):
            read_everything(getattr(value, field.name))
