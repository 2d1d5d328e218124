"""Checks of what a caller gives; each refuses with `InvalidArgument`, naming the field, before anything is sent."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    import attrs

    Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]

T = TypeVar("T")

Variables = Mapping[str, str | Secret]

_ALIAS_PATTERN: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")
_WHITESPACE: Final = re.compile(r"[\s\x00-\x1f]")
_LOOPBACK_HOST: Final = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


def check_string(name: str, value: object) -> None:
    """Refuse what is no text, or none but spaces."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument(f"{name} must be a text that is not empty, not {value!r}")


def check_alias(name: str, value: object) -> None:
    """Refuse what the platform refuses as an environment's alias."""
    if not isinstance(value, str) or not _ALIAS_PATTERN.fullmatch(value):
        raise InvalidArgument(f"{name} must start with a-z and hold only a-z, A-Z, 0-9 and '-', not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidArgument(f"{name} must be a number of seconds above 0, not {value!r}")


def check_positive_int(name: str, value: object) -> None:
    """Refuse what is no whole number above 0."""
    if type(value) is not int or value < 1:
        raise InvalidArgument(f"{name} must be a whole number above 0, not {value!r}")


def check_number(name: str, value: object) -> None:
    """Refuse what is no finite number."""
    if type(value) not in (int, float) or not math.isfinite(cast("float", value)):
        raise InvalidArgument(f"{name} must be a number, not {value!r}")


def check_type(name: str, value: object, expected_type: type) -> None:
    """Refuse what is not exactly of *kind*; a bool is no int."""
    if type(value) is not expected_type:
        raise InvalidArgument(f"{name} must be {expected_type.__name__}, not {type(value).__name__}")


def check_type_or_none(name: str, value: object, expected_type: type) -> None:
    """Refuse what is neither None nor exactly of *kind*."""
    if value is not None:
        check_type(name, value, expected_type)


def to_file_path(path: object, *, memory_hint: str) -> Path:
    """Return the full path of a file; of memory, which is none, say what is there *otherwise*."""
    if not isinstance(path, str | os.PathLike) or not isinstance(text := os.fspath(path), str):
        raise InvalidArgument(f"path must be a text or a Path, not {type(path).__name__}")
    if not text or "\0" in text:
        raise InvalidArgument(f"path must be that of a file, not {text!r}")
    if text == ":memory:":
        raise InvalidArgument(f"path must be that of a file; {memory_hint}")
    return Path(text).resolve()


def check_mapping(name: str, value: object) -> None:
    """Refuse what is no mapping; its keys are not looked at."""
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} must be a mapping from texts, not {type(value).__name__}")


def check_query(name: str, value: object) -> None:
    """Refuse what is no mapping from texts to texts; a text that is no proper Unicode would leave as another one."""
    check_mapping(name, value)
    if "access_token" in cast("Mapping[object, object]", value):
        raise InvalidArgument(f"{name} must not hold access_token; give a token of your own as token=")
    for key, text in cast("Mapping[str, str]", value).items():
        check_string(f"{name}: a key", key)
        check_type(f"{name}: {key}", text, str)
        if not (is_valid_unicode(key) and is_valid_unicode(text)):
            raise InvalidArgument(f"{name}: {key!r} must be in proper Unicode")


def is_valid_unicode(value: str | Secret) -> bool:
    """Tell whether a text can be written as UTF-8: one out of the environment may hold bytes that are none."""
    text = value.reveal() if isinstance(value, Secret) else value
    return text.isprintable() or text == text.encode(errors="replace").decode()


def check_secret(name: str, value: object) -> None:
    """Refuse what is neither a text nor a `Secret`, or is empty; the value is not quoted."""
    if not isinstance(value, str | Secret) or not value or not is_valid_unicode(value):
        raise InvalidArgument(f"{name} must be a text or a Secret that is not empty, in proper Unicode")


def check_variables(name: str, value: object) -> None:
    """Refuse what is no mapping from names to texts or secrets, of which none is quoted."""
    check_mapping(name, value)
    for key, text in cast("Mapping[object, object]", value).items():
        check_string(f"{name}: a name", key)
        if not isinstance(text, str | Secret) or not is_valid_unicode(text):
            raise InvalidArgument(f"{name}: {key} must be a text or a Secret, in proper Unicode")


def check_list(name: str, value: object, check_entry: Callable[[str, object], None]) -> None:
    """Refuse what is no tuple (see `to_tuple`), and what *check_entry* refuses of its entries."""
    if not isinstance(value, tuple):
        raise InvalidArgument(f"{name} must be a list, not {value!r}")
    for number, entry in enumerate(value):
        check_entry(f"{name}[{number}]", entry)


def check_strings(name: str, value: object) -> None:
    """Refuse what is no tuple of texts that are not empty."""
    check_list(name, value, check_string)


def check_list_of(name: str, value: object, expected_type: type) -> None:
    """Refuse what is no tuple of entries that are exactly of *kind*."""
    check_list(name, value, lambda place, entry: check_type(place, entry, expected_type))


def check_not_empty(name: str, value: object) -> None:
    """Refuse an empty tuple."""
    if not value:
        raise InvalidArgument(f"{name} must hold at least one entry")


def validator(check: Callable[[str, object], None], *, optional: bool = False) -> Validator:
    """Make an attrs validator of *check*; with *optional* it accepts None as well."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not (optional and value is None):
            check(f"{type(instance).__name__}: {attribute.name}", value)

    return validate


def instance_validator(*expected_types: type, optional: bool = True) -> Validator:
    """Make an attrs validator that accepts instances of *kinds* and of their subclasses, and None if *optional*."""

    def check(name: str, value: object) -> None:
        if not isinstance(value, expected_types):
            wanted = " or ".join(kind.__name__ for kind in expected_types)
            raise InvalidArgument(f"{name} must be a {wanted}, not {type(value).__name__}")

    return validator(check, optional=optional)


def type_validator(expected_type: type, *, optional: bool = True) -> Validator:
    """Make an attrs validator that accepts exactly *kind*, and None if *optional*."""
    return validator(lambda name, value: check_type(name, value, expected_type), optional=optional)


def int_range(minimum: int, maximum: int | None = None, *, optional: bool = True) -> Validator:
    """Make an attrs validator that accepts a whole number from *least* to *most*, and None if *optional*."""
    wanted = f"a whole number from {minimum} " + ("on" if maximum is None else f"to {maximum}")

    def check(name: str, value: object) -> None:
        if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
            raise InvalidArgument(f"{name} must be {wanted}, not {value!r}")

    return validator(check, optional=optional)


def to_variables(value: Variables | None) -> Variables | None:
    """Copy a mapping, so that it stays as it was checked; what is none is left to be refused."""
    return dict(value) if isinstance(value, Mapping) else value


def to_secret_or_none(value: str | Secret | None) -> Secret | None:
    """Keep a text as a secret, an empty one too; what is none is left to be refused."""
    return Secret(value) if isinstance(value, str) else value


def to_tuple(value: Iterable[T]) -> tuple[T, ...]:
    """Convert a list to a tuple; what is none, and a text, which would be taken apart, is left to be refused."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return cast("tuple[T, ...]", value)
    return tuple(value)


def to_str_tuple(value: Iterable[str]) -> tuple[str, ...]:
    """Convert as `to_tuple` does; type checkers follow no generic converter."""
    return to_tuple(value)


def to_str_tuple_or_none(value: Iterable[str] | None) -> tuple[str, ...] | None:
    """Convert as `to_tuple` does; None stays None."""
    return None if value is None else to_tuple(value)


def hide_arguments_in_traceback(cls: type[T]) -> type[T]:
    """Make a class whose constructor, when it refuses, shows its arguments in no frame of the traceback."""
    init = vars(cls)["__init__"]

    @functools.wraps(init)
    def forget(self: object, *args: object, **options: object) -> None:
        try:
            init(self, *args, **options)
        except Exception as error:
            refusal = error.with_traceback(None)
        else:
            return
        self, args, options = None, (), {}
        raise refusal

    type.__setattr__(cls, "__init__", forget)
    return cls


def check_base_url(value: object, *, allow_http: bool) -> None:
    """Refuse a base_url that is incomplete, or that would show the token on the way."""
    check_string("base_url", value)
    url = None if _WHITESPACE.search(str(value)) else _split_url(str(value))
    if url is None:
        raise InvalidArgument("base_url must be http:// or https:// and a host, for instance https://api.weixin.qq.com")
    if url.username or url.password or url.query or url.fragment:
        raise InvalidArgument("base_url must hold no user, password, query or fragment")
    if url.scheme == "http" and not allow_http and not is_loopback(str(value)):
        raise InvalidArgument(
            f"base_url: plain http to {url.hostname} would show every token to the network: use https, "
            "or allow_http=True"
        )


def check_proxy(value: str) -> None:
    """Refuse a proxy's URL that is incomplete, without quoting it: it may hold a password."""
    if _split_url(value) is None:
        raise InvalidArgument("proxy must be http:// or https:// and a host")


def is_loopback(base_url: str) -> bool:
    """Tell whether *base_url* points at this machine."""
    url = _split_url(base_url)
    return url is not None and bool(_LOOPBACK_HOST.fullmatch(url.hostname or ""))


def _split_url(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL with a host, or None if it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        return None
    return parts if usable and parts.scheme in ("http", "https") and parts.hostname else None
