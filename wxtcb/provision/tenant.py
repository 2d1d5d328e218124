"""What is wanted: tenants, each with an environment, mini programs and services. Pure; nothing here sends anything."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Self

import attrs

from wxtcb.api.cloudrun import Server
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    check_alias,
    check_list,
    check_string,
    check_strings,
    check_type,
    hide_arguments_in_traceback,
    to_str_tuple,
    to_tuple,
    type_validator,
)

PLACEHOLDER_ENV_ID: Final = "(not open yet)"
_CONTROL_CATEGORIES: Final = ("Cc", "Cs")


def derive_alias(namespace: str, tenant: str) -> str:
    """Derive the alias of a tenant that was given none: the same tenant of the same namespace always gets the same.

    The alias is the key by which an environment is found again, so neither text may change once it was used.
    """
    for name, value in (("namespace", namespace), ("tenant", tenant)):
        check_name(name, value)
    return _hash_alias(namespace, tenant)


def _hash_alias(namespace: str, tenant: str) -> str:
    digest = hashlib.blake2b(f"{namespace}\0{tenant}".encode(), digest_size=10).digest()
    return "t" + base64.b32encode(digest).decode().lower()


def check_name(name: str, value: object) -> None:
    """Refuse what is no text, none but spaces, or holds a control character: NUL would let two names become one."""
    check_string(name, value)
    if not is_valid_name(str(value)):
        raise InvalidArgument(f"{name} must hold no control characters (NUL, line breaks and the like), not {value!r}")


def is_valid_name(value: str) -> bool:
    """Tell whether a text is free of control characters."""
    return value.isprintable() or all(unicodedata.category(letter) not in _CONTROL_CATEGORIES for letter in value)


def _clear_env_id(server: Server) -> Server:
    check_type("Service: server", server, Server)
    return attrs.evolve(server, env_id=PLACEHOLDER_ENV_ID)


@hide_arguments_in_traceback
@attrs.frozen
class Service:
    """A cloud-hosting service of an environment that is not open yet: a `Server` whose `env_id` does not count.

    Write ``Service(Server(env_id=LATER, service_name="api", is_public=True))``, or `Service.from_name`.
    """

    _template: Server = attrs.field(converter=_clear_env_id)

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Return the service with this name, closed to the internet, and all else as the platform has it."""
        return cls(Server(env_id=PLACEHOLDER_ENV_ID, service_name=name, is_public=False))

    @property
    def name(self) -> str:
        return self._template.service_name

    @property
    def remark(self) -> str | None:
        return self._template.remark

    def to_server(self, env_id: str) -> Server:
        """Return what to establish, now that the environment is there."""
        return attrs.evolve(self._template, env_id=env_id)


def _check_unique(name: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InvalidArgument(f"{name} holds {', '.join(map(repr, twice))} more than once")


def _check_tenant_name(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_name(f"Tenant: {attribute.name}", value)


def _check_optional_alias(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if value is not None:
        check_alias(f"Tenant: {attribute.name}", value)


def _check_appids(_: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    check_strings(f"Tenant: {attribute.name}", value)
    _check_unique(f"Tenant: {attribute.name}", value)


def _as_services(value: Iterable[Service]) -> tuple[Service, ...]:
    return to_tuple(value)


def _check_services(_: object, attribute: attrs.Attribute[Any], value: tuple[Service, ...]) -> None:
    name = f"Tenant: {attribute.name}"
    check_list(name, value, lambda place, service: check_type(place, service, Service))
    _check_unique(name, (service.name for service in value))


@attrs.frozen
class Tenant:
    """One customer: an environment of its own, shared with the mini programs `appids`, with `services` in it.

    `alias` None stands for the derived one (`derive_alias`). `source_type` goes with the share, and only when given: see
    `wxtcb.api.environment.batch_share_env`.
    """

    name: str = attrs.field(validator=_check_tenant_name)
    alias: str | None = attrs.field(default=None, kw_only=True, validator=_check_optional_alias)
    appids: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=to_str_tuple, validator=_check_appids)
    services: tuple[Service, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_services, validator=_check_services
    )
    source_type: int | None = attrs.field(default=None, kw_only=True, validator=type_validator(int))

    @property
    def service_names(self) -> tuple[str, ...]:
        return tuple(service.name for service in self.services)

    def resolve_alias(self, namespace: str) -> str:
        """Return the alias its environment has or will have."""
        return self.alias or _hash_alias(namespace, self.name)


@attrs.define
class DuplicateCheck:
    """Finds tenants and aliases that appear twice; `location` is where each was first met, for the message."""

    namespace: str | None = None
    _names: dict[str, str] = attrs.field(init=False, factory=dict)
    _aliases: dict[str, tuple[str, str]] = attrs.field(init=False, factory=dict)

    def add(self, name: str, alias: str | None, location: str, derived_alias: str | None = None) -> list[str]:
        """Note a tenant, its alias if one was given, and the derived one if known; return what speaks against it."""
        first = self._names.setdefault(name, location)
        if first != location:
            problems = [f"tenant {name!r} is there already ({first})"]
            return problems + self._add_alias(name, alias, location) if alias else problems
        if alias is None and self.namespace is None:
            return []
        return self._add_alias(name, alias or derived_alias or _hash_alias(self.namespace or "", name), location)

    def _add_alias(self, name: str, alias: str, location: str) -> list[str]:
        if taken := self._aliases.get(alias.lower()):
            other, first = taken
            problem = f"alias {alias!r} of tenant {name!r} is that of tenant {other!r} already ({first})"
            return [f"{problem}; upper and lower case make no difference"]
        self._aliases[alias.lower()] = (name, location)
        return []


def resolve_aliases(tenants: Iterable[Tenant], namespace: str) -> tuple[str, ...]:
    """Return the alias of each, given or derived.

    Refuses tenants of which two have the same name or alias; all problems at once.
    """
    roll = DuplicateCheck(namespace)
    aliases: list[str] = []
    problems: list[str] = []
    for number, tenant in enumerate(tenants, 1):
        place = f"tenant {number}"
        check_type(place, tenant, Tenant)
        aliases.append(tenant.resolve_alias(namespace))
        problems += [f"{place}: {problem}" for problem in roll.add(tenant.name, tenant.alias, place, aliases[-1])]
    if problems:
        raise InvalidArgument("; ".join(problems))
    return tuple(aliases)
