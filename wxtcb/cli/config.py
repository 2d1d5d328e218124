"""Configuration from environment variables: credentials, ticket, token store and base URL.

Nothing secret is accepted as a command line argument, because every program of the machine can read arguments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb._protocol.endpoint import Credential, Endpoint, Reply
from wxtcb.errors import InvalidArgument, TicketError, TicketExpired, TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens import SqliteStore, TokenStore
from wxtcb.tokens.providers import StoredTicketSource, TicketSource
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import store_name
from wxtcb.validation import check_base_url, is_loopback, is_valid_unicode

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
PLAIN_PUSH_KEY_VAR: Final = "WXTCB_PLAIN_PUSH_KEY"
SESSION_VARS: Final = (
    APPID_VAR,
    APPSECRET_VAR,
    TICKET_VAR,
    TICKET_FILE_VAR,
    BASE_URL_VAR,
    STORE_URL_VAR,
    STORE_KEY_VAR,
)
RECEIVER_VARS: Final = (MSGTOKEN_VAR, AES_KEY_VAR, PREVIOUS_AES_KEY_VAR, PLAIN_PUSH_KEY_VAR)
DEFAULT_BASE_URL: Final = "https://api.weixin.qq.com"

_TICKET_FIELD: Final = "component_verify_ticket"
# The three calls without a token carry credentials in their bodies; the platform names the app secret differently.
_CREDENTIAL_FIELDS: Final = {
    "api_component_token": ("component_appid", "component_appsecret", _TICKET_FIELD),
    "api_start_push_ticket": ("component_appid", "component_secret"),
    "clear_component_quota_by_app_secret": ("component_appid", "appsecret"),
}


@contextmanager
def naming_variable(variable: str) -> Iterator[None]:
    """Raise an `InvalidArgument` or `ImportError` as `InvalidArgument` that names the variable which caused it."""
    try:
        yield
    except (InvalidArgument, ImportError) as error:
        raise InvalidArgument(f"{variable}: {error}") from error


@attrs.frozen
class StoreConfig:
    """Token store that is shared with the backend: its URL, and the key of an encrypted one."""

    url: Secret
    key: Secret | None = None

    @property
    def masked_url(self) -> str:
        """The URL without user and password, with the absolute path of a file."""
        from wxtcb.tokens.store_urls import open_store

        with naming_variable(STORE_URL_VAR):
            return store_name(open_store(self.url))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TokenStore]:
        """Open the store; raise `InvalidArgument`, which names the environment variable, if URL or key is invalid."""
        from wxtcb.tokens.encrypted import EncryptedStore
        from wxtcb.tokens.store_urls import open_store

        with naming_variable(STORE_URL_VAR):
            store = open_store(self.url)
        # SQLite itself would say "unable to open database file", without the reason.
        if isinstance(store, SqliteStore) and not store.path.parent.is_dir():
            raise InvalidArgument(f"{STORE_URL_VAR}: directory {store.path.parent} does not exist: create it")
        try:
            if self.key is None:
                yield store
            else:
                with naming_variable(STORE_KEY_VAR):
                    encrypted = EncryptedStore(store, self.key)
                yield encrypted
        finally:
            await store.aclose()


def read_store_config(env: Mapping[str, str]) -> StoreConfig | None:
    """Return the token store that the environment variables *env* configure, or None."""
    url, key = env.get(STORE_URL_VAR, "").strip(), env.get(STORE_KEY_VAR, "").strip()
    return StoreConfig(Secret(url), Secret(key) if key else None) if url else None


@attrs.frozen
class TicketFile:
    """Ticket source that reads a file, which another program updates, for each token."""

    path: Path

    async def __call__(self) -> Secret:
        """Return the ticket; raise `TicketError` if the file is unreadable, empty or not UTF-8."""
        try:
            # A Secret in the thread already: in debug mode asyncio logs the repr of the thread's result.
            ticket = await run_in_thread(lambda: Secret(self.path.read_text("utf-8").strip()))
        except UnicodeDecodeError:
            # Not raised from the decoding error: it contains the bytes of the file, which may be a ticket.
            ticket, reason = Secret(""), "the file is not UTF-8"
        except OSError as error:
            raise self._error(error.strerror or type(error).__name__) from error
        else:
            reason = "the file is empty"
        if not ticket:
            raise self._error(reason)
        return ticket

    def _error(self, reason: str) -> TicketError:
        return TicketError(
            f"{TICKET_FILE_VAR}: cannot read a ticket from {self.path} ({reason}); no token was requested"
        )


async def read_ticket(source: Secret | TicketFile) -> Secret:
    """Return the current ticket of *source*; raise `TicketError` if its file cannot be read."""
    return await source() if isinstance(source, TicketFile) else source


@attrs.frozen(eq=False)
class StoreFirstTicketSource:
    """Ticket source that prefers the token store; `fallback` is used if that has no valid ticket or is unavailable."""

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


@attrs.frozen
class Settings:
    """Platform, credentials and token store; the repr shows no secret.

    `ticket` is an empty `Secret` if none is set. `store` is None if no token store is shared with other programs.
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
    async def session(
        self, token_store: TokenStore | None = None, *, store_required: bool = True
    ) -> AsyncIterator[Session]:
        """Open a session on the shared token store, or on *token_store* if none is shared."""
        async with AsyncExitStack() as stack:
            store = token_store if self.store is None else await stack.enter_async_context(self.store.open())
            ticket: TicketSource | Secret | None = self.ticket or None
            # Without a ticket of its own, a session reads the one in its store.
            if ticket is not None and self.store is not None and store is not None:
                ticket = self._store_first_source(store)
            appid, secret = self.component_appid, self.component_appsecret
            session = Session(
                component_appid=appid,
                component_appsecret=secret,
                ticket=ticket,
                base_url=self.base_url,
                token_store=store,
                store_required=store_required,
            )
            yield await stack.enter_async_context(session)

    def require_fetch_permission(self, label: str, *, own_token: bool) -> None:
        """Raise `InvalidArgument` unless on loopback, with a shared token store, or with the option --own-token."""
        if self.store is None and not self.on_loopback and not own_token:
            raise InvalidArgument(
                f"{label}: fetching a token from {self.base_url} may invalidate the one that your backend uses; no "
                f"request was sent. Set {STORE_URL_VAR} to the token store of your backend, or add --own-token if no "
                "other program uses this platform"
            )

    async def newest_ticket(self) -> Secret:
        """Return the current ticket; raise `TicketError` or `TokenStoreError` if none can be read."""
        if self.store is None:
            return await read_ticket(self.ticket)
        async with self.store.open() as store:
            ticket = await self._store_first_source(store)()
        if not ticket:
            raise TicketMissing
        return ticket

    def _store_first_source(self, store: TokenStore) -> StoreFirstTicketSource:
        return StoreFirstTicketSource(StoredTicketSource(StateRepository(store, self.component_appid)), self.ticket)


def read_settings(env: Mapping[str, str], *, needs_ticket: bool = True) -> Settings:
    """Read the settings from the environment variables *env*.

    With *needs_ticket*, a ticket or a token store must be set. Raises one `InvalidArgument` for all errors.
    """
    values = {name: value.strip() for name in SESSION_VARS if (value := env.get(name, "")).strip()}
    if errors := _find_errors(values, needs_ticket=needs_ticket and STORE_URL_VAR not in values):
        raise InvalidArgument("; ".join((*errors, "no request was sent")))
    return Settings(
        values[APPID_VAR],
        Secret(values[APPSECRET_VAR]),
        TicketFile(Path(values[TICKET_FILE_VAR])) if TICKET_FILE_VAR in values else Secret(values.get(TICKET_VAR, "")),
        values.get(BASE_URL_VAR, DEFAULT_BASE_URL),
        read_store_config(values),
    )


def _find_errors(values: Mapping[str, str], *, needs_ticket: bool) -> list[str]:
    missing = [name for name in (APPID_VAR, APPSECRET_VAR) if name not in values]
    if needs_ticket and not values.keys() & {TICKET_VAR, TICKET_FILE_VAR}:
        missing.append(f"{TICKET_VAR} or {TICKET_FILE_VAR} or {STORE_URL_VAR}")
    errors = [f"not set in the environment: {', '.join(missing)}"] if missing else []
    if {TICKET_VAR, TICKET_FILE_VAR} <= values.keys():
        errors.append(f"{TICKET_VAR} and {TICKET_FILE_VAR} are both set: unset one")
    if TICKET_FILE_VAR in values and not Path(values[TICKET_FILE_VAR]).is_file():
        errors.append(f"{TICKET_FILE_VAR}: file {values[TICKET_FILE_VAR]} does not exist")
    # Python decodes bytes of the environment that are not UTF-8 to surrogates, which no request can carry.
    # A path need not be UTF-8.
    names = [name for name, value in values.items() if name != TICKET_FILE_VAR and not is_valid_unicode(value)]
    errors += [f"{name}: the value is not UTF-8" for name in names]
    if STORE_KEY_VAR in values and STORE_URL_VAR not in values:
        errors.append(f"{STORE_KEY_VAR} is set, but {STORE_URL_VAR} is not: set both or none")
    try:
        check_base_url(values.get(BASE_URL_VAR, DEFAULT_BASE_URL), allow_http=False)
    except InvalidArgument as error:
        errors.append(f"{BASE_URL_VAR}: {error}")
    return errors


def credential_fields(endpoint: Endpoint[Reply]) -> tuple[str, ...]:
    """Return the body fields of a call that are filled in from the environment."""
    return _CREDENTIAL_FIELDS[endpoint.name] if endpoint.credential is Credential.NONE else ()


def needs_ticket(endpoint: Endpoint[Reply]) -> bool:
    """Return whether a call may use a ticket: in its body, or to fetch the token that it carries."""
    return endpoint.credential is Credential.COMPONENT or _TICKET_FIELD in credential_fields(endpoint)


async def with_credentials(
    endpoint: Endpoint[Reply], settings: Settings, body: Mapping[str, object]
) -> Mapping[str, object]:
    """Return *body* with the credential fields that it lacks."""
    filled: dict[str, object] = dict.fromkeys(credential_fields(endpoint), settings.component_appsecret)
    if "component_appid" in filled:
        filled["component_appid"] = settings.component_appid
    if _TICKET_FIELD in filled and _TICKET_FIELD not in body:
        filled[_TICKET_FIELD] = await settings.newest_ticket()
    return {**filled, **body}
