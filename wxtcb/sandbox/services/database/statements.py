"""What a statement asks for: a chain of steps from a collection to what is done with its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, cast

from attrs import evolve, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.operators import RecordPredicate, build_predicate, sort_records
from wxtcb.sandbox.services.database.parser import Chain, parse, syntax_error, unsupported
from wxtcb.sandbox.services.database.values import DatabaseRecord, Evaluator, Value

__all__ = [
    "Selection",
    "Statement",
    "StatementOperation",
    "build_pipeline",
    "build_selection",
    "parse_statement",
    "project",
]

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 10

StatementOperation = Literal["get", "add", "update", "set", "remove", "end"]
Args = tuple[Value, ...]
Stage = Callable[[Sequence[DatabaseRecord]], Sequence[DatabaseRecord]]

_OPERATIONS: Final = ("get", "add", "update", "set", "remove", "end")


@frozen
class Statement:
    """What is done in the end with records of a collection (`operation`), and the steps until then."""

    collection: str
    steps: tuple[tuple[str, Args], ...]
    operation: StatementOperation
    args: Args

    def data(self) -> Value:
        """Return the `data` that the last step is called with."""
        match self.args:
            case ({"data": data, **others},) if not others:
                return data
            case _:
                raise syntax_error(f"{self.operation} takes an object with data alone")


@frozen
class Selection:
    """Which records, in which order; None stands for what was not said. `step_names` are the steps it was made by."""

    predicate: RecordPredicate
    sort_fields: tuple[tuple[str, bool], ...] = ()
    skip: int = 0
    limit: int | None = None
    fields: DatabaseRecord | None = None
    record_id: str | int | None = None
    step_names: tuple[str, ...] = ()

    def apply(self, records: Iterable[DatabaseRecord]) -> list[DatabaseRecord]:
        """Return what meets the conditions, in order."""
        return sort_records(filter(self.predicate, records), self.sort_fields)


def parse_statement(text: str, evaluator: Evaluator) -> Statement:
    """Read the one statement of a text."""
    chains = parse(text)
    if len(chains) != 1:
        raise syntax_error("one statement is asked for") if not chains else unsupported("more than one statement")
    return _build_statement(chains[0], evaluator)


def _build_statement(chain: Chain, evaluator: Evaluator) -> Statement:
    first, *steps = [(step.name, evaluator.evaluate_args(step)) for step in chain.steps] or [("", ())]
    match chain.root, chain.is_new, first:
        case "db", False, ("collection", (str(name),)) if name and steps:
            way, args = steps.pop()
        case _:
            raise unsupported("what is no db.collection(…) with steps")
    if way not in _OPERATIONS:
        raise unsupported(f"{way}() at the end")
    return Statement(name, tuple(steps), cast("StatementOperation", way), args)


def build_selection(statement: Statement) -> Selection:
    """Return which records a statement is about."""
    chosen = Selection(lambda _: True)
    for name, args in statement.steps:
        step = _STEP_HANDLERS.get(name)
        if step is None:
            raise unsupported(f"{name}() before {statement.operation}()")
        if name != "orderBy" and _step_category(name) in map(_step_category, chosen.step_names):
            raise unsupported(f"{name}() after another {_step_category(name)}()")
        chosen = evolve(step(chosen, args), step_names=(*chosen.step_names, name))
    return chosen


def _step_category(name: str) -> str:
    """Return what a step says something about: ``doc`` chooses records as ``where`` does."""
    return "where" if name == "doc" else name


def build_pipeline(statement: Statement) -> Stage:
    """Return what an aggregate makes of all records of its collection."""
    first, *rest = statement.steps or [("", ())]
    if first != ("aggregate", ()) or statement.args:
        raise syntax_error("an aggregate is db.collection(…).aggregate()….end()")
    stages = [_build_stage(name, args) for name, args in rest]

    def run(records: Sequence[DatabaseRecord]) -> Sequence[DatabaseRecord]:
        for stage in stages:
            records = stage(records)
        return records

    return run


def project(record: DatabaseRecord, fields: DatabaseRecord) -> DatabaseRecord:
    """Return a record with the fields that are wanted, or without those that are not; ``_id`` stays unless unwanted."""
    wanted = {name for name, value in fields.items() if value}
    if wanted - {"_id"}:
        wanted |= {"_id"} if fields.get("_id", True) else set[str]()
        return {name: value for name, value in record.items() if name in wanted}
    return {name: value for name, value in record.items() if name not in fields or fields[name]}


def _apply_where(selection: Selection, args: Args) -> Selection:
    conditions = _single_arg("where", args)
    return evolve(selection, predicate=build_predicate(conditions))


def _apply_doc(selection: Selection, args: Args) -> Selection:
    record_id = _single_arg("doc", args)
    if type(record_id) not in (str, int) or record_id == "":
        raise syntax_error("doc takes an _id")
    return evolve(selection, predicate=build_predicate({"_id": record_id}), record_id=record_id)


def _apply_order_by(selection: Selection, args: Args) -> Selection:
    match args:
        case (str(path), "asc" | "desc" as order):
            return evolve(selection, sort_fields=(*selection.sort_fields, (path, order == "desc")))
        case _:
            raise syntax_error("orderBy takes a field and 'asc' or 'desc'")


def _apply_skip(selection: Selection, args: Args) -> Selection:
    return evolve(selection, skip=_parse_count("skip", args, 0))


def _apply_limit(selection: Selection, args: Args) -> Selection:
    count = _parse_count("limit", args, 1)
    if count > MAX_LIMIT:
        raise platform_error(40097, f"query: limit is {MAX_LIMIT} at the most")
    return evolve(selection, limit=count)


def _apply_field(selection: Selection, args: Args) -> Selection:
    fields = _single_arg("field", args)
    return evolve(selection, fields=_parse_projection("field", fields))


_STEP_HANDLERS: Final[Mapping[str, Callable[[Selection, Args], Selection]]] = {
    "where": _apply_where,
    "doc": _apply_doc,
    "orderBy": _apply_order_by,
    "skip": _apply_skip,
    "limit": _apply_limit,
    "field": _apply_field,
}


def _build_stage(name: str, args: Args) -> Stage:
    match name:
        case "match":
            test = build_predicate(_single_arg(name, args))
            return lambda records: list(filter(test, records))
        case "sort":
            orders = _parse_sort(_single_arg(name, args))
            return lambda records: sort_records(records, orders)
        case "skip":
            skipped = _parse_count(name, args, 0)
            return lambda records: records[skipped:]
        case "limit":
            limited = _parse_count(name, args, 1)
            return lambda records: records[:limited]
        case "project":
            fields = _parse_projection(name, _single_arg(name, args))
            return lambda records: [project(record, fields) for record in records]
        case _:
            raise unsupported(f"the stage {name}")


def _parse_sort(orders: Value) -> list[tuple[str, bool]]:
    if not isinstance(orders, dict) or not orders:
        raise syntax_error("sort takes an object of fields")
    found: list[tuple[str, bool]] = []
    for path, order in cast("DatabaseRecord", orders).items():
        if type(order) is not int or order not in (1, -1):
            raise syntax_error(f"sort takes 1 or -1 for {path}")
        found.append((path, order < 0))
    return found


def _parse_projection(name: str, fields: Value) -> DatabaseRecord:
    if not isinstance(fields, dict) or not fields:
        raise syntax_error(f"{name} takes an object of fields")
    found = cast("DatabaseRecord", fields)
    if any("." in key or type(value) not in (bool, int) or value not in (0, 1) for key, value in found.items()):
        raise unsupported(f"{name} with more than names of fields and true or false")
    if len({bool(value) for key, value in found.items() if key != "_id"}) > 1:
        raise syntax_error(f"{name} takes fields that are wanted, or that are not")
    return found


def _parse_count(name: str, args: Args, minimum: int) -> int:
    count = _single_arg(name, args)
    if type(count) is not int or count < minimum:
        raise syntax_error(f"{name} takes a whole number, at least {minimum}")
    return count


def _single_arg(name: str, args: Args) -> Value:
    if len(args) != 1:
        raise syntax_error(f"{name} takes one argument")
    return args[0]
