"""Argument validation: checks and converters for arguments that have a documented rule.

A check raises `InvalidArgument`, naming the argument, before a request is sent. A converter leaves a value of another
type unchanged, so that the check which follows it reports the value.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from yarl import URL

from wxtcb._files.access import resolve_links
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    import attrs

    # attrs passes the instance, the attribute and the value, and cannot know their types.
    Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]

T = TypeVar("T")

Variables = Mapping[str, str | Secret]

# A shorter message token can be guessed from one captured push, without asking anybody. 16 letters and digits have 95
# bits.
RECOMMENDED_TOKEN_LENGTH: Final = 16
# Official rule of createTcbEnv: the alias starts with a-z and contains only a-z, A-Z, 0-9 and '-'.
_ALIAS_PATTERN: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")
# Wider than real appids ("wx" and 16 hexadecimal digits): the platform's own samples say "appid_value".
_APPID_PATTERN: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WHITESPACE: Final = re.compile(r"[\s\x00-\x1f]")
_MINI_PROGRAM_APPID_PATTERN: Final = re.compile(r"wx[0-9a-z]{16}")
# The pages of the batch interfaces give no rule for the name of a service. This is the one of CloudBase's HTTP API
# (`/v1/cloudrun/{name}`), but a single letter is accepted as well.
_SERVICE_NAME_PATTERN: Final = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9_-]{0,58}[a-zA-Z0-9])?")


def check_string(name: str, value: object) -> None:
    """Raise unless *value* is a string with at least one character that is not whitespace."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument(f"{name} must be a non-empty string, not {value!r}")


def check_appid(name: str, value: object) -> None:
    """Raise unless *value* has the form of an appid; the message does not quote it.

    If two variables are swapped in a deployment, the value is a secret.
    """
    if not isinstance(value, str) or not _APPID_PATTERN.fullmatch(value):
        raise InvalidArgument(f"{name} must be the platform's appid: letters, digits, '_' and '-'")


def check_alias(name: str, value: object) -> None:
    """Raise unless *value* follows the platform's rule for the alias of an environment."""
    if not isinstance(value, str) or not _ALIAS_PATTERN.fullmatch(value):
        raise InvalidArgument(f"{name} must start with a-z and contain only a-z, A-Z, 0-9 and '-', not {value!r}")


def check_mini_program_appid(name: str, value: object) -> None:
    """Raise unless *value* has the form of the appid of a mini program."""
    if not isinstance(value, str) or not _MINI_PROGRAM_APPID_PATTERN.fullmatch(value):
        # Both ids stand on the same page of the console.
        hint = "; gh_... is the original id (原始ID)" if str(value).startswith("gh_") else ""
        raise InvalidArgument(f"{name} must be 'wx' and 16 lower-case letters or digits, not {value!r}{hint}")


def check_service_name(name: str, value: object) -> None:
    """Raise unless *value* can be the name of a cloud-hosting service."""
    if not isinstance(value, str) or not _SERVICE_NAME_PATTERN.fullmatch(value):
        raise InvalidArgument(
            f"{name} must have at most 60 of a-z, A-Z, 0-9, '-' and '_', start with a letter, and end with a letter or "
            f"digit, not {value!r}"
        )


def check_mini_program_appids(name: str, value: object) -> None:
    """Raise unless *value* is a tuple of appids of mini programs."""
    check_list(name, value, check_mini_program_appid)


def check_seconds(name: str, value: object) -> None:
    """Raise unless *value* is a positive, finite number."""
    # bool is a subclass of int, and NaN compares false with everything.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidArgument(f"{name} must be a positive number of seconds, not {value!r}")


def check_positive_int(name: str, value: object) -> None:
    """Raise unless *value* is an integer of at least 1."""
    if type(value) is not int or value < 1:
        raise InvalidArgument(f"{name} must be a positive integer, not {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise unless *value* is a finite number."""
    if type(value) not in (int, float) or not math.isfinite(cast("float", value)):
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")


def check_type(name: str, value: object, expected_type: type) -> None:
    """Raise unless *value* is of exactly *expected_type*; a bool is not an int."""
    if type(value) is not expected_type:
        raise InvalidArgument(f"{name} must be {expected_type.__name__}, not {type(value).__name__}")


def check_secret(name: str, value: object) -> None:
    """Raise unless *value* is a non-empty string or `Secret` in valid Unicode; the message does not quote it."""
    if not isinstance(value, str | Secret) or not value or not is_valid_unicode(value):
        raise InvalidArgument(f"{name} must be a non-empty string or Secret in valid Unicode")


def is_valid_unicode(value: str | Secret) -> bool:
    """Return whether *value* can be encoded as UTF-8.

    Environment variables and command-line arguments that are not UTF-8 contain lone surrogates (PEP 383).
    """
    text = value.reveal() if isinstance(value, Secret) else value
    # `isprintable` is false for surrogates and avoids the copy in the usual case.
    return text.isprintable() or text == text.encode(errors="replace").decode()


@overload
def to_secret(value: str | Secret) -> Secret: ...
@overload
def to_secret(value: None) -> None: ...
def to_secret(value: str | Secret | None) -> Secret | None:
    """Wrap a string, also an empty one, in a `Secret`."""
    return Secret(value) if isinstance(value, str) else value


def to_file_path(path: object, *, memory_hint: str) -> Path:
    """Return *path* as an absolute path without links; *memory_hint* says what to use instead of ``:memory:``.

    A link of another user is rejected: see `resolve_links`.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise InvalidArgument(f"path must be a string or a Path, not {type(path).__name__}")
    if not text or "\0" in text:
        raise InvalidArgument(f"path must be a file path, not {text!r}")
    if text == ":memory:":
        raise InvalidArgument(f"path must be a file path; {memory_hint}")
    return resolve_links(Path(text))


def check_mapping(name: str, value: object) -> None:
    """Raise unless *value* is a mapping; its keys are not checked."""
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} must be a mapping with string keys, not {type(value).__name__}")


def check_query(name: str, value: object) -> None:
    """Raise unless *value* is a mapping from strings to strings in valid Unicode, without a token."""
    check_mapping(name, value)
    # The library adds the token itself. A second one would replace it, and would not be redacted.
    if "access_token" in cast("Mapping[object, object]", value):
        raise InvalidArgument(f"{name} must not contain access_token; pass your own token as token=")
    for key, text in cast("Mapping[str, str]", value).items():
        check_string(f"{name}: a key", key)
        check_type(f"{name}: {key}", text, str)
        # A lone surrogate is lost when the URL is encoded, so the request would name another resource.
        if not (is_valid_unicode(key) and is_valid_unicode(text)):
            raise InvalidArgument(f"{name}: {key!r} must be valid Unicode")


def check_variables(name: str, value: object) -> None:
    """Raise unless *value* is a mapping from names to strings or secrets; the message does not quote a value."""
    check_mapping(name, value)
    for key, text in cast("Mapping[object, object]", value).items():
        check_string(f"{name}: a name", key)
        if not isinstance(text, str | Secret) or not is_valid_unicode(text):
            raise InvalidArgument(f"{name}: {key} must be a string or Secret in valid Unicode")


def to_variables(value: Variables | None) -> Mapping[str, Secret] | None:
    """Copy a mapping, so that a later change of the original cannot bypass the checks, and wrap its strings."""
    if not isinstance(value, Mapping):
        return value
    # The values are passwords and keys often enough. As plain strings, an errmsg that quotes the request showed them.
    return {name: to_secret(text) if isinstance(text, str) else text for name, text in value.items()}


def check_list(name: str, value: object, check_entry: Callable[[str, object], None]) -> None:
    """Raise unless *value* is a tuple (see `to_tuple`) and *check_entry* accepts each entry."""
    if not isinstance(value, tuple):
        raise InvalidArgument(f"{name} must be a list, not {value!r}")
    for index, entry in enumerate(value):
        check_entry(f"{name}[{index}]", entry)


def check_strings(name: str, value: object) -> None:
    """Raise unless *value* is a tuple of non-empty strings."""
    check_list(name, value, check_string)


def check_list_of(name: str, value: object, expected_type: type) -> None:
    """Raise unless *value* is a tuple of entries of exactly *expected_type*."""
    check_list(name, value, lambda entry_name, entry: check_type(entry_name, entry, expected_type))


def check_not_empty(name: str, value: object) -> None:
    """Raise if *value* has no entries."""
    if not value:
        raise InvalidArgument(f"{name} must contain at least one entry")


def to_tuple(value: Iterable[T]) -> tuple[T, ...]:
    """Convert an iterable to a tuple; a string stays a string, because it would be split into characters."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return cast("tuple[T, ...]", value)
    return tuple(value)


def to_str_tuple(value: Iterable[str]) -> tuple[str, ...]:
    """Convert as `to_tuple` does; as an attrs converter, a generic function has no type for type checkers."""
    return to_tuple(value)


def require_strings(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return *values* as a tuple; raise unless there is at least one, and all are non-empty strings."""
    strings = to_tuple(values)
    check_strings(name, strings)
    check_not_empty(name, strings)
    return strings


def to_str_tuple_or_none(value: Iterable[str] | None) -> tuple[str, ...] | None:
    """Convert as `to_tuple` does, except None."""
    return None if value is None else to_tuple(value)


def validator(check: Callable[[str, object], None], *, optional: bool = False) -> Validator:
    """Return an attrs validator that calls *check* with "Class: attribute" as the name; *optional* accepts None."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not (optional and value is None):
            check(f"{type(instance).__name__}: {attribute.name}", value)

    return validate


def instance_validator(*expected_types: type, optional: bool = True) -> Validator:
    """Return an attrs validator for instances of *expected_types* and their subclasses; *optional* accepts None."""
    expected = " or ".join(each.__name__ for each in expected_types)

    def check(name: str, value: object) -> None:
        if not isinstance(value, expected_types):
            raise InvalidArgument(f"{name} must be a {expected}, not {type(value).__name__}")

    return validator(check, optional=optional)


def type_validator(expected_type: type, *, optional: bool = True) -> Validator:
    """Return an attrs validator for exactly *expected_type*; *optional* accepts None."""
    return validator(lambda name, value: check_type(name, value, expected_type), optional=optional)


def int_range(minimum: int, maximum: int | None = None, *, optional: bool = True) -> Validator:
    """Return an attrs validator for an integer from *minimum* to *maximum*, inclusive; *optional* accepts None."""
    expected = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"

    def check(name: str, value: object) -> None:
        if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
            raise InvalidArgument(f"{name} must be {expected}, not {value!r}")

    return validator(check, optional=optional)


def one_of(*values: str) -> Validator:
    """Return a validator: the field must be one of *values*, or None."""

    def check(name: str, value: object) -> None:
        if value not in values:
            raise InvalidArgument(f"{name} must be {' or '.join(map(repr, values))}, not {value!r}")

    return validator(check, optional=True)


def hide_arguments_in_traceback(cls: type[T]) -> type[T]:
    """Wrap the constructor of *cls*, so that an exception it raises shows no argument in its traceback.

    Sentry and similar tools read the local variables of every frame. The frames of ``__init__`` and of its converters
    contain the secrets as plain strings.
    """
    init = vars(cls)["__init__"]

    @functools.wraps(init)
    def init_without_frames(self: object, *args: object, **kwargs: object) -> None:
        try:
            init(self, *args, **kwargs)
        except Exception as error:
            failure = error.with_traceback(None)
        else:
            return
        # Raised outside of `except`, or the new frame would get the old exception as its context. This frame is part
        # of the traceback too, so its arguments are cleared first.
        self, args, kwargs = None, (), {}
        raise failure

    # A plain assignment would be an error for mypy (method-assign).
    type.__setattr__(cls, "__init__", init_without_frames)
    return cls


def check_base_url(value: object, *, allow_http: bool) -> None:
    """Raise if *value* is not a complete base URL, or if requests to it would expose the token.

    Plain http exposes the token in the query to the network. It is accepted to a loopback address, or with
    *allow_http*. A path is allowed: it is put before the path of every call.
    """
    check_string("base_url", value)
    # URL parsers remove tabs and newlines silently (bpo-43882).
    url = None if _WHITESPACE.search(str(value)) else _parse_url(str(value))
    if url is None:
        raise InvalidArgument(
            "base_url must consist of http:// or https:// and a host, for instance https://api.weixin.qq.com; a path, "
            "such as that of a gateway, is put before the path of every call"
        )
    if url.user or url.password or url.query or url.fragment:
        raise InvalidArgument("base_url must not contain a user, password, query or fragment")
    if url.scheme == "http" and not allow_http and not is_loopback(str(value)):
        raise InvalidArgument(
            f"base_url: plain http to {url.raw_host} would expose every token to the network; use https, or set "
            "allow_http=True"
        )


def check_proxy(value: str) -> None:
    """Raise unless *value* is the URL of a proxy; the message does not quote it, since it may contain a password."""
    if _parse_url(value) is None:
        raise InvalidArgument("proxy must consist of http:// or https:// and a host")


def is_loopback(base_url: str) -> bool:
    """Return whether *base_url* is on this machine."""
    url = _parse_url(base_url)
    if url is None or url.raw_host is None:
        return False
    # Names are not resolved: `localhost.example.com` is another machine.
    try:
        return ipaddress.ip_address(url.raw_host).is_loopback
    except ValueError:
        return url.raw_host == "localhost"


def _parse_url(value: str) -> URL | None:
    """Return an http or https URL with a host, or None for anything else.

    aiohttp connects to what yarl reads, so no other parser may judge a URL.
    """
    try:
        url = URL(value)
    except ValueError:
        return None
    # Port 0 cannot be connected to.
    return url if url.scheme in ("http", "https") and url.raw_host and url.port else None
