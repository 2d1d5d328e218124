"""Credentials, from the environment and from nowhere else: arguments can be read by every program of the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.errors import InvalidArgument, TicketError, TicketExpired, TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens import SqliteStore, TokenStore
from wxtcb.tokens.providers import StoredTicketSource, TicketSource
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.stores import ClosableTokenStore
from wxtcb.validation import check_base_url, is_loopback

APPID_VAR: Final = "WXTCB_COMPONENT_APPID"
APPSECRET_VAR: Final = "WXTCB_COMPONENT_APPSECRET"
TICKET_VAR: Final = "WXTCB_TICKET"
TICKET_FILE_VAR: Final = "WXTCB_TICKET_FILE"
STORE_URL_VAR: Final = "WXTCB_TOKEN_STORE"
BASE_URL_VAR: Final = "WXTCB_BASE_URL"
STORE_KEY_VAR: Final = "WXTCB_TOKEN_STORE_KEY"
MSGTOKEN_VAR: Final = "WXTCB_MESSAGE_TOKEN"
AES_KEY_VAR: Final = "WXTCB_ENCODING_AES_KEY"
PREVIOUS_AES_KEY_VAR: Final = "WXTCB_PREVIOUS_ENCODING_AES_KEY"
SESSION_VARS: Final = (
    APPID_VAR,
    APPSECRET_VAR,
    TICKET_VAR,
    TICKET_FILE_VAR,
    BASE_URL_VAR,
    STORE_URL_VAR,
    STORE_KEY_VAR,
)
RECEIVER_VARS: Final = (MSGTOKEN_VAR, AES_KEY_VAR, PREVIOUS_AES_KEY_VAR)
_STRING_VARS: Final = (APPID_VAR, APPSECRET_VAR, TICKET_VAR, BASE_URL_VAR, STORE_URL_VAR, STORE_KEY_VAR)
DEFAULT_BASE_URL: Final = "https://api.weixin.qq.com"


def base_url_from_env(env: Mapping[str, str]) -> str:
    """Return the platform's address that the environment names, or the real one's."""
    return env.get(BASE_URL_VAR, "").strip() or DEFAULT_BASE_URL


@attrs.frozen
class TicketFile:
    """A file that something else keeps the newest ticket in; read anew for every token."""

    path: Path

    async def __call__(self) -> str:
        """Return the ticket; `TicketError` names the file where it cannot be read."""
        try:
            ticket = (await anyio.Path(self.path).read_text("utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = _file_error_reason(error)
        else:
            if ticket:
                return ticket
            reason = "it is empty"
        raise TicketError(f"{TICKET_FILE_VAR}: {self.path} cannot be used ({reason}); no token was asked for")


def _file_error_reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or type(error).__name__


@attrs.frozen
class StoreConfig:
    """The token store that the backend uses, too; its documents are sealed with `key` if there is one."""

    url: Secret
    key: Secret | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TokenStore]:
        """Open the store, and close it at the end; `InvalidArgument` names the variable of what cannot be."""
        store = self._open_url()
        try:
            yield store if self.key is None else self._encrypted(store, self.key)
        finally:
            await store.aclose()

    def _open_url(self) -> ClosableTokenStore:
        from wxtcb.tokens.store_urls import open_store

        with naming_variable(STORE_URL_VAR):
            store = open_store(self.url)
        if isinstance(store, SqliteStore) and not store.path.parent.is_dir():
            raise InvalidArgument(f"{STORE_URL_VAR}: there is no directory {store.path.parent}")
        return store

    def _encrypted(self, store: TokenStore, key: Secret) -> TokenStore:
        from wxtcb.tokens.encrypted import EncryptedStore

        with naming_variable(STORE_KEY_VAR):
            return EncryptedStore(store, key)


@contextmanager
def naming_variable(variable: str) -> Iterator[None]:
    """Put the name of the *variable* before what is wrong with its value."""
    try:
        yield
    except (InvalidArgument, ImportError) as error:
        raise InvalidArgument(f"{variable}: {error}") from None


@attrs.frozen(eq=False)
class StoreFirstTicketSource:
    """Gives the ticket in the store, which is the newest there is; the `given` one while none there can be used."""

    stored: StoredTicketSource
    fallback: Secret | TicketFile

    async def __call__(self) -> Secret:
        try:
            ticket = await self.stored()
        except (TicketExpired, TokenStoreError):
            if not self.fallback:
                raise
            ticket = None
        return ticket or await read_ticket(self.fallback)


async def read_ticket(source: Secret | TicketFile) -> Secret:
    """Return the ticket as it is now; `TicketError` if its file cannot be read."""
    return Secret(await source()) if isinstance(source, TicketFile) else source


@attrs.frozen
class Settings:
    """What the environment says about the platform; the repr shows no secret.

    `ticket` is an empty `Secret` where none is given; `store` is None where nothing is shared with other programs. The
    ticket in a store goes before one that is given.
    """

    component_appid: str
    component_appsecret: Secret
    ticket: Secret | TicketFile
    base_url: str = DEFAULT_BASE_URL
    store: StoreConfig | None = None

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.base_url)

    @asynccontextmanager
    async def session(self, token_store: TokenStore | None = None) -> AsyncIterator[Session]:
        """Open a session on the shared store, or on *token_store* where there is none."""
        async with AsyncExitStack() as stack:
            store = token_store if self.store is None else await stack.enter_async_context(self.store.open())
            session = Session(
                component_appid=self.component_appid,
                component_appsecret=self.component_appsecret,
                ticket=self._ticket_source(store),
                base_url=self.base_url,
                token_store=store,
            )
            yield await stack.enter_async_context(session)

    def require_fetch_permission(self, label: str, *, own_token: bool) -> None:
        """Raise `InvalidArgument` unless *what* may fetch a token.

        It may on this machine, with a store that the backend shares, or with --own-token *given*.
        """
        if self.store is None and not self.on_loopback and not own_token:
            raise InvalidArgument(
                f"{label}: a new token of {self.base_url} may void the one your backend works with; nothing was sent. "
                f"Set {STORE_URL_VAR} to the store that the backend uses, or add --own-token if no other program uses this "
                "platform"
            )

    def _ticket_source(self, store: TokenStore | None) -> TicketSource | Secret | None:
        """Return what gives a session the ticket; None leaves it to the store alone."""
        if store is None or self.store is None or not self.ticket:
            return self.ticket or None
        return self._store_first_source(store)

    def _store_first_source(self, store: TokenStore) -> StoreFirstTicketSource:
        return StoreFirstTicketSource(StoredTicketSource(SharedState(store, self.component_appid)), self.ticket)

    async def newest_ticket(self) -> Secret:
        """Return the ticket as it is now.

        Raises `TicketError` if there is none, or one too old, or its file cannot be read; `TokenStoreError` if only the
        store could have one.
        """
        if self.store is None:
            return await read_ticket(self.ticket)
        async with self.store.open() as store:
            ticket = await self._store_first_source(store)()
        if not ticket:
            raise TicketMissing
        return ticket


def read_settings(env: Mapping[str, str], *, needs_ticket: bool = True) -> Settings:
    """Read the credentials; one `InvalidArgument` names all that is missing or wrong."""
    given = {name: value.strip() for name in SESSION_VARS if (value := env.get(name, "")).strip()}
    if problems := _find_errors(given, needs_ticket=needs_ticket and STORE_URL_VAR not in given):
        raise InvalidArgument("; ".join((*problems, "nothing was sent")))
    ticket = TicketFile(Path(given[TICKET_FILE_VAR])) if TICKET_FILE_VAR in given else Secret(given.get(TICKET_VAR, ""))
    return Settings(
        given[APPID_VAR], Secret(given[APPSECRET_VAR]), ticket, base_url_from_env(env), read_store_config(given)
    )


def read_store_config(env: Mapping[str, str]) -> StoreConfig | None:
    """Return the token store that the environment names, if it names one."""
    url, key = env.get(STORE_URL_VAR, "").strip(), env.get(STORE_KEY_VAR, "").strip()
    return StoreConfig(Secret(url), Secret(key) if key else None) if url else None


def _find_errors(values: Mapping[str, str], *, needs_ticket: bool) -> list[str]:
    missing = [name for name in (APPID_VAR, APPSECRET_VAR) if name not in values]
    if needs_ticket and not values.keys() & {TICKET_VAR, TICKET_FILE_VAR}:
        missing.append(f"{TICKET_VAR} or {TICKET_FILE_VAR} or {STORE_URL_VAR}")
    problems = [f"not set in the environment: {', '.join(missing)}"] if missing else []
    if {TICKET_VAR, TICKET_FILE_VAR} <= values.keys():
        problems.append(f"{TICKET_VAR} and {TICKET_FILE_VAR} are both set: unset one")
    if TICKET_FILE_VAR in values and not Path(values[TICKET_FILE_VAR]).is_file():
        problems.append(f"{TICKET_FILE_VAR}: there is no file {values[TICKET_FILE_VAR]}")
    problems += [f"{name}: it is not UTF-8" for name in _STRING_VARS if not _is_utf8(values.get(name, ""))]
    if STORE_KEY_VAR in values and STORE_URL_VAR not in values:
        problems.append(f"{STORE_KEY_VAR} is set, but not {STORE_URL_VAR}")
    return problems + _base_url_errors(base_url_from_env(values))


def _is_utf8(value: str) -> bool:
    """Tell whether the environment's bytes were text; Python hands on others as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _base_url_errors(base_url: str) -> list[str]:
    try:
        check_base_url(base_url, allow_http=False)
    except InvalidArgument as error:
        return [f"{BASE_URL_VAR}: {error}"]
    return []
