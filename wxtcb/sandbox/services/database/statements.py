"""Statements: the steps from a collection to an operation on its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, cast, get_args

from attrs import evolve, frozen

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.database.operators import RecordPredicate, build_predicate, sort_records
from wxtcb.sandbox.services.database.parser import parse, syntax_error, unsupported
from wxtcb.sandbox.services.database.values import DatabaseRecord, Evaluator, Value

MAX_LIMIT: Final = 1000

StatementOperation = Literal["get", "add", "update", "set", "remove", "end"]
Args = tuple[Value, ...]
Stage = Callable[[Sequence[DatabaseRecord]], Sequence[DatabaseRecord]]

_OPERATIONS: Final = get_args(StatementOperation)
# "doc" selects records as "where" does.
_STEP_CATEGORIES: Final = {name: name for name in ("where", "orderBy", "skip", "limit", "field")} | {"doc": "where"}


@frozen
class Statement:
    """An operation on the records of a collection, and the steps before it."""

    collection: str
    steps: tuple[tuple[str, Args], ...]
    operation: StatementOperation
    args: Args

    def data(self) -> Value:
        match self.args:
            case ({"data": data, **others},) if not others:
                return data
        raise syntax_error(f"{self.operation} takes an object that contains only data")


@frozen
class RecordSelection:
    """Conditions, order and limits of a query. None means not given. `step_names` are the steps that were used."""

    predicate: RecordPredicate
    sort_fields: tuple[tuple[str, bool], ...] = ()
    skip: int = 0
    limit: int | None = None
    fields: DatabaseRecord | None = None
    record_id: str | int | None = None
    step_names: tuple[str, ...] = ()

    def apply(self, records: Iterable[DatabaseRecord]) -> list[DatabaseRecord]:
        return sort_records(filter(self.predicate, records), self.sort_fields)

    def project(self, records: list[DatabaseRecord]) -> list[DatabaseRecord]:
        return records if self.fields is None else [_project(record, self.fields) for record in records]


def parse_statement(text: str, evaluator: Evaluator) -> Statement:
    """Parse a text that must contain exactly one statement."""
    chains = parse(text)
    if len(chains) != 1:
        raise syntax_error("a statement is missing") if not chains else unsupported("more than one statement")
    [chain] = chains
    # A lone name has no steps; the empty one stands for them, and matches nothing below.
    first, *steps = [(step.name, evaluator.evaluate_args(step)) for step in chain.steps] or [("", ())]
    match chain.root, chain.is_new, first:
        case "db", False, ("collection", (str(name),)) if name and steps:
            operation, args = steps.pop()
        case _:
            raise unsupported("a statement other than db.collection(…) with steps")
    if operation not in _OPERATIONS:
        raise unsupported(f"{operation}() at the end")
    return Statement(name, tuple(steps), cast("StatementOperation", operation), args)


def build_selection(statement: Statement) -> RecordSelection:
    """Return the selection that the steps of a statement describe."""
    selection = RecordSelection(lambda _: True)
    for name, args in statement.steps:
        if name not in _STEP_CATEGORIES:
            raise unsupported(f"{name}() before {statement.operation}()")
        # Only orderBy may occur several times. doc and where exclude each other.
        category = _STEP_CATEGORIES[name]
        if name != "orderBy" and category in [_STEP_CATEGORIES[step] for step in selection.step_names]:
            raise unsupported(f"{name}() after another {category}()")
        selection = evolve(_apply_step(selection, name, args), step_names=(*selection.step_names, name))
    return selection


def build_pipeline(statement: Statement) -> Stage:
    """Return the function that an aggregate applies to all records of its collection."""
    first, *rest = statement.steps or [("", ())]
    if first != ("aggregate", ()) or statement.args:
        raise syntax_error("an aggregate must be db.collection(…).aggregate()….end()")
    stages = [_build_stage(name, args) for name, args in rest]

    def run(records: Sequence[DatabaseRecord]) -> Sequence[DatabaseRecord]:
        for stage in stages:
            records = stage(records)
        return records

    return run


def _project(record: DatabaseRecord, fields: DatabaseRecord) -> DatabaseRecord:
    """Return a record with the included fields only, or without the excluded ones; ``_id`` stays unless excluded."""
    included = {name for name, value in fields.items() if value}
    if included - {"_id"}:
        included |= {"_id"} if fields.get("_id", True) else set[str]()
        return {name: value for name, value in record.items() if name in included}
    return {name: value for name, value in record.items() if name not in fields or fields[name]}


def _apply_step(selection: RecordSelection, name: str, args: Args) -> RecordSelection:
    match name:
        case "where":
            return evolve(selection, predicate=build_predicate(_single_arg(name, args)))
        case "doc":
            record_id = _single_arg(name, args)
            # `type`, because a bool is an int, and true cannot be an id.
            if type(record_id) not in (str, int) or record_id == "":
                raise syntax_error("doc takes an _id")
            return evolve(selection, predicate=build_predicate({"_id": record_id}), record_id=record_id)
        case "orderBy":
            if len(args) != 2 or not isinstance(args[0], str) or args[1] not in ("asc", "desc"):
                raise syntax_error("orderBy takes a field and 'asc' or 'desc'")
            return evolve(selection, sort_fields=(*selection.sort_fields, (args[0], args[1] == "desc")))
        case "skip":
            return evolve(selection, skip=_parse_count(name, args, 0))
        case "limit":
            count = _parse_count(name, args, 1)
            if count > MAX_LIMIT:
                raise platform_error(40097, f"query: limit must be at most {MAX_LIMIT}")
            return evolve(selection, limit=count)
        case _:
            return evolve(selection, fields=_parse_projection(name, _single_arg(name, args)))


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
            return lambda records: [_project(record, fields) for record in records]
        case _:
            raise unsupported(f"the stage {name}")


def _parse_sort(orders: Value) -> list[tuple[str, bool]]:
    if not isinstance(orders, dict) or not orders:
        raise syntax_error("sort takes a non-empty object of fields")
    result: list[tuple[str, bool]] = []
    for path, order in cast("DatabaseRecord", orders).items():
        if type(order) is not int or order not in (1, -1):
            raise syntax_error(f"sort takes 1 or -1 for {path}")
        result.append((path, order < 0))
    return result


def _parse_projection(name: str, fields: Value) -> DatabaseRecord:
    if not isinstance(fields, dict) or not fields:
        raise syntax_error(f"{name} takes an object of fields")
    projection = cast("DatabaseRecord", fields)
    # As in MongoDB, 1 and 0 stand for true and false. Nested fields and computed ones are not simulated.
    if any("." in key or type(value) not in (bool, int) or value not in (0, 1) for key, value in projection.items()):
        raise unsupported(f"{name} with anything but field names and true or false")
    # `_id` is the exception of MongoDB: it may be excluded from included fields.
    if len({bool(value) for key, value in projection.items() if key != "_id"}) > 1:
        raise syntax_error(f"{name} takes either included or excluded fields, not both")
    return projection


def _parse_count(name: str, args: Args, minimum: int) -> int:
    count = _single_arg(name, args)
    if type(count) is not int or count < minimum:
        raise syntax_error(f"{name} takes an integer, at least {minimum}")
    return count


def _single_arg(name: str, args: Args) -> Value:
    if len(args) != 1:
        raise syntax_error(f"{name} takes one argument")
    return args[0]
