"""What a statement asks for: a chain of steps from a collection to what is done with its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, cast

from attrs import evolve, frozen

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.database.operators import Test, sorted_by, test_of
from wxtcb.sandbox.services.database.parser import Chain, parse
from wxtcb.sandbox.services.database.terms import Meaning
from wxtcb.sandbox.services.database.values import Record, Value
from wxtcb.sandbox.services.database.words import malformed, not_simulated

__all__ = ["Selection", "Statement", "Way", "pipeline_of", "projected", "read_statement", "selection_of"]

MOST: Final = 1000
USUAL: Final = 10

Way = Literal["get", "add", "update", "set", "remove", "end"]
Args = tuple[Value, ...]
Stage = Callable[[Sequence[Record]], Sequence[Record]]

_WAYS: Final = ("get", "add", "update", "set", "remove", "end")


@frozen
class Statement:
    """What is done in the end with records of a collection (`way`), and the steps until then."""

    collection: str
    steps: tuple[tuple[str, Args], ...]
    way: Way
    args: Args

    def data(self) -> Value:
        """Return the `data` that the last step is called with."""
        match self.args:
            case ({"data": data, **others},) if not others:
                return data
            case _:
                raise malformed(f"{self.way} takes an object with data alone")


@frozen
class Selection:
    """Which records, in which order; None stands for what was not said. `names` are the steps it was made by."""

    test: Test
    orders: tuple[tuple[str, bool], ...] = ()
    skipped: int = 0
    limited: int | None = None
    fields: Record | None = None
    record_id: str | int | None = None
    names: tuple[str, ...] = ()

    def all_of(self, records: Iterable[Record]) -> list[Record]:
        """Return what meets the conditions, in order."""
        return sorted_by(filter(self.test, records), self.orders)


def read_statement(text: str, meaning: Meaning) -> Statement:
    """Read the one statement of a text."""
    chains = parse(text)
    if len(chains) != 1:
        raise malformed("one statement is asked for") if not chains else not_simulated("more than one statement")
    return _statement(chains[0], meaning)


def _statement(chain: Chain, meaning: Meaning) -> Statement:
    first, *steps = [(step.name, meaning.args_of(step)) for step in chain.steps] or [("", ())]
    match chain.root, chain.made, first:
        case "db", False, ("collection", (str(name),)) if name and steps:
            way, args = steps.pop()
        case _:
            raise not_simulated("what is no db.collection(…) with steps")
    if way not in _WAYS:
        raise not_simulated(f"{way}() at the end")
    return Statement(name, tuple(steps), cast("Way", way), args)


def selection_of(statement: Statement) -> Selection:
    """Return which records a statement is about."""
    chosen = Selection(lambda _: True)
    for name, args in statement.steps:
        step = _STEPS.get(name)
        if step is None:
            raise not_simulated(f"{name}() before {statement.way}()")
        if name != "orderBy" and _slot(name) in map(_slot, chosen.names):
            raise not_simulated(f"{name}() after another {_slot(name)}()")
        chosen = evolve(step(chosen, args), names=(*chosen.names, name))
    return chosen


def _slot(name: str) -> str:
    """Return what a step says something about: ``doc`` chooses records as ``where`` does."""
    return "where" if name == "doc" else name


def pipeline_of(statement: Statement) -> Stage:
    """Return what an aggregate makes of all records of its collection."""
    first, *rest = statement.steps or [("", ())]
    if first != ("aggregate", ()) or statement.args:
        raise malformed("an aggregate is db.collection(…).aggregate()….end()")
    stages = [_stage(name, args) for name, args in rest]

    def run(records: Sequence[Record]) -> Sequence[Record]:
        for stage in stages:
            records = stage(records)
        return records

    return run


def projected(record: Record, fields: Record) -> Record:
    """Return a record with the fields that are wanted, or without those that are not; ``_id`` stays unless unwanted."""
    wanted = {name for name, value in fields.items() if value}
    if wanted - {"_id"}:
        wanted |= {"_id"} if fields.get("_id", True) else set[str]()
        return {name: value for name, value in record.items() if name in wanted}
    return {name: value for name, value in record.items() if name not in fields or fields[name]}


def _where(chosen: Selection, args: Args) -> Selection:
    conditions = _only("where", args)
    return evolve(chosen, test=test_of(conditions))


def _doc(chosen: Selection, args: Args) -> Selection:
    record_id = _only("doc", args)
    if type(record_id) not in (str, int) or record_id == "":
        raise malformed("doc takes an _id")
    return evolve(chosen, test=test_of({"_id": record_id}), record_id=record_id)


def _order_by(chosen: Selection, args: Args) -> Selection:
    match args:
        case (str(path), "asc" | "desc" as order):
            return evolve(chosen, orders=(*chosen.orders, (path, order == "desc")))
        case _:
            raise malformed("orderBy takes a field and 'asc' or 'desc'")


def _skip(chosen: Selection, args: Args) -> Selection:
    return evolve(chosen, skipped=_count("skip", args, 0))


def _limit(chosen: Selection, args: Args) -> Selection:
    count = _count("limit", args, 1)
    if count > MOST:
        raise refuse(40097, f"query: limit is {MOST} at the most")
    return evolve(chosen, limited=count)


def _field(chosen: Selection, args: Args) -> Selection:
    fields = _only("field", args)
    return evolve(chosen, fields=_projection("field", fields))


_STEPS: Final[Mapping[str, Callable[[Selection, Args], Selection]]] = {
    "where": _where,
    "doc": _doc,
    "orderBy": _order_by,
    "skip": _skip,
    "limit": _limit,
    "field": _field,
}


def _stage(name: str, args: Args) -> Stage:
    match name:
        case "match":
            test = test_of(_only(name, args))
            return lambda records: list(filter(test, records))
        case "sort":
            orders = _sort_orders(_only(name, args))
            return lambda records: sorted_by(records, orders)
        case "skip":
            skipped = _count(name, args, 0)
            return lambda records: records[skipped:]
        case "limit":
            limited = _count(name, args, 1)
            return lambda records: records[:limited]
        case "project":
            fields = _projection(name, _only(name, args))
            return lambda records: [projected(record, fields) for record in records]
        case _:
            raise not_simulated(f"the stage {name}")


def _sort_orders(orders: Value) -> list[tuple[str, bool]]:
    if not isinstance(orders, dict) or not orders:
        raise malformed("sort takes an object of fields")
    found: list[tuple[str, bool]] = []
    for path, order in cast("Record", orders).items():
        if type(order) is not int or order not in (1, -1):
            raise malformed(f"sort takes 1 or -1 for {path}")
        found.append((path, order < 0))
    return found


def _projection(name: str, fields: Value) -> Record:
    if not isinstance(fields, dict) or not fields:
        raise malformed(f"{name} takes an object of fields")
    found = cast("Record", fields)
    if any("." in key or type(value) not in (bool, int) or value not in (0, 1) for key, value in found.items()):
        raise not_simulated(f"{name} with more than names of fields and true or false")
    if len({bool(value) for key, value in found.items() if key != "_id"}) > 1:
        raise malformed(f"{name} takes fields that are wanted, or that are not")
    return found


def _count(name: str, args: Args, least: int) -> int:
    count = _only(name, args)
    if type(count) is not int or count < least:
        raise malformed(f"{name} takes a whole number, at least {least}")
    return count


def _only(name: str, args: Args) -> Value:
    if len(args) != 1:
        raise malformed(f"{name} takes one argument")
    return args[0]
