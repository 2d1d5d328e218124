"""Tenants: desired state of each customer, and the aliases derived from their names. Pure."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Self, cast

import attrs

from wxtcb import validation
from wxtcb.api.cloudrun import PLACEHOLDER_ENV_ID, Server
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_alias, to_str_tuple, type_validator, validator

__all__ = ["Service", "Tenant", "derive_alias"]

# An index of PostgreSQL cannot contain longer keys; a character has up to four bytes.
MAX_KEY_LENGTH: Final = 500
_CONTROL_CATEGORIES: Final = ("Cc", "Cs")


def derive_alias(namespace: str, tenant: str) -> str:
    """Return the derived alias of a tenant; it depends on *namespace* and *tenant* only.

    The platform has no idempotency key: an environment is found again by its alias. So neither argument may change once
    the alias was used. Raises `InvalidArgument` if one is empty, or contains control characters.
    """
    check_name("namespace", namespace)
    check_name("tenant", tenant)
    return _hash_alias(namespace, tenant)


def _hash_alias(namespace: str, tenant: str) -> str:
    # NUL separates the two: no other pair of names gives the same text. The platform wants an alias that starts with a
    # letter and contains letters, digits and "-"; base32 of 10 bytes gives 16 letters and digits without padding.
    digest = hashlib.blake2b(f"{namespace}\0{tenant}".encode(), digest_size=10).digest()
    return "t" + base64.b32encode(digest).decode().lower()


def check_name(name: str, value: object) -> None:
    """Raise `InvalidArgument` unless *value* has 1 to 500 characters, none of them a control character."""
    _check_key(name, value)
    # NUL separates namespace and tenant in the hash of an alias: in a name, it could make two pairs equal.
    if not is_valid_name(str(value)):
        raise InvalidArgument(f"{name} must not contain control characters such as NUL or line breaks: {value!r}")


def _check_key(name: str, value: object) -> None:
    validation.check_string(name, value)
    if len(str(value)) > MAX_KEY_LENGTH:
        raise InvalidArgument(f"{name} must have at most {MAX_KEY_LENGTH} characters, not {len(str(value))}")


def _check_tenant_alias(name: str, value: object) -> None:
    _check_key(name, value)
    check_alias(name, value)


def is_valid_name(value: str) -> bool:
    """Return whether *value* has no control characters."""
    # `isprintable` decides most names at once. It is also False for format characters, which names may contain.
    return value.isprintable() or all(unicodedata.category(letter) not in _CONTROL_CATEGORIES for letter in value)


def _as_template(server: Server | str) -> Server:
    if isinstance(server, str):
        server = Server(service_name=server, is_public=False)
    validation.check_type("Service: server", server, Server)
    validation.check_service_name("Service: name", server.service_name)
    return server if server.env_id == PLACEHOLDER_ENV_ID else attrs.evolve(server, env_id=PLACEHOLDER_ENV_ID)


@validation.hide_arguments_in_traceback
@attrs.frozen
class Service:
    """Cloud-hosting service of an environment that does not exist yet: a `Server` whose `env_id` is ignored, or a name.

    ``Service("api")`` is ``Service(Server(service_name="api", is_public=False))``. Raises `InvalidArgument` for a name
    that does not start with a letter, does not end with a letter or digit, has more than 60 characters, or contains
    others than letters, digits, ``-`` and ``_``.
    """

    _template: Server = attrs.field(converter=_as_template)

    @classmethod
    def from_name(cls, name: str) -> Self:
        return cls(name)

    @property
    def name(self) -> str:
        return self._template.service_name

    @property
    def remark(self) -> str | None:
        return self._template.remark

    @property
    def template(self) -> Server:
        """Settings of the service; the environment is a placeholder."""
        return self._template

    def to_server(self, env_id: str) -> Server:
        return attrs.evolve(self._template, env_id=env_id)


def _as_services(value: Iterable[Service | Server | str]) -> tuple[Service, ...]:
    entries = validation.to_tuple(value)
    if isinstance(entries, tuple):
        entries = tuple(Service(each) if isinstance(each, Server | str) else each for each in entries)
    # Any other value is left to `_check_services`.
    return cast("tuple[Service, ...]", entries)


def _check_appids(name: str, value: object) -> None:
    validation.check_mini_program_appids(name, value)
    _check_unique(name, cast("tuple[str, ...]", value))


def _check_service(name: str, value: object) -> None:
    if type(value) is not Service:
        raise InvalidArgument(f"{name} must be a name or a Service, not {type(value).__name__}")


def _check_services(name: str, value: object) -> None:
    validation.check_list(name, value, _check_service)
    _check_unique(name, (service.name for service in cast("tuple[Service, ...]", value)))


def _check_unique(name: str, values: Iterable[str]) -> None:
    if duplicates := [value for value, count in Counter(values).items() if count > 1]:
        raise InvalidArgument(f"{name} contains {', '.join(map(repr, duplicates))} more than once")


@attrs.frozen
class Tenant:
    """Customer with one environment, which is shared with the mini programs `appids` and contains `services`.

    - `alias`: alias of the environment; None derives it from the name (`derive_alias`).
    - `appids`: each is ``wx`` and 16 lower-case letters or digits.
    - `services`: names, servers (their `env_id` is ignored) or `Service` objects; a name means a service that is not
      public.
    - `source_type`: sent with the share if it is given; see `wxtcb.api.environment.batch_share_env`.
    - `env`: existing environment that the tenant adopts, as with ``Provisioner.plan(adopt=)``; None if it has none yet.

    Raises `InvalidArgument` if a value breaks the platform's rule for it, or if `name`, `alias` or `env` has more than
    500 characters.
    """

    name: str = attrs.field(validator=validator(check_name))
    alias: str | None = attrs.field(default=None, kw_only=True, validator=validator(_check_tenant_alias, optional=True))
    appids: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=to_str_tuple, validator=validator(_check_appids)
    )
    services: tuple[Service, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_services, validator=validator(_check_services)
    )
    source_type: int | None = attrs.field(default=None, kw_only=True, validator=type_validator(int))
    env: str | None = attrs.field(default=None, kw_only=True, validator=validator(_check_key, optional=True))

    @property
    def service_names(self) -> tuple[str, ...]:
        return tuple(service.name for service in self.services)

    def resolve_alias(self, namespace: str) -> str:
        return self.alias or _hash_alias(namespace, self.name)


@attrs.define
class DuplicateCheck:
    """Search for tenants, aliases and environments that appear twice.

    Derived aliases are compared only if `namespace` is known.
    """

    namespace: str | None = None
    _names: dict[str, str] = attrs.field(init=False, factory=dict)
    _aliases: dict[str, tuple[str, str]] = attrs.field(init=False, factory=dict)
    _envs: dict[str, tuple[str, str]] = attrs.field(init=False, factory=dict)

    def add(
        self, name: str, alias: str | None, location: str, *, env: str | None = None, derived_alias: str | None = None
    ) -> list[str]:
        """Add a tenant and return the messages of its duplicates; *derived_alias* saves deriving it again."""
        problems: list[str] = []
        first = self._names.setdefault(name, location)
        if first != location:
            problems.append(f"tenant {name!r} is duplicated (first at {first})")
        # The derived alias of a duplicated name is a duplicate as well: one message is enough.
        elif alias is None and self.namespace is not None:
            alias = derived_alias or _hash_alias(self.namespace, name)
        if alias is not None:
            other, first = self._aliases.setdefault(alias.lower(), (name, location))
            if first != location:
                problem = f"alias {alias!r} of tenant {name!r} is already used by tenant {other!r} ({first})"
                problems.append(f"{problem}; aliases are compared without case")
        if env is not None:
            other, first = self._envs.setdefault(env, (name, location))
            if first != location:
                problems.append(f"environment {env!r} of tenant {name!r} is already used by tenant {other!r} ({first})")
        return problems


def resolve_aliases(tenants: Iterable[Tenant], namespace: str) -> tuple[str, ...]:
    """Return the alias of each tenant, given or derived; raise `InvalidArgument` with all duplicates."""
    return tuple(alias for _, alias in iter_aliases(tenants, namespace))


def iter_aliases(tenants: Iterable[Tenant], namespace: str) -> Iterator[tuple[Tenant, str]]:
    """Yield each tenant with its alias, given or derived; at the end, raise `InvalidArgument` with all duplicates."""
    duplicate_check, problems = DuplicateCheck(namespace), list[str]()
    for number, tenant in enumerate(tenants, 1):
        location = f"tenant {number}"
        validation.check_type(location, tenant, Tenant)
        alias = tenant.resolve_alias(namespace)
        yield tenant, alias
        found = duplicate_check.add(tenant.name, tenant.alias, location, env=tenant.env, derived_alias=alias)
        problems += [f"{location}: {problem}" for problem in found]
    if problems:
        raise InvalidArgument("; ".join(problems))
