"""Converter: strict values, and large replies in slices, with the same result as at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import attrs
import cattrs
import orjson
import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._protocol.codec import LARGE_REPLY_BYTES, raw, read_large_reply, read_reply
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, wire_name
from wxtcb._protocol.structuring import SLICE_SIZE, describe_error, make_converter, structure_lists_in_slices
from wxtcb.api.database import DB_AGGREGATE
from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.api.functions import BATCH_UPLOAD_SCF, MultiEnvResult
from wxtcb.errors import BadReply, PlatformBusy
from wxtcb.events import Abandoned
from wxtcb.secret import Secret

PATH = "/tcb/large"


@attrs.frozen(kw_only=True)
class Leaf:
    """An entry without lists of its own."""

    name: str
    size: int | None = None


@attrs.frozen(kw_only=True)
class Branch:
    """An entry with lists."""

    name: str = attrs.field(metadata=aliases("nmae"))
    leaves: tuple[Leaf, ...] = ()


@attrs.frozen(kw_only=True)
class Tree(Reply):
    """A reply with objects in every position that a class may have."""

    branches: tuple[Branch, ...]
    trunk: Branch | None = None
    fallen: tuple[Leaf, ...] | None = None
    rotten: tuple[Leaf, ...] = attrs.field(default=(), metadata=wire_name("Rotten") | aliases("roten"))
    names: list[str] = attrs.field(factory=list)
    leaves: list[Leaf] = attrs.field(factory=list)
    motto: str | None = "grow"
    owner: str | None = attrs.field(default=None, metadata=aliases("onwer"))


TREE = Endpoint(PATH, Tree, Repeat.READ)
PLANT = Endpoint(PATH, Tree, Repeat.ONCE)

LEAF = st.fixed_dictionaries({"name": st.text(max_size=1)}, optional={"size": st.none() | st.integers(0, 9)})
MANY = st.sampled_from([0, 1, SLICE_SIZE - 1, SLICE_SIZE, SLICE_SIZE + 1, 3 * SLICE_SIZE])
LEAVES = st.builds(lambda leaf, many: [leaf] * many, LEAF, MANY)
WRONG = st.sampled_from(
    [None, 5, "text", [], {}, {"name": None}, {"name": "n", "size": "9"}, {"name": "n", "leaves": {}}]
)
BRANCH = st.fixed_dictionaries({"name": st.just("b")}, optional={"leaves": LEAVES})


def many(count, **changes):
    """Return the JSON of *count* leaves."""
    return [{"name": f"leaf {number}"} | changes for number in range(count)]


def run(coro):
    """Run a coroutine on a new event loop."""
    with asyncio.Runner() as runner:
        return runner.run(coro)


async def count_turns(coro):
    """Return the result of *coro*, and how often another task ran in the meantime."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    result = await coro
    task.cancel()
    return result, turns


@st.composite
def trees(draw):
    """Draw the JSON of a tree, sometimes with invalid entries."""
    tree = draw(
        st.fixed_dictionaries(
            {"branches": st.lists(BRANCH, max_size=3)},
            optional={"trunk": st.none() | BRANCH, "fallen": st.none() | LEAVES, "leaves": LEAVES, "roten": LEAVES},
        )
    )
    for entries in [
        tree["branches"],
        *(branch.get("leaves", []) for branch in tree["branches"]),
        tree.get("leaves", []),
        tree.get("roten", []),
    ]:
        if entries and draw(st.booleans()):
            entries[draw(st.integers(0, len(entries) - 1))] = draw(WRONG)
    return orjson.dumps(tree)


@settings(deadline=None, max_examples=60)
@given(trees())
def test_reply_read_in_slices_equals_reply_read_at_once(data):
    """For all lists, lengths and errors, both give the same reply or the same message."""
    at_once, in_slices = read_reply(TREE, data), run(read_large_reply(TREE, data))
    assert type(at_once) is type(in_slices)
    if isinstance(at_once, Tree):
        assert (in_slices, raw(in_slices)) == (at_once, raw(at_once))
    else:
        assert str(in_slices) == str(at_once)


@pytest.mark.parametrize(
    "tree",
    [
        {"branches": [], "leaves": many(8 * SLICE_SIZE)},
        {"branches": [], "fallen": many(8 * SLICE_SIZE)},
        {"branches": [], "trunk": {"name": "t", "leaves": many(8 * SLICE_SIZE)}},
        {"branches": [{"name": "b", "leaves": many(4 * SLICE_SIZE)}] * 2},
        {"branches": [], "Rotten": many(8 * SLICE_SIZE)},
        {"branches": [], "roten": many(8 * SLICE_SIZE)},
        {"branches": [{"nmae": "b", "leaves": many(8)}] * SLICE_SIZE},
    ],
    ids=["list", "list or null", "in an object", "in entries", "renamed", "alias", "short lists in entries"],
)
async def test_other_tasks_run_between_slices(tree):
    """At every position of the long list, at most two slices are read without a break."""
    reply, turns = await count_turns(read_large_reply(TREE, orjson.dumps(tree)))
    assert isinstance(reply, Tree)
    assert turns > 4


def test_every_list_of_objects_is_structured_in_place():
    """A null stays null."""
    tree = {
        "branches": [{"name": "b", "leaves": many(2)}],
        "trunk": None,
        "fallen": many(SLICE_SIZE + 1),
        "names": ["n"],
    }
    assert list(structure_lists_in_slices(Tree, tree)) == [2, 1, SLICE_SIZE, 1]
    assert tree["branches"] == [Branch(name="b", leaves=(Leaf(name="leaf 0"), Leaf(name="leaf 1")))]
    assert tree["fallen"][-1] == Leaf(name=f"leaf {SLICE_SIZE}")
    assert (tree["trunk"], tree["names"]) == (None, ["n"])


def test_null_instead_of_a_list_of_strings_stays_null():
    """There is nothing to structure."""
    fields = {"data": None}
    assert list(structure_lists_in_slices(DB_AGGREGATE.reply, fields)) == []
    assert fields == {"data": None}


@pytest.mark.parametrize("invalid", [{}, {7: "5"}, {99: 5}, {0: "x", 50: None}], ids=str)
async def test_strings_with_json_are_read_a_few_at_a_time(invalid):
    """Each string may be large; the result is the same as at once."""
    texts = [orjson.dumps({"_id": str(number), "n": {"$numberLong": "5"}}).decode() for number in range(100)]
    for index, text in invalid.items():
        texts[index] = text
    data = orjson.dumps({"data": texts})
    (reply, turns), at_once = await count_turns(read_large_reply(DB_AGGREGATE, data)), read_reply(DB_AGGREGATE, data)
    assert turns > 9
    assert (type(reply), str(reply)) == (type(at_once), str(at_once))


async def test_other_tasks_run_while_secrets_are_redacted():
    """The reasons of failures are redacted in slices, also in lists that the reply class does not have."""
    reasons = [{"errmsg": "bad p@ss"} for _ in range(8 * SLICE_SIZE)]
    data = orjson.dumps({"err_list": [], "other_list": reasons})
    reply, turns = await count_turns(read_large_reply(BATCH_UPLOAD_SCF, data, (Secret("p@ss"),)))
    assert reply == MultiEnvResult()
    assert turns > 8


@pytest.mark.parametrize("index", [0, 7, SLICE_SIZE, 3 * SLICE_SIZE - 1])
async def test_error_contains_the_index_of_the_invalid_entry(index):
    """The index counts from the start of the list, not of the slice."""
    leaves = many(3 * SLICE_SIZE)
    leaves[index]["name"] = None
    error = await read_large_reply(TREE, orjson.dumps({"branches": [], "leaves": leaves}))
    assert isinstance(error, BadReply)
    assert f"expected str @ $.leaves[{index}].name." in str(error)


@pytest.mark.parametrize("name", ["Rotten", "roten"])
def test_error_contains_the_name_that_was_received(name):
    """It is neither the attribute's name nor the documented one, if an alias was received."""
    error = read_reply(TREE, orjson.dumps({"branches": [], name: [{"name": None}]}))
    assert f"@ $.{name}[0].name." in str(error)


@pytest.mark.parametrize("read", [read_large_reply, read_reply])
async def test_error_contains_at_most_ten_invalid_entries(read):
    """If the platform changes a field, every entry is invalid."""
    error = read(TREE, orjson.dumps({"branches": [], "leaves": many(1000, name=5)}))
    if asyncio.iscoroutine(error):
        error = await error
    assert str(error).count("@ $.leaves") == 10
    assert "$.leaves[9].name" in str(error)


async def test_large_error_response_is_its_error():
    """The errcode is read first, and a long page is a bad reply."""
    padding = "x" * LARGE_REPLY_BYTES
    assert type(await read_large_reply(TREE, orjson.dumps({"errcode": -1, "padding": padding}))) is PlatformBusy
    assert "not JSON" in str(await read_large_reply(TREE, padding.encode()))


def test_null_is_replaced_by_the_default():
    """If the default is None, null stays None."""
    reply = read_reply(TREE, b'{"branches":[],"motto":null,"names":null,"fallen":null}')
    assert reply == Tree(branches=())
    assert (reply.motto, reply.names, reply.fallen) == ("grow", [], None)


def test_shared_string_is_in_memory_once():
    """The entries of a long list share their equal strings."""
    times = {"create_time": "2026-11-22 00:00:00", "update_time": "2026-11-22 00:00:00"}
    entries = [{"env": "e", "alias": "a", "status": "NORMAL", "package_name": "基础版", **times}] * 2
    one, other = read_reply(DESCRIBE_ENVS, orjson.dumps({"info_list": entries})).info_list
    for name in ("create_time", "update_time", "status", "package_name"):
        assert getattr(one, name) is getattr(other, name)


def test_alias_is_read_if_the_documented_name_is_null_or_missing():
    """If both have a value, the documented name is read."""
    for fields in ({"owner": None, "onwer": "me"}, {"onwer": "me"}, {"owner": "me", "onwer": "you"}):
        assert read_reply(TREE, orjson.dumps({"branches": [], **fields})).owner == "me"


@pytest.mark.parametrize("names", ["text", {}, 5, [None], [5]], ids=repr)
def test_list_is_structured_as_strictly_as_a_tuple(names):
    """A string is not split, and the entries are checked."""
    assert isinstance(read_reply(TREE, orjson.dumps({"branches": [], "names": names})), BadReply)


LARGE_TREE = {"branches": [], "leaves": many(20 * SLICE_SIZE)}


@pytest.mark.virtual_time
async def test_call_reads_a_large_reply_in_slices(wechat, new_session):
    """Other tasks run in between; a small reply is read without a break."""
    wechat.play(PATH, {"branches": []}, {"branches": []}, LARGE_TREE)
    assert len(orjson.dumps(LARGE_TREE)) > LARGE_REPLY_BYTES
    async with new_session() as session:
        await session.call(TREE, {})
        _, small = await count_turns(session.call(TREE, {}))
        _, large = await count_turns(session.call(TREE, {}))
    assert (small, large > 10) == (0, True)


@pytest.mark.virtual_time
async def test_create_cancelled_while_reading_its_reply_is_abandoned(wechat, new_session, settle):
    """The response arrived, so it took effect; the cancellation keeps its message, and the slot is released."""
    wechat.usual[PATH] = LARGE_TREE
    events = []
    async with new_session(hooks=[events.append], connections=1) as session:
        await session.call(TREE, {})
        task = asyncio.create_task(session.call(PLANT, {}))
        await settle(5)
        assert not task.done()
        task.cancel("the reason")
        with pytest.raises(asyncio.CancelledError, match="the reason") as caught:
            await task
        assert [event for event in events if isinstance(event, Abandoned)] == [Abandoned(PATH, 1)]
        assert not isinstance(caught.value.__context__, Exception)
        assert isinstance(await session.call(TREE, {}), Tree)


@pytest.mark.parametrize(("forbid", "lines"), [(False, []), (True, ["extra fields found (colour) @ $"])])
def test_unknown_key_is_an_error_if_forbidden(forbid, lines):
    """A converter for files rejects unknown keys, which the one for replies ignores."""
    converter = make_converter(forbid_extra_keys=forbid)
    found = []
    try:
        leaf = converter.structure({"name": "n", "colour": "red"}, Leaf)
    except cattrs.BaseValidationError as error:
        found = cattrs.transform_error(error, format_exception=describe_error)
    else:
        assert leaf == Leaf(name="n")
    assert found == lines


@pytest.mark.parametrize(("detailed", "error_class"), [(True, cattrs.ClassValidationError), (False, TypeError)])
def test_detailed_validation_can_be_turned_off(detailed, error_class):
    """Without it, the first error is raised by itself."""
    with pytest.raises(error_class) as caught:
        make_converter(detailed_validation=detailed).structure({"name": 5}, Leaf)
    assert type(caught.value) is error_class


@attrs.frozen(kw_only=True)
class Tagged:
    """A class with fields for which the platform documents values."""

    state: Literal["on", "off"]
    mode: Literal["fast"] | None = None


def test_literal_accepts_undocumented_strings() -> None:
    """The platform may send new values, and a program must not fail for them. Other types are errors."""
    structure = make_converter().structure
    assert structure({"state": "new", "mode": "new"}, Tagged) == Tagged(state="new", mode="new")
    assert structure({"state": "on", "mode": None}, Tagged) == Tagged(state="on")
    for fields in ({"state": 1}, {"state": None}, {"state": "on", "mode": 1}):
        with pytest.raises(cattrs.ClassValidationError):
            structure(fields, Tagged)


@pytest.mark.parametrize("value", [[], "A", {"A": 1}, {"A": None}], ids=str)
def test_variables_must_be_an_object_of_strings(value):
    """Anything else is an error, which quotes no value."""
    with pytest.raises(TypeError, match="object of strings"):
        make_converter(detailed_validation=False).structure(value, Mapping[str, Secret])
