"""What the terms of a statement mean: values, and commands for fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from attrs import field, frozen

from wxtcb.sandbox.services.database.parser import Chain, ChainStep, Expression
from wxtcb.sandbox.services.database.values import Value
from wxtcb.sandbox.services.database.words import syntax_error, unsupported

__all__ = ["Command", "Evaluator", "require_plain_value"]

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOGICAL_OPERATORS: Final = ("and", "or")


@frozen
class Command:
    """What is asked of a field, or done to it: ``_.gt(5)``."""

    name: str
    args: tuple[Value, ...]


@frozen
class Evaluator:
    """Gives terms their values; `now` is the moment of the statement."""

    now: Callable[[], datetime] = field(repr=False)

    def evaluate(self, expression: Expression) -> Value:
        """Return the value of a term: JSON, a moment, or a `Command`."""
        if isinstance(expression, dict):
            return {key: self.evaluate(each) for key, each in expression.items()}
        if isinstance(expression, list):
            return [self.evaluate(each) for each in expression]
        return self._evaluate_chain(expression) if isinstance(expression, Chain) else expression

    def evaluate_args(self, step: ChainStep) -> tuple[Value, ...]:
        """Return the values a step is called with."""
        if step.args is None:
            raise syntax_error(f"{step.name} must be called")
        return tuple(self.evaluate(arg) for arg in step.args)

    def _evaluate_chain(self, chain: Chain) -> Value:
        root, steps = chain.root, chain.steps
        if root == "db" and steps and steps[0] == ChainStep("command"):
            root, steps = "_", steps[1:]
        match root, [step.name for step in steps]:
            case "_", [_, *joins] if all(join in _LOGICAL_OPERATORS for join in joins) and not chain.is_new:
                return self._evaluate_command(steps)
            case "Date", [""] if chain.is_new:
                return self._evaluate_date(self.evaluate_args(steps[0]))
            case "db", ["Geo", "Point"]:
                return _evaluate_point(self.evaluate_args(steps[1]))
            case "db", ["serverDate"] if steps[0].args == ():
                return self.now()
            case _:
                raise unsupported(".".join([chain.root, *(step.name for step in chain.steps)]))

    def _evaluate_command(self, steps: tuple[ChainStep, ...]) -> Command:
        first, *joins = steps
        command = Command(first.name, self._command_args(first))
        for join in joins:
            command = Command(join.name, (command, *self._command_args(join)))
        return command

    def _command_args(self, step: ChainStep) -> tuple[Value, ...]:
        """Return the arguments of a step; ``and`` and ``or`` take theirs one by one or in a list."""
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
                    return _UNIX_EPOCH + timedelta(milliseconds=milliseconds)
                case (str(text),):
                    moment = datetime.fromisoformat(text)
                    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
                case _:
                    raise unsupported("new Date of this")
        except (ValueError, OverflowError):
            raise syntax_error(f"no date: {args!r}") from None


def _evaluate_point(args: tuple[Value, ...]) -> Value:
    match args:
        case (int() | float() as longitude, int() | float() as latitude):
            if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
                raise syntax_error(f"no place on the globe: {longitude}, {latitude}")
            return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}
        case _:
            raise syntax_error("Point takes a longitude and a latitude")


def require_plain_value(value: Value) -> Value:
    """Return a value; refuse one that is, or holds, a command."""
    if isinstance(value, Command):
        raise unsupported(f"_.{value.name} here")
    if isinstance(value, dict):
        for each in cast("dict[str, Value]", value).values():
            require_plain_value(each)
    if isinstance(value, list):
        for each in value:
            require_plain_value(each)
    return value
