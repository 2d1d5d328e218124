"""Token stores by their address, as an environment variable or a settings file gives it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.stores import ClosableTokenStore, SqliteStore


def open_store(url: str | Secret) -> ClosableTokenStore:
    """Return the store at *url*, for the caller to `aclose`; nothing is connected before its first use.

    ``sqlite:///tokens.db`` is a file in the working directory, ``sqlite:////var/lib/tokens.db`` one anywhere; what is
    special in a URL is written with %. ``redis://``, ``rediss://`` (TLS) and ``unix://`` are those of redis-py and need
    the extra ``redis``. Anything else is `InvalidArgument`, which never shows the URL: it may hold a password.
    """
    store = _store_from_url(url)
    if isinstance(store, InvalidArgument):
        del url
        raise store
    return store


def _store_from_url(url: str | Secret) -> ClosableTokenStore | InvalidArgument:
    address = url.reveal() if isinstance(url, Secret) else str(url)
    scheme = address.partition(":")[0].lower()
    try:
        if scheme == "sqlite":
            return SqliteStore(_parse_sqlite_path(address))
        if scheme in ("redis", "rediss", "unix"):
            return _create_redis_store(address)
    except InvalidArgument as error:
        return error.with_traceback(None)
    except ValueError:
        return InvalidArgument(f"the URL of the token store is no proper {scheme}:// URL")
    return InvalidArgument(
        "the URL of a token store begins with sqlite:///, redis://, rediss:// or unix://, "
        "as in sqlite:///tokens.db or redis://127.0.0.1:6379/0"
    )


def _parse_sqlite_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2 or not url[len("sqlite:") :].startswith("///"):
        raise InvalidArgument(
            "a sqlite URL has three slashes and then the path of a file, as in sqlite:///tokens.db, "
            "and so four slashes where the path begins with one"
        )
    if parts.query or parts.fragment:
        raise InvalidArgument("a sqlite URL takes no options; write ? as %3F and # as %23 where the path has them")
    return unquote(parts.path[1:])


def _create_redis_store(url: str) -> ClosableTokenStore:
    try:
        from wxtcb.tokens.redis import RedisStore
    except ImportError as error:
        raise InvalidArgument(f"the token store: {error}") from None
    return RedisStore.from_url(url)
