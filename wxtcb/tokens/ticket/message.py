"""What a push says: its query and its body in, a verdict out. Pure: no clock, no loop, no network.

It needs the extra ``[ticket]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl

import attrs
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, XMLParser

from wxtcb.events import PushRefused, PushUnreadable
from wxtcb.secret import Secret
from wxtcb.tokens.ticket.crypto import Envelope, Refusal

LONGEST_QUERY: Final = 4 * 1024
MOST_PARAMETERS: Final = 20
MOST_ELEMENTS: Final = 200
LONGEST_NAME: Final = 64
DEEPEST: Final = 8
MOST_AHEAD: Final = 86_400.0
_CREATE_TIME: Final = re.compile(r"[0-9]{1,10}")
_TICKET: Final = "component_verify_ticket"


@attrs.frozen
class Ticket:
    """A component_verify_ticket that was pushed; `created` is its CreateTime in Unix seconds."""

    value: Secret
    created: int


@attrs.frozen
class Notice:
    """Anything else that WeChat pushes to the authorisation-event URL: "authorized", "unauthorized" and the like.

    `info_type` is its InfoType, "" if it has none, and `created` its CreateTime in Unix seconds, None if it has no
    usable one. `fields` are all its texts by the names of their elements: those of nested ones as ``info/name``, the
    second of the same name as ``name[2]``. Codes among them are credentials, so they are in no repr.
    """

    info_type: str
    component_appid: str
    created: int | None
    fields: Mapping[str, str] = attrs.field(repr=False, hash=False)


def read_push(
    envelope: Envelope, query: bytes, body: bytes, now: float
) -> Ticket | Notice | PushUnreadable | PushRefused:
    """Return what a push says, or why it is refused; nothing is decrypted before its signature is proven.

    *query* and *body* are as they came over the wire, *now* is Unix time. What comes from the platform, but does not
    say what it should, is unreadable: it is not refused, for that can stop the pushes.
    """
    try:
        encrypted = _signed(envelope, query, body)
        message = envelope.open(encrypted)
    except Refusal as refusal:
        return PushRefused(refusal.reason, refusal.status)
    try:
        return _told(envelope.component_appid, _fields(message), now)
    except Refusal as refusal:
        return PushUnreadable(refusal.reason)


def _signed(envelope: Envelope, query: bytes, body: bytes) -> bytes:
    """Return the encrypted message of a push that is signed for this platform."""
    parameters = _parameters(query)
    signature, timestamp, nonce = (_parameter(parameters, name) for name in ("msg_signature", "timestamp", "nonce"))
    encrypted = _one(_fields(body), "Encrypt").encode()
    if not envelope.is_signed(signature, timestamp, nonce, encrypted):
        raise Refusal("the signature does not match", 403)
    return encrypted


def _told(component_appid: str, fields: dict[str, str], now: float) -> Ticket | Notice | PushRefused:
    if fields.get("AppId", component_appid).strip() != component_appid:
        return PushRefused("the message is about another platform", 403)
    info_type = fields.get("InfoType", "").strip()
    if info_type == _TICKET:
        return _ticket(fields, now)
    created = _seconds(fields.get("CreateTime", ""))
    return Notice(info_type, component_appid, created, MappingProxyType(fields))


def _ticket(fields: dict[str, str], now: float) -> Ticket:
    """Read a ticket; one of a time that is far ahead would be the newest for as long."""
    created = _seconds(_one(fields, "CreateTime"))
    if created is None:
        raise Refusal("CreateTime is no time in whole seconds")
    if created > now + MOST_AHEAD:
        raise Refusal("CreateTime is more than a day ahead of this machine's clock")
    value = Secret(_one(fields, "ComponentVerifyTicket").strip())
    if not value:
        raise Refusal("ComponentVerifyTicket is empty")
    return Ticket(value, created)


def _seconds(text: str) -> int | None:
    """Read Unix seconds; milliseconds, which would be the newest for ever, are none."""
    return int(text) if _CREATE_TIME.fullmatch(text := text.strip()) else None


def _one(fields: dict[str, str], name: str) -> str:
    if name not in fields or f"{name}[2]" in fields:
        raise Refusal(f"there must be one {name}")
    return fields[name]


def _parameters(query: bytes) -> list[tuple[str, str]]:
    """Take a query apart; Latin-1 stands for the bytes, which need not be text."""
    if len(query) > LONGEST_QUERY:
        raise Refusal("the query is too long")
    try:
        return parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        raise Refusal("the query has too many parameters") from None


def _parameter(parameters: list[tuple[str, str]], name: str) -> bytes:
    values = [value for key, value in parameters if key == name]
    if len(values) != 1:
        raise Refusal(f"there must be one {name} in the query")
    return values[0].encode("latin-1")


def _fields(document: bytes) -> dict[str, str]:
    """Return the texts of an XML document by their paths below its root."""
    fields = _Fields()
    parser = XMLParser(target=fields, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(document.decode())  # as text, so that no declaration can ask for another encoding
        parser.close()
    except UnicodeDecodeError:
        raise Refusal("the XML is not UTF-8") from None
    except (ParseError, DefusedXmlException):
        raise Refusal("the XML is malformed, or declares what it must not") from None
    return fields.found


@attrs.define(eq=False)
class _Fields:
    """Gathers the texts of a document while it is parsed, and stops one that is too deep or too wide."""

    found: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    _seen: dict[str, int] = attrs.field(init=False, factory=dict[str, int])
    _path: list[str] = attrs.field(init=False, factory=list[str])
    _texts: list[str] = attrs.field(init=False, factory=list[str])
    _elements: int = attrs.field(init=False, default=0)
    _is_leaf: bool = attrs.field(init=False, default=False)

    def start(self, name: str, _: object) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS or len(self._path) == DEEPEST or len(name) > LONGEST_NAME:
            raise Refusal("the XML is too large")
        self._path.append(name)
        self._texts.clear()
        self._is_leaf = True

    def data(self, text: str) -> None:
        self._texts.append(text)

    def end(self, _: str) -> None:
        if self._is_leaf and len(self._path) > 1:
            self._add("/".join(self._path[1:]), "".join(self._texts))
        self._path.pop()
        self._is_leaf = False

    def _add(self, path: str, text: str) -> None:
        count = self._seen[path] = self._seen.get(path, 0) + 1
        self.found[path if count == 1 else f"{path}[{count}]"] = text
