"""Credentials, from the environment and from nowhere else: arguments can be read by every program of the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.errors import InvalidArgument, TicketError, TicketMissing, TicketTooOld, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens import SqliteStore, TokenStore
from wxtcb.tokens.providers import KeptTicketSource
from wxtcb.tokens.shared_state import SharedRecord
from wxtcb.tokens.sources import TicketSource
from wxtcb.tokens.stores import OwnedStore
from wxtcb.validation import check_base_url, is_loopback

APPID: Final = "WXTCB_COMPONENT_APPID"
APPKEY: Final = "WXTCB_COMPONENT_APPSECRET"
TICKET: Final = "WXTCB_TICKET"
TICKET_FILE: Final = "WXTCB_TICKET_FILE"
STORE: Final = "WXTCB_TOKEN_STORE"
BASE_URL: Final = "WXTCB_BASE_URL"
STORE_KEY: Final = "WXTCB_TOKEN_STORE_KEY"
SIGNING: Final = "WXTCB_MESSAGE_TOKEN"
AES_KEY: Final = "WXTCB_ENCODING_AES_KEY"
PREVIOUS_AES_KEY: Final = "WXTCB_PREVIOUS_ENCODING_AES_KEY"
VARIABLES: Final = (APPID, APPKEY, TICKET, TICKET_FILE, BASE_URL, STORE, STORE_KEY)
OF_THE_RECEIVER: Final = (SIGNING, AES_KEY, PREVIOUS_AES_KEY)
_TEXTS: Final = (APPID, APPKEY, TICKET, BASE_URL, STORE, STORE_KEY)
PLATFORM: Final = "https://api.weixin.qq.com"


def base_url_of(env: Mapping[str, str]) -> str:
    """Return the platform's address that the environment names, or the real one's."""
    return env.get(BASE_URL, "").strip() or PLATFORM


@attrs.frozen
class TicketFile:
    """A file that something else keeps the newest ticket in; read anew for every token."""

    path: Path

    async def __call__(self) -> str:
        """Return the ticket; `TicketError` names the file where it cannot be read."""
        try:
            ticket = (await anyio.Path(self.path).read_text("utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = _reason(error)
        else:
            if ticket:
                return ticket
            reason = "it is empty"
        raise TicketError(f"{TICKET_FILE}: {self.path} cannot be used ({reason}); no token was asked for")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or type(error).__name__


@attrs.frozen
class SharedStore:
    """The token store that the backend uses, too; its documents are sealed with `key` if there is one."""

    url: Secret
    key: Secret | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TokenStore]:
        """Open the store, and close it at the end; `InvalidArgument` names the variable of what cannot be."""
        store = self._at_url()
        try:
            yield store if self.key is None else self._sealed(store, self.key)
        finally:
            await store.aclose()

    def _at_url(self) -> OwnedStore:
        from wxtcb.tokens.store_urls import open_store

        with blaming(STORE):
            store = open_store(self.url)
        if isinstance(store, SqliteStore) and not store.path.parent.is_dir():
            raise InvalidArgument(f"{STORE}: there is no directory {store.path.parent}")
        return store

    def _sealed(self, store: TokenStore, key: Secret) -> TokenStore:
        from wxtcb.tokens.encrypted import SealedStore

        with blaming(STORE_KEY):
            return SealedStore(store, key)


@contextmanager
def blaming(variable: str) -> Iterator[None]:
    """Put the name of the *variable* before what is wrong with its value."""
    try:
        yield
    except (InvalidArgument, ImportError) as error:
        raise InvalidArgument(f"{variable}: {error}") from None


@attrs.frozen(eq=False)
class NewestTicket:
    """Gives the ticket in the store, which is the newest there is; the `given` one while none there can be used."""

    kept: KeptTicketSource
    given: Secret | TicketFile

    async def __call__(self) -> Secret:
        try:
            ticket = await self.kept()
        except (TicketTooOld, TokenStoreError):
            if not self.given:
                raise
            ticket = None
        return ticket or await newest_of(self.given)


async def newest_of(given: Secret | TicketFile) -> Secret:
    """Return the ticket as it is now; `TicketError` if its file cannot be read."""
    return Secret(await given()) if isinstance(given, TicketFile) else given


@attrs.frozen
class Settings:
    """What the environment says about the platform; the repr shows no secret.

    `ticket` is an empty `Secret` where none is given; `store` is None where nothing is shared with other programs. The
    ticket in a store goes before one that is given.
    """

    component_appid: str
    component_appsecret: Secret
    ticket: Secret | TicketFile
    base_url: str = PLATFORM
    store: SharedStore | None = None

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
                ticket=self._source(store),
                base_url=self.base_url,
                token_store=store,
            )
            yield await stack.enter_async_context(session)

    def demand_own_token(self, what: str, *, given: bool) -> None:
        """Raise `InvalidArgument` unless *what* may fetch a token.

        It may on this machine, with a store that the backend shares, or with --own-token *given*.
        """
        if self.store is None and not self.on_loopback and not given:
            raise InvalidArgument(
                f"{what}: a new token of {self.base_url} may void the one your backend works with; nothing was sent. "
                f"Set {STORE} to the store that the backend uses, or add --own-token if no other program uses this "
                "platform"
            )

    def _source(self, store: TokenStore | None) -> TicketSource | Secret | None:
        """Return what gives a session the ticket; None leaves it to the store alone."""
        if store is None or self.store is None or not self.ticket:
            return self.ticket or None
        return self._newest(store)

    def _newest(self, store: TokenStore) -> NewestTicket:
        return NewestTicket(KeptTicketSource(SharedRecord(store, self.component_appid)), self.ticket)

    async def newest_ticket(self) -> Secret:
        """Return the ticket as it is now.

        Raises `TicketError` if there is none, or one too old, or its file cannot be read; `TokenStoreError` if only the
        store could have one.
        """
        if self.store is None:
            return await newest_of(self.ticket)
        async with self.store.open() as store:
            ticket = await self._newest(store)()
        if not ticket:
            raise TicketMissing
        return ticket


def read_settings(env: Mapping[str, str], *, needs_ticket: bool = True) -> Settings:
    """Read the credentials; one `InvalidArgument` names all that is missing or wrong."""
    given = {name: value.strip() for name in VARIABLES if (value := env.get(name, "")).strip()}
    if problems := _problems(given, needs_ticket=needs_ticket and STORE not in given):
        raise InvalidArgument("; ".join((*problems, "nothing was sent")))
    ticket = TicketFile(Path(given[TICKET_FILE])) if TICKET_FILE in given else Secret(given.get(TICKET, ""))
    return Settings(given[APPID], Secret(given[APPKEY]), ticket, base_url_of(env), read_store(given))


def read_store(env: Mapping[str, str]) -> SharedStore | None:
    """Return the token store that the environment names, if it names one."""
    url, key = env.get(STORE, "").strip(), env.get(STORE_KEY, "").strip()
    return SharedStore(Secret(url), Secret(key) if key else None) if url else None


def _problems(given: Mapping[str, str], *, needs_ticket: bool) -> list[str]:
    missing = [name for name in (APPID, APPKEY) if name not in given]
    if needs_ticket and not given.keys() & {TICKET, TICKET_FILE}:
        missing.append(f"{TICKET} or {TICKET_FILE} or {STORE}")
    problems = [f"not set in the environment: {', '.join(missing)}"] if missing else []
    if {TICKET, TICKET_FILE} <= given.keys():
        problems.append(f"{TICKET} and {TICKET_FILE} are both set: unset one")
    if TICKET_FILE in given and not Path(given[TICKET_FILE]).is_file():
        problems.append(f"{TICKET_FILE}: there is no file {given[TICKET_FILE]}")
    problems += [f"{name}: it is not UTF-8" for name in _TEXTS if not _is_utf8(given.get(name, ""))]
    if STORE_KEY in given and STORE not in given:
        problems.append(f"{STORE_KEY} is set, but not {STORE}")
    return problems + _url_problems(base_url_of(given))


def _is_utf8(value: str) -> bool:
    """Tell whether the environment's bytes were text; Python hands on others as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _url_problems(base_url: str) -> list[str]:
    try:
        check_base_url(base_url, allow_http=False)
    except InvalidArgument as error:
        return [f"{BASE_URL}: {error}"]
    return []
