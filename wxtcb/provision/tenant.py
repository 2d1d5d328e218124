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
    as_texts,
    as_tuple,
    check_alias,
    check_kind,
    check_list,
    check_text,
    check_texts,
    forgetful,
    kind_is,
)

LATER: Final = "(not open yet)"
_UNSPEAKABLE: Final = ("Cc", "Cs")


def alias_of(namespace: str, tenant: str) -> str:
    """Derive the alias of a tenant that was given none: the same tenant of the same namespace always gets the same.

    The alias is the key by which an environment is found again, so neither text may change once it was used.
    """
    for name, value in (("namespace", namespace), ("tenant", tenant)):
        check_name(name, value)
    return _derive(namespace, tenant)


def _derive(namespace: str, tenant: str) -> str:
    digest = hashlib.blake2b(f"{namespace}\0{tenant}".encode(), digest_size=10).digest()
    return "t" + base64.b32encode(digest).decode().lower()


def check_name(name: str, value: object) -> None:
    """Refuse what is no text, none but spaces, or holds a control character: NUL would let two names become one."""
    check_text(name, value)
    if not is_name(str(value)):
        raise InvalidArgument(f"{name} must hold no control characters (NUL, line breaks and the like), not {value!r}")


def is_name(value: str) -> bool:
    """Tell whether a text is free of control characters."""
    return value.isprintable() or all(unicodedata.category(letter) not in _UNSPEAKABLE for letter in value)


def _without_env(server: Server) -> Server:
    check_kind("Service: server", server, Server)
    return attrs.evolve(server, env_id=LATER)


@forgetful
@attrs.frozen
class Service:
    """A cloud-hosting service of an environment that is not open yet: a `Server` whose `env_id` does not count.

    Write ``Service(Server(env_id=LATER, service_name="api", is_public=True))``, or `Service.named`.
    """

    _draft: Server = attrs.field(converter=_without_env)

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the service with this name, closed to the internet, and all else as the platform has it."""
        return cls(Server(env_id=LATER, service_name=name, is_public=False))

    @property
    def name(self) -> str:
        return self._draft.service_name

    @property
    def remark(self) -> str | None:
        return self._draft.remark

    def server(self, env_id: str) -> Server:
        """Return what to establish, now that the environment is there."""
        return attrs.evolve(self._draft, env_id=env_id)


def _distinct(name: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InvalidArgument(f"{name} holds {', '.join(map(repr, twice))} more than once")


def _check_tenant_name(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_name(f"Tenant: {attribute.name}", value)


def _check_given_alias(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if value is not None:
        check_alias(f"Tenant: {attribute.name}", value)


def _check_appids(_: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    check_texts(f"Tenant: {attribute.name}", value)
    _distinct(f"Tenant: {attribute.name}", value)


def _as_services(value: Iterable[Service]) -> tuple[Service, ...]:
    return as_tuple(value)


def _check_services(_: object, attribute: attrs.Attribute[Any], value: tuple[Service, ...]) -> None:
    name = f"Tenant: {attribute.name}"
    check_list(name, value, lambda place, service: check_kind(place, service, Service))
    _distinct(name, (service.name for service in value))


@attrs.frozen
class Tenant:
    """One customer: an environment of its own, shared with the mini programs `appids`, with `services` in it.

    `alias` None stands for the derived one (`alias_of`). `source_type` goes with the share, and only when given: see
    `wxtcb.api.environment.batch_share_env`.
    """

    name: str = attrs.field(validator=_check_tenant_name)
    alias: str | None = attrs.field(default=None, kw_only=True, validator=_check_given_alias)
    appids: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=as_texts, validator=_check_appids)
    services: tuple[Service, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_services, validator=_check_services
    )
    source_type: int | None = attrs.field(default=None, kw_only=True, validator=kind_is(int))

    @property
    def service_names(self) -> tuple[str, ...]:
        return tuple(service.name for service in self.services)

    def alias_in(self, namespace: str) -> str:
        """Return the alias its environment has or will have."""
        return self.alias or _derive(namespace, self.name)


@attrs.define
class Roll:
    """Finds tenants and aliases that appear twice; `place` is where each was first met, for the message."""

    namespace: str | None = None
    _names: dict[str, str] = attrs.field(init=False, factory=dict)
    _aliases: dict[str, tuple[str, str]] = attrs.field(init=False, factory=dict)

    def add(self, name: str, alias: str | None, place: str, derived: str | None = None) -> list[str]:
        """Note a tenant, its alias if one was given, and the derived one if known; return what speaks against it."""
        first = self._names.setdefault(name, place)
        if first != place:
            problems = [f"tenant {name!r} is there already ({first})"]
            return problems + self._add_alias(name, alias, place) if alias else problems
        if alias is None and self.namespace is None:
            return []
        return self._add_alias(name, alias or derived or _derive(self.namespace or "", name), place)

    def _add_alias(self, name: str, alias: str, place: str) -> list[str]:
        if taken := self._aliases.get(alias.lower()):
            other, first = taken
            problem = f"alias {alias!r} of tenant {name!r} is that of tenant {other!r} already ({first})"
            return [f"{problem}; upper and lower case make no difference"]
        self._aliases[alias.lower()] = (name, place)
        return []


def aliases_of(tenants: Iterable[Tenant], namespace: str) -> tuple[str, ...]:
    """Return the alias of each, given or derived.

    Refuses tenants of which two have the same name or alias; all problems at once.
    """
    roll = Roll(namespace)
    aliases: list[str] = []
    problems: list[str] = []
    for number, tenant in enumerate(tenants, 1):
        place = f"tenant {number}"
        check_kind(place, tenant, Tenant)
        aliases.append(tenant.alias_in(namespace))
        problems += [f"{place}: {problem}" for problem in roll.add(tenant.name, tenant.alias, place, aliases[-1])]
    if problems:
        raise InvalidArgument("; ".join(problems))
    return tuple(aliases)
