"""Values of records: evaluation, comparison, and extended JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

import orjson
from attrs import field, frozen

from wxtcb.sandbox.services.database.parser import (
    MAX_SAFE_INTEGER,
    Chain,
    ChainStep,
    Expression,
    syntax_error,
    unsupported,
)

# JSON values, datetime, Decimal or bytes.
Value: TypeAlias = Any
DatabaseRecord = dict[str, Value]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_RECORD_DEPTH: Final = 128
_LOGICAL_OPERATORS: Final = ("and", "or")
# The sort order of MongoDB.
_TYPE_ORDER: Final = (type(None), float, str, dict, list, bytes, bool, datetime)


def type_rank(value: Value) -> int:
    """Return the rank of a value's type in the sort order of the database. All numbers share one rank."""
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return _TYPE_ORDER.index(float if number else type(value))


def sort_key(value: Value) -> tuple[Any, ...]:
    """Return a key that is equal for equal values and sorts like the database."""
    rank = type_rank(value)
    if isinstance(value, dict):
        return rank, tuple((key, sort_key(each)) for key, each in cast("DatabaseRecord", value).items())
    if isinstance(value, list):
        return rank, tuple(sort_key(each) for each in value)
    if (isinstance(value, float) and math.isnan(value)) or (isinstance(value, Decimal) and value.is_nan()):
        # NaN is not comparable, so it needs a key of its own: less than all numbers.
        return rank, -math.inf
    return (rank, 0) if value is None else (rank, value)


def encode_record(record: DatabaseRecord) -> str:
    """Return a record as extended JSON."""
    return orjson.dumps(_encode(record)).decode()


def decode_record(text: str | bytes) -> DatabaseRecord:
    """Return the record in extended JSON. Raise `ValueError` if the text is invalid."""
    try:
        return {_check_key(key): _decode(value, 1) for key, value in orjson.loads(text).items()}
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a record in extended JSON: {error}") from error


def _encode(value: Value) -> Value:
    match value:
        case dict():
            return {key: _encode(each) for key, each in cast("DatabaseRecord", value).items()}
        case list():
            return [_encode(each) for each in value]
        case int() if abs(value) > MAX_SAFE_INTEGER:
            # JavaScript would round it.
            return {"$numberLong": str(value)}
        case float() if not math.isfinite(value) or value.is_integer():
            # Plain JSON would turn it into an integer or nothing.
            name = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(str(value), str(value))
            return {"$numberDouble": name}
        case Decimal():
            return {"$numberDecimal": str(value)}
        case datetime():
            return {"$date": value.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        case bytes():
            return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": "00"}}
        case _:
            return value


def _decode(value: Value, depth: int) -> Value:
    if depth > MAX_RECORD_DEPTH:
        raise ValueError(f"the nesting exceeds {MAX_RECORD_DEPTH} levels")
    if isinstance(value, list):
        return [_decode(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    fields = cast("DatabaseRecord", value)
    if len(fields) == 1 and (name := next(iter(fields))) in _DECODERS:
        return _DECODERS[name](fields[name])
    return {_check_key(key): _decode(each, depth + 1) for key, each in fields.items()}


def _check_key(key: str) -> str:
    if not key or key.startswith(("$", ".")) or key.endswith(".") or ".." in key:
        raise ValueError(f"invalid key {key!r}")
    return key


def _parse_iso_date(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _decode_date(inner: Value) -> datetime:
    if isinstance(inner, str):
        return _parse_iso_date(inner)
    return _EPOCH + timedelta(milliseconds=int(inner["$numberLong"]) if isinstance(inner, dict) else inner)


_DECODERS: Final[Mapping[str, Callable[[Value], Value]]] = {
    "$date": _decode_date,
    "$oid": str,
    "$numberInt": int,
    "$numberLong": int,
    "$numberDouble": float,
    "$numberDecimal": Decimal,
    "$binary": lambda inner: base64.b64decode(inner["base64"], validate=True),
}


@frozen
class Command:
    """A query or update operator: ``_.gt(5)``."""

    name: str
    args: tuple[Value, ...]


@frozen
class Evaluator:
    """Evaluator of expressions. `now` is the time of the statement."""

    now: Callable[[], datetime] = field(repr=False)

    def evaluate(self, expression: Expression) -> Value:
        if isinstance(expression, dict):
            return {key: self.evaluate(each) for key, each in expression.items()}
        if isinstance(expression, list):
            return [self.evaluate(each) for each in expression]
        return self._evaluate_chain(expression) if isinstance(expression, Chain) else expression

    def evaluate_args(self, step: ChainStep) -> tuple[Value, ...]:
        if step.args is None:
            raise syntax_error(f"{step.name} must be called")
        return tuple(self.evaluate(arg) for arg in step.args)

    def _evaluate_chain(self, chain: Chain) -> Value:
        root, steps = chain.root, chain.steps
        if root == "db" and steps and steps[0] == ChainStep("command"):
            root, steps = "_", steps[1:]
        match root, [step.name for step in steps]:
            case "_", [_, *joins] if all(join in _LOGICAL_OPERATORS for join in joins) and not chain.is_new:
                command = Command(steps[0].name, self._command_args(steps[0]))
                for step in steps[1:]:
                    command = Command(step.name, (command, *self._command_args(step)))
                return command
            case "Date", [""] if chain.is_new:
                return self._evaluate_date(self.evaluate_args(steps[0]))
            case "db", ["Geo", "Point"]:
                return _evaluate_point(self.evaluate_args(steps[1]))
            case "db", ["serverDate"] if steps[0].args == ():
                return self.now()
            case _:
                raise unsupported(".".join([chain.root, *(step.name for step in chain.steps)]))

    def _command_args(self, step: ChainStep) -> tuple[Value, ...]:
        """Return the arguments of a step. ``and`` and ``or`` accept them separately or in a list."""
        args = self.evaluate_args(step)
        if step.name in _LOGICAL_OPERATORS and len(args) == 1 and isinstance(args[0], list):
            return tuple(args[0])
        return args

    def _evaluate_date(self, args: tuple[Value, ...]) -> datetime:
        try:
            match args:
                case ():
                    return self.now()
                case (int() | float() as milliseconds,) if not isinstance(milliseconds, bool):
                    return _EPOCH + timedelta(milliseconds=milliseconds)
                case (str(text),):
                    return _parse_iso_date(text)
                case _:
                    raise unsupported("new Date with these arguments")
        except (ValueError, OverflowError):
            raise syntax_error(f"invalid date: {args!r}") from None


def _evaluate_point(args: tuple[Value, ...]) -> Value:
    if len(args) != 2 or not all(isinstance(degrees, int | float) for degrees in args):
        raise syntax_error("Point takes a longitude and a latitude")
    longitude, latitude = args
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise syntax_error(f"longitude or latitude out of range: {longitude}, {latitude}")
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


def require_plain_value(value: Value) -> Value:
    """Return *value*. Raise `PlatformError` if it is or contains a `Command`."""
    if isinstance(value, Command):
        raise unsupported(f"_.{value.name} here")
    if isinstance(value, dict | list):
        for each in cast("DatabaseRecord", value).values() if isinstance(value, dict) else value:
            require_plain_value(each)
    return value
