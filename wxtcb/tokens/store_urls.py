"""Token stores by URL, as environment variables and settings files give them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.stores import ClosableTokenStore, SqliteStore


def open_store(url: str | Secret) -> ClosableTokenStore:
    """Return the store at *url*; the caller closes it with `aclose`. Nothing is connected before its first use.

    - ``sqlite:///tokens.db`` is a file in the working directory, ``sqlite:////var/lib/tokens.db`` has an absolute path.
      Special characters of a path are percent-encoded.
    - ``redis://``, ``rediss://`` (TLS) and ``unix://`` are the URLs of redis-py and need the extra ``redis``;
      ``redis://`` is accepted for this machine only. See `RedisStore.from_url` for the options.

    Raises `InvalidArgument` for any other URL. The message quotes no password.
    """
    store = _store_from_url(url)
    if isinstance(store, InvalidArgument):
        # The frame is part of the traceback, and error reporters print its variables.
        del url
        raise store
    return store


def _store_from_url(url: str | Secret) -> ClosableTokenStore | InvalidArgument:
    """Return the store, or the error without a traceback: its frames hold the URL."""
    address = url.reveal() if isinstance(url, Secret) else str(url)
    scheme = address.partition(":")[0].lower()
    try:
        if scheme == "sqlite":
            path = Path(_parse_sqlite_path(address))
            return SqliteStore(path, warn_if_created=not path.is_absolute())
        if scheme in ("redis", "rediss", "unix"):
            from wxtcb.tokens.redis import RedisStore

            return RedisStore.from_url(address)
    except InvalidArgument as error:
        return error.with_traceback(None)
    except ImportError as error:
        return InvalidArgument(f"the token store cannot be opened: {error}")
    except ValueError:
        # The ValueErrors of urlsplit quote the URL.
        return InvalidArgument(f"the URL of the token store is not a valid {scheme}:// URL")
    return InvalidArgument(
        "the URL of a token store must begin with sqlite:///, redis://, rediss:// or unix://, "
        "for example sqlite:////var/lib/shop/tokens.db or rediss://:password@host:6379/0"
    )


def _parse_sqlite_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2 or not url[len("sqlite:") :].startswith("///"):
        raise InvalidArgument(
            "a sqlite URL must have three slashes and then the path of a file; an absolute path, for example "
            "sqlite:////var/lib/shop/tokens.db, has four slashes"
        )
    if parts.query or parts.fragment:
        raise InvalidArgument("a sqlite URL has no options; write ? as %3F and # as %23 if the path contains them")
    return unquote(parts.path[1:])
