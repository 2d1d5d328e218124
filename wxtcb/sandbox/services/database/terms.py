"""What the terms of a statement mean: values, and commands for fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from attrs import field, frozen

from wxtcb.sandbox.services.database.parser import Chain, Step, Term
from wxtcb.sandbox.services.database.values import Value
from wxtcb.sandbox.services.database.words import malformed, not_simulated

__all__ = ["Command", "Meaning", "need_plain"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JOINS: Final = ("and", "or")


@frozen
class Command:
    """What is asked of a field, or done to it: ``_.gt(5)``."""

    name: str
    args: tuple[Value, ...]


@frozen
class Meaning:
    """Gives terms their values; `now` is the moment of the statement."""

    now: Callable[[], datetime] = field(repr=False)

    def of(self, term: Term) -> Value:
        """Return the value of a term: JSON, a moment, or a `Command`."""
        if isinstance(term, dict):
            return {key: self.of(each) for key, each in term.items()}
        if isinstance(term, list):
            return [self.of(each) for each in term]
        return self._called(term) if isinstance(term, Chain) else term

    def args_of(self, step: Step) -> tuple[Value, ...]:
        """Return the values a step is called with."""
        if step.args is None:
            raise malformed(f"{step.name} must be called")
        return tuple(self.of(arg) for arg in step.args)

    def _called(self, chain: Chain) -> Value:
        root, steps = chain.root, chain.steps
        if root == "db" and steps and steps[0] == Step("command"):
            root, steps = "_", steps[1:]
        match root, [step.name for step in steps]:
            case "_", [_, *joins] if all(join in _JOINS for join in joins) and not chain.made:
                return self._command(steps)
            case "Date", [""] if chain.made:
                return self._date(self.args_of(steps[0]))
            case "db", ["Geo", "Point"]:
                return _point(self.args_of(steps[1]))
            case "db", ["serverDate"] if steps[0].args == ():
                return self.now()
            case _:
                raise not_simulated(".".join([chain.root, *(step.name for step in chain.steps)]))

    def _command(self, steps: tuple[Step, ...]) -> Command:
        first, *joins = steps
        command = Command(first.name, self._joined(first))
        for join in joins:
            command = Command(join.name, (command, *self._joined(join)))
        return command

    def _joined(self, step: Step) -> tuple[Value, ...]:
        """Return the arguments of a step; ``and`` and ``or`` take theirs one by one or in a list."""
        args = self.args_of(step)
        if step.name in _JOINS and len(args) == 1 and isinstance(args[0], list):
            return tuple(args[0])
        return args

    def _date(self, args: tuple[Value, ...]) -> datetime:
        try:
            match args:
                case ():
                    return self.now()
                case (int() | float() as milliseconds,) if not isinstance(milliseconds, bool):
                    return _EPOCH + timedelta(milliseconds=milliseconds)
                case (str(text),):
                    moment = datetime.fromisoformat(text)
                    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
                case _:
                    raise not_simulated("new Date of this")
        except (ValueError, OverflowError):
            raise malformed(f"no date: {args!r}") from None


def _point(args: tuple[Value, ...]) -> Value:
    match args:
        case (int() | float() as longitude, int() | float() as latitude):
            if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
                raise malformed(f"no place on the globe: {longitude}, {latitude}")
            return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}
        case _:
            raise malformed("Point takes a longitude and a latitude")


def need_plain(value: Value) -> Value:
    """Return a value; refuse one that is, or holds, a command."""
    if isinstance(value, Command):
        raise not_simulated(f"_.{value.name} here")
    if isinstance(value, dict):
        for each in cast("dict[str, Value]", value).values():
            need_plain(each)
    if isinstance(value, list):
        for each in value:
            need_plain(each)
    return value
