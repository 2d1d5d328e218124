"""One tenant as a file has it, and the tenant it stands for, or all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Final, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from wxtcb.api.cloudrun import Server
from wxtcb.provision.tenant import LATER, Service, Tenant
from wxtcb.secret import Secret

Reader = Callable[[object, object], object]

COLUMNS: Final = ("tenant", "alias", "appids", "services")
FIELDS: Final = (*COLUMNS, "source_type")
_KINDS: Final = {str: "a text", int: "a whole number", bool: "true or false"}


@attrs.frozen
class Row:
    """The fields of one tenant; `place` is where they stand, "line 3" or "tenant 3". Values may be secret: no repr."""

    place: str
    fields: Mapping[str, object] = attrs.field(repr=False)

    def text(self, name: str) -> str | None:
        """Return a field if it is a text that is not empty."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None


@attrs.frozen
class Flaw:
    """Something wrong with the file, and where."""

    text: str


def tenant_of(row: Row) -> Tenant | tuple[Flaw, ...]:
    """Read the fields of a row strictly; what is wrong is told by field, never by a value that may be secret."""
    found = [*_missing(row.fields), *_unknown(row.fields)]
    for name in FIELDS:
        if name in row.fields:
            found += _flaws_of(name, row.fields[name])
    if found:
        return tuple(Flaw(f"{row.place}: {text}") for text in found)
    return _structure({_attribute(name): value for name, value in row.fields.items()})


def _missing(fields: Mapping[str, object]) -> list[str]:
    return [] if "tenant" in fields else ["the tenant is missing"]


def _unknown(fields: Mapping[str, object]) -> list[str]:
    return [f"unknown field {name!r}; a tenant has {', '.join(FIELDS)}" for name in fields if name not in FIELDS]


def _flaws_of(name: str, value: object) -> list[str]:
    """Try a field alone, so that a row shows the flaws of all its fields."""
    try:
        _structure({"name": "x", _attribute(name): value})
    except cattrs.BaseValidationError as error:
        return [_put(line) for line in cattrs.transform_error(error, format_exception=_explain)]
    return []


def _attribute(name: str) -> str:
    return "name" if name == "tenant" else name


def _structure(fields: Mapping[str, object]) -> Tenant:
    return _converter.structure(_stripped(fields), Tenant)


def _stripped(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}


def _put(line: str) -> str:
    """Turn "what @ $.where" into "where: what"."""
    what, _, where = line.rpartition(" @ $")
    where = where.removeprefix(".")
    where = "tenant" if where == "name" else where
    return f"{where}: {what}" if where else what.replace("Tenant: name", "the tenant").removeprefix("Tenant: ")


def _explain(error: BaseException, _kind: type | None) -> str:
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"unknown field {', '.join(map(repr, sorted(error.extra_fields)))}"
        case _:
            return str(error)


def _exactly(kind: type) -> Reader:
    def read(value: object, _: object) -> object:
        if type(value) is kind:
            return value
        raise TypeError(f"must be {_KINDS[kind]}, not {type(value).__name__}")

    return read


def _read_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("must be a text that is not empty")


def _read_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.named(value.strip())
    if not isinstance(value, dict):
        raise TypeError(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise TypeError("env_id is not known yet: leave it out")
    return Service(_converter.structure({"is_public": False, **table, "env_id": LATER}, Server))


def _is_tuple(kind: object) -> bool:
    return get_origin(kind) is tuple


def _structure_list(kind: object, converter: cattrs.Converter) -> Reader:
    entries = GenericAlias(list, get_args(kind)[:1])
    fill = converter.get_structure_hook(entries)

    def read(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {type(value).__name__}")
        return tuple(fill(value, entries))

    return read


def _structure_table(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> Reader:
    fill = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def read(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {type(value).__name__}")
        return fill(cast("dict[str, object]", value), cls)

    return read


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kind in _KINDS:
        made.register_structure_hook(kind, _exactly(kind))
    made.register_structure_hook_factory(_is_tuple, _structure_list)
    made.register_structure_hook_factory(attrs.has, _structure_table)
    made.register_structure_hook_func(lambda kind: kind is Secret, _read_secret)
    made.register_structure_hook_func(lambda kind: kind is Service, _read_service)
    return made


_converter: Final = _make_converter()
