"""Credentials, from the environment and from nowhere else: arguments can be read by every program of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.arguments import check_base_url, is_loopback
from wxtcb.errors import InvalidArgument, TicketError
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens import TokenStore

APPID: Final = "WXTCB_COMPONENT_APPID"
APPKEY: Final = "WXTCB_COMPONENT_APPSECRET"
TICKET: Final = "WXTCB_TICKET"
TICKET_FILE: Final = "WXTCB_TICKET_FILE"
STORE: Final = "WXTCB_TOKEN_STORE"
BASE_URL: Final = "WXTCB_BASE_URL"
VARIABLES: Final = (APPID, APPKEY, TICKET, TICKET_FILE, BASE_URL)
_TEXTS: Final = (APPID, APPKEY, TICKET, BASE_URL)
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
class Settings:
    """What the environment says about the platform; the repr shows no secret.

    `ticket` is an empty `Secret` where none is given, and none needed.
    """

    component_appid: str
    component_appsecret: Secret
    ticket: Secret | TicketFile
    base_url: str = PLATFORM

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.base_url)

    def session(self, token_store: TokenStore | None = None) -> Session:
        """Return a session that is yet to be entered."""
        return Session(
            component_appid=self.component_appid,
            component_appsecret=self.component_appsecret,
            ticket=self.ticket or None,
            base_url=self.base_url,
            token_store=token_store,
        )

    def demand_own_token(self, what: str, *, given: bool) -> None:
        """Raise `InvalidArgument` unless *what* may fetch a token: on this machine, or with --own-token *given*."""
        if not self.on_loopback and not given:
            raise InvalidArgument(
                f"{what}: a new token of {self.base_url} may void the one your backend works with; nothing was sent. "
                "Add --own-token if no other program uses this platform"
            )

    async def newest_ticket(self) -> Secret:
        """Return the ticket as it is now; `TicketError` if its file cannot be read."""
        return Secret(await self.ticket()) if isinstance(self.ticket, TicketFile) else self.ticket


def read_settings(env: Mapping[str, str], *, needs_ticket: bool = True) -> Settings:
    """Read the credentials; one `InvalidArgument` names all that is missing or wrong."""
    given = {name: value.strip() for name in (*VARIABLES, STORE) if (value := env.get(name, "")).strip()}
    if problems := _problems(given, needs_ticket=needs_ticket):
        raise InvalidArgument("; ".join((*problems, "nothing was sent")))
    ticket = TicketFile(Path(given[TICKET_FILE])) if TICKET_FILE in given else Secret(given.get(TICKET, ""))
    return Settings(given[APPID], Secret(given[APPKEY]), ticket, base_url_of(env))


def _problems(given: Mapping[str, str], *, needs_ticket: bool) -> list[str]:
    missing = [name for name in (APPID, APPKEY) if name not in given]
    if needs_ticket and not given.keys() & {TICKET, TICKET_FILE}:
        missing.append(f"{TICKET} or {TICKET_FILE}")
    problems = [f"not set in the environment: {', '.join(missing)}"] if missing else []
    if {TICKET, TICKET_FILE} <= given.keys():
        problems.append(f"{TICKET} and {TICKET_FILE} are both set: unset one")
    if TICKET_FILE in given and not Path(given[TICKET_FILE]).is_file():
        problems.append(f"{TICKET_FILE}: there is no file {given[TICKET_FILE]}")
    problems += [f"{name}: it is not UTF-8" for name in _TEXTS if not _is_utf8(given.get(name, ""))]
    if STORE in given:
        problems.append(f"{STORE}: this version has no shared token store: unset it")
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
