"""Specification of a tenant as JSON: the fields of a tenants file, and the form in which a journal stores them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Final, cast

import attrs
import cattrs
import orjson

from wxtcb._protocol.fields import wire_fields
from wxtcb._protocol.structuring import describe_error, make_converter
from wxtcb.api.cloudrun import PLACEHOLDER_ENV_ID, Server
from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import JournalError
from wxtcb.provision.tenant import Service, Tenant
from wxtcb.secret import Secret

__all__ = ["dump_tenant", "load_tenant"]

CSV_COLUMNS: Final = ("tenant", "alias", "appids", "services", "env")
TENANT_FIELDS: Final = (*CSV_COLUMNS, "source_type")

# These limits bound time and memory for any tenant.
MAX_CELL_LENGTH: Final = 32_767  # characters; Excel has the same limit
MAX_VALUES: Final = 10_000  # values of one tenant

_settings_of: Final = attrgetter(*(field.name for field in attrs.fields(Server) if field.name != "service_name"))
_NO_SETTINGS: Final = _settings_of(Server(service_name="x", is_public=False))


def dump_tenant(tenant: Tenant) -> bytes:
    """Return *tenant* as JSON, from which `load_tenant` makes an equal one; the same tenant gives the same bytes.

    They contain the secrets of its services. Raises `InvalidArgument` if it has more than 10,000 values, a text of more
    than 32,767 characters, or a value that JSON cannot represent; the message quotes none of them.
    """
    servers = [service.template for service in tenant.services]
    services = [
        server.service_name if _settings_of(server) == _NO_SETTINGS else _dump_server(server) for server in servers
    ]
    values = (tenant.alias, [*tenant.appids] or None, services or None, tenant.env, tenant.source_type)
    fields: dict[str, object] = {"tenant": tenant.name}
    fields |= {name: value for name, value in zip(TENANT_FIELDS[1:], values, strict=True) if value is not None}
    problem = _limit_error(fields)
    if problem is None:
        try:
            spec = orjson.dumps(fields, default=_to_json)
        except orjson.JSONEncodeError:
            problem = "a value cannot be represented in JSON"
        else:
            # `Tenant` has checked the rest, but not the types of all settings of a service.
            has_settings = not all(isinstance(service, str) for service in services)
            problem = _difference(spec, tenant) if has_settings else None
            if problem is None:
                return spec
    # Without a cause: it could quote a secret.
    raise InvalidArgument(f"tenant {tenant.name!r} cannot be submitted: {problem}") from None


def _difference(spec: bytes, tenant: Tenant) -> str | None:
    """Return why *spec* is not read as *tenant*, or None if it is."""
    loaded = parse_tenant(orjson.loads(spec))
    if isinstance(loaded, Tenant):
        return None if loaded == tenant else "a setting of a service has the wrong type, or is an empty password"
    return "; ".join(loaded)


def load_tenant(spec: bytes, tenant: str) -> Tenant:
    """Return the tenant that `dump_tenant` wrote as *spec*; raise `JournalError` if it is not one named *tenant*."""
    try:
        fields = orjson.loads(spec)
    except orjson.JSONDecodeError:
        raise _unreadable(tenant, "it is not JSON") from None
    if not isinstance(fields, dict):
        raise _unreadable(tenant, "it is not a JSON object")
    loaded = parse_tenant(cast("dict[str, object]", fields))
    if not isinstance(loaded, Tenant):
        raise _unreadable(tenant, "; ".join(loaded))
    if loaded.name != tenant:
        raise _unreadable(tenant, "it belongs to another tenant")
    return loaded


def _unreadable(tenant: str, problem: str) -> JournalError:
    return JournalError(
        f"the journal contains a specification of tenant {tenant!r} that this version of wxtcb cannot read: {problem}. "
        "Submit the tenant again."
    )


def _dump_server(server: Server) -> dict[str, object]:
    return {name: value for name, value in wire_fields(server).items() if value is not None and name != "env_id"}


def _to_json(value: object) -> object:
    """Return what `orjson` writes for a nested settings object of a service, or for a secret."""
    if isinstance(value, Secret):
        return value.reveal()
    if attrs.has(type(value)):
        return {
            name: item for name, item in wire_fields(cast("attrs.AttrsInstance", value)).items() if item is not None
        }
    raise TypeError


def parse_tenant(fields: Mapping[str, object]) -> Tenant | list[str]:
    """Return the tenant of JSON *fields*, or all their problems; no message quotes a value that may be secret."""
    if problem := _limit_error(fields):
        return [problem]
    if "tenant" in fields and not fields.keys() - TENANT_FIELDS:
        with contextlib.suppress(cattrs.BaseValidationError):
            return _structure_tenant(fields)
    problems = [] if "tenant" in fields else ["the tenant is missing"]
    unknown = (name for name in fields if name not in TENANT_FIELDS)
    problems += [f"unknown field {name!r} (known: {', '.join(TENANT_FIELDS)})" for name in unknown]
    # Each field is tried alone: the converter would stop at the first invalid one.
    for name in TENANT_FIELDS:
        if name in fields:
            try:
                _structure_tenant({"tenant": "x", name: fields[name]})
            except cattrs.BaseValidationError as error:
                problems += map(_format_error, cattrs.transform_error(error, format_exception=_describe_error))
    return problems


def _limit_error(fields: Mapping[str, object]) -> str | None:
    """Return the problem of fields that would take much time or memory to check or to report."""
    pending, count = [*fields.values()], 0
    while pending:
        value = pending.pop()
        count += 1
        if count + len(pending) > MAX_VALUES:
            return f"the tenant has more than {MAX_VALUES:,} values"
        if isinstance(value, str) and len(value) > MAX_CELL_LENGTH:
            return f"a text is longer than {MAX_CELL_LENGTH:,} characters"
        # No request can contain it, and Python raises `ValueError` for its text in a message.
        if isinstance(value, int) and value.bit_length() > 63:
            return "a number is too large"
        if isinstance(value, dict):
            pending += cast("dict[str, object]", value).values()
        elif isinstance(value, list):
            pending += cast("list[object]", value)
    return None


def _structure_tenant(fields: Mapping[str, object]) -> Tenant:
    renamed = {"name" if name == "tenant" else name: value for name, value in fields.items()}
    return _CONVERTER.structure(renamed, Tenant)


def _format_error(line: str) -> str:
    """Return "message @ $.path", which cattrs writes, as "path: message"."""
    message, _, path = line.rpartition(" @ $")
    path = path.removeprefix(".")
    path = "tenant" if path == "name" else path
    # Validators of `Tenant` name their field themselves, and cattrs gives no path for them.
    return f"{path}: {message}" if path else message.replace("Tenant: name", "the tenant").removeprefix("Tenant: ")


def _describe_error(error: BaseException, expected_type: type | None) -> str:
    if isinstance(error, InvalidArgument):
        return str(error).removeprefix("Service: ")
    # The converter names the expected JSON type. `describe_error` would name the Python type.
    return f"expected {error}" if isinstance(error, TypeError) else describe_error(error, expected_type)


def _structure_service(value: object, _: object) -> Service:
    if isinstance(value, str):
        return Service.from_name(value.strip())
    if not isinstance(value, dict):
        raise InvalidArgument(f"must be a name or a table of the fields of Server, not {type(value).__name__}")
    table = cast("dict[str, object]", value)
    if "env_id" in table:
        raise InvalidArgument("env_id must be left out: the environment does not exist yet")
    return Service(_CONVERTER.structure({"is_public": False, **table, "env_id": PLACEHOLDER_ENV_ID}, Server))


_CONVERTER: Final = make_converter(forbid_extra_keys=True)
# By predicate: `Service` is an attrs class too, and later hooks win.
_CONVERTER.register_structure_hook_func(lambda type_: type_ is Service, _structure_service)
