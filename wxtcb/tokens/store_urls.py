"""Token stores by URL, as environment variables and settings files give them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.env_vars import StoreSettings, naming_variable
from wxtcb.tokens.stores import ClosableTokenStore, SqliteStore

# Options of the URL of a server that are wxtcb's and not those of its client library.
PLAIN_OPTION: Final = "wxtcb_plain=1"
UNVERIFIED_OPTION: Final = "wxtcb_unverified=1"


@attrs.frozen
class StoreURL:
    """URL of a token store, and the key of an encrypted one; the repr shows neither.

    The store is opened when it is needed: a session may be built before a fork, and two processes must not share a
    connection.
    """

    # A secret, because it may contain the password of a server.
    url: Secret
    key: Secret | None = None

    @classmethod
    def from_settings(cls, settings: StoreSettings) -> StoreURL:
        """Return the URL of *settings*; raise `InvalidArgument`, which names the variable, if it cannot be used."""
        self = cls(settings.url, settings.key)
        # Validates URL and key. Nothing is connected, so the stores need not be closed.
        with naming_variable(f"{settings.prefix}TOKEN_STORE"):
            store = open_store(self.url)
            # SQLite itself would say "unable to open database file", without the reason.
            if isinstance(store, SqliteStore) and not store.path.parent.is_dir():
                raise InvalidArgument(f"directory {store.path.parent} does not exist: create it")
        with naming_variable(f"{settings.prefix}TOKEN_STORE_KEY"):
            self.open()
        return self

    def open(self) -> ClosableTokenStore:
        """Return the store; the caller closes it."""
        store = open_store(self.url)
        if self.key is None:
            return store
        # Needs the extra `ticket`.
        from wxtcb.tokens.encrypted import EncryptedStore

        return EncryptedStore(store, self.key)


def open_store(url: str | Secret) -> ClosableTokenStore:
    """Return the store at *url*; the caller closes it with `aclose`. Nothing is connected before its first use.

    - ``sqlite:///tokens.db`` is a file in the working directory, ``sqlite:////var/lib/tokens.db`` has an absolute path.
      Special characters of a path are percent-encoded.
    - ``redis://``, ``rediss://`` (TLS) and ``unix://`` are the URLs of redis-py and need the extra ``redis``;
      ``redis://`` is accepted for this machine only. See `RedisStore.from_url` for the options.
    - ``postgresql://`` and ``postgres://`` are the URLs of libpq and need the extra ``postgres``; for another machine
      they need ``sslmode=verify-full``. See `PostgresStore.from_url` for the options.

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
        if scheme in ("postgresql", "postgres"):
            from wxtcb.tokens.postgres import PostgresStore

            return PostgresStore.from_url(address)
    except InvalidArgument as error:
        return error.with_traceback(None)
    except ImportError as error:
        return InvalidArgument(f"the token store cannot be opened: {error}")
    except ValueError:
        # The ValueErrors of urlsplit quote the URL.
        return InvalidArgument(f"the URL of the token store is not a valid {scheme}:// URL")
    return InvalidArgument(
        "the URL of a token store must begin with sqlite:///, postgresql://, redis://, rediss:// or unix://, "
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


def split_off_options(url: Secret) -> tuple[Secret, frozenset[str]]:
    """Return *url* without the options that are wxtcb's, and these."""
    address, _, query = url.reveal().partition("?")
    options = frozenset(query.split("&")) & {PLAIN_OPTION, UNVERIFIED_OPTION}
    rest = "&".join(each for each in query.split("&") if each not in options)
    return Secret(f"{address}?{rest}" if rest else address), options


def is_loopback(host: str) -> bool:
    """Return whether *host* is a name or an address of this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
