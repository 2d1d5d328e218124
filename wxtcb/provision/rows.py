"""One tenant as a file has it, and the tenant it stands for, or all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Final, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn

from wxtcb.api.cloudrun import Server
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID, Service, Tenant
from wxtcb.secret import Secret

StructureHook = Callable[[object, object], object]

CSV_COLUMNS: Final = ("tenant", "alias", "appids", "services")
TENANT_FIELDS: Final = (*CSV_COLUMNS, "source_type")
_TYPE_NAMES: Final = {str: "a text", int: "a whole number", bool: "true or false"}


@attrs.frozen
class TenantRow:
    """The fields of one tenant; `location` is where they stand, "line 3" or "tenant 3". Values may be secret: no repr."""

    location: str
    fields: Mapping[str, object] = attrs.field(repr=False)

    def get_string(self, name: str) -> str | None:
        """Return a field if it is a text that is not empty."""
        value = self.fields.get(name)
        return value.strip() or None if isinstance(value, str) else None


@attrs.frozen
class FileProblem:
    """Something wrong with the file, and where."""

    message: str


def parse_tenant(row: TenantRow) -> Tenant | tuple[FileProblem, ...]:
    """Read the fields of a row strictly; what is wrong is told by field, never by a value that may be secret."""
    found = [*_missing_field_errors(row.fields), *_unknown_field_errors(row.fields)]
    for name in TENANT_FIELDS:
        if name in row.fields:
            found += _field_errors(name, row.fields[name])
    if found:
        return tuple(FileProblem(f"{row.location}: {text}") for text in found)
    return _structure_tenant({_attribute_name(name): value for name, value in row.fields.items()})


def _missing_field_errors(fields: Mapping[str, object]) -> list[str]:
    return [] if "tenant" in fields else ["the tenant is missing"]


def _unknown_field_errors(fields: Mapping[str, object]) -> list[str]:
    return [
        f"unknown field {name!r}; a tenant has {', '.join(TENANT_FIELDS)}"
        for name in fields
        if name not in TENANT_FIELDS
    ]


def _field_errors(name: str, value: object) -> list[str]:
    """Try a field alone, so that a row shows the flaws of all its fields."""
    try:
        _structure_tenant({"name": "x", _attribute_name(name): value})
    except cattrs.BaseValidationError as error:
        return [_format_error(line) for line in cattrs.transform_error(error, format_exception=_describe_error)]
    return []


def _attribute_name(name: str) -> str:
    return "name" if name == "tenant" else name


def _structure_tenant(fields: Mapping[str, object]) -> Tenant:
    return _CONVERTER.structure(_strip_values(fields), Tenant)


def _strip_values(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value.strip() if isinstance(value, str) else value for name, value in fields.items()}


def _format_error(line: str) -> str:
    """Turn "what @ $.where" into "where: what"."""
    what, _, where = line.rpartition(" @ $")
    where = where.removeprefix(".")
    where = "tenant" if where == "name" else where
    return f"{where}: {what}" if where else what.replace("Tenant: name", "the tenant").removeprefix("Tenant: ")


def _describe_error(error: BaseException, _type: type | None) -> str:
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"unknown field {', '.join(map(repr, sorted(error.extra_fields)))}"
        case _:
            return str(error)


def _exact_type_hook(type_: type) -> StructureHook:
    def read(value: object, _: object) -> object:
        if type(value) is type_:
            return value
        raise TypeError(f"must be {_TYPE_NAMES[type_]}, not {type(value).__name__}")

    return read


def _structure_secret(value: object, _: object) -> Secret:
    if isinstance(value, str) and value:
        return Secret(value)
    raise TypeError("must be a text that is not empty")


def _structure_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.from_name(value.strip())
    if not isinstance(value, dict):
        raise TypeError(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise TypeError("env_id is not known yet: leave it out")
    return Service(_CONVERTER.structure({"is_public": False, **table, "env_id": PLACEHOLDER_ENV_ID}, Server))


def _is_tuple(type_: object) -> bool:
    return get_origin(type_) is tuple


def _list_hook(type_: object, converter: cattrs.Converter) -> StructureHook:
    entries = GenericAlias(list, get_args(type_)[:1])
    fill = converter.get_structure_hook(entries)

    def read(value: object, _: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {type(value).__name__}")
        return tuple(fill(value, entries))

    return read


def _table_hook(cls: type[attrs.AttrsInstance], converter: cattrs.Converter) -> StructureHook:
    fill = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def read(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"must be a table, not {type(value).__name__}")
        return fill(cast("dict[str, object]", value), cls)

    return read


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kind in _TYPE_NAMES:
        made.register_structure_hook(kind, _exact_type_hook(kind))
    made.register_structure_hook_factory(_is_tuple, _list_hook)
    made.register_structure_hook_factory(attrs.has, _table_hook)
    made.register_structure_hook_func(lambda kind: kind is Secret, _structure_secret)
    made.register_structure_hook_func(lambda kind: kind is Service, _structure_service)
    return made


_CONVERTER: Final = _make_converter()
