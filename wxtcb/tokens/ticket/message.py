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

from wxtcb.events import PushMalformed, PushRefused
from wxtcb.secret import Secret
from wxtcb.tokens.ticket.crypto import InvalidPush, MessageCrypto

MAX_QUERY_LENGTH: Final = 4 * 1024
MAX_PARAMETERS: Final = 20
MAX_ELEMENTS: Final = 200
MAX_NAME_LENGTH: Final = 64
MAX_DEPTH: Final = 8
MAX_SECONDS_AHEAD: Final = 86_400.0
_CREATE_TIME_PATTERN: Final = re.compile(r"[0-9]{1,10}")
_TICKET_INFO_TYPE: Final = "component_verify_ticket"


@attrs.frozen
class PushedTicket:
    """A component_verify_ticket that was pushed; `create_time` is its CreateTime in Unix seconds."""

    value: Secret
    create_time: int


@attrs.frozen
class Notification:
    """Anything else that WeChat pushes to the authorisation-event URL: "authorized", "unauthorized" and the like.

    `info_type` is its InfoType, "" if it has none, and `create_time` its CreateTime in Unix seconds, None if it has no
    usable one. `fields` are all its texts by the names of their elements: those of nested ones as ``info/name``, the
    second of the same name as ``name[2]``. Codes among them are credentials, so they are in no repr.
    """

    info_type: str
    component_appid: str
    create_time: int | None
    fields: Mapping[str, str] = attrs.field(repr=False, hash=False)


def parse_push(
    crypto: MessageCrypto, query: bytes, body: bytes, now: float
) -> PushedTicket | Notification | PushMalformed | PushRefused:
    """Return what a push says, or why it is refused; nothing is decrypted before its signature is proven.

    *query* and *body* are as they came over the wire, *now* is Unix time. What comes from the platform, but does not
    say what it should, is unreadable: it is not refused, for that can stop the pushes.
    """
    try:
        encrypted = _verified_ciphertext(crypto, query, body)
        message = crypto.decrypt(encrypted)
    except InvalidPush as refusal:
        return PushRefused(refusal.reason, refusal.status)
    try:
        return _parse_message(crypto.component_appid, _parse_xml(message), now)
    except InvalidPush as refusal:
        return PushMalformed(refusal.reason)


def _verified_ciphertext(crypto: MessageCrypto, query: bytes, body: bytes) -> bytes:
    """Return the encrypted message of a push that is signed for this platform."""
    parameters = _parse_query(query)
    signature, timestamp, nonce = (
        _get_single_parameter(parameters, name) for name in ("msg_signature", "timestamp", "nonce")
    )
    encrypted = _get_single_field(_parse_xml(body), "Encrypt").encode()
    if not crypto.is_valid_signature(signature, timestamp, nonce, encrypted):
        raise InvalidPush("the signature does not match", 403)
    return encrypted


def _parse_message(
    component_appid: str, fields: dict[str, str], now: float
) -> PushedTicket | Notification | PushRefused:
    if fields.get("AppId", component_appid).strip() != component_appid:
        return PushRefused("the message is about another platform", 403)
    info_type = fields.get("InfoType", "").strip()
    if info_type == _TICKET_INFO_TYPE:
        return _parse_ticket(fields, now)
    created = _parse_unix_seconds(fields.get("CreateTime", ""))
    return Notification(info_type, component_appid, created, MappingProxyType(fields))


def _parse_ticket(fields: dict[str, str], now: float) -> PushedTicket:
    """Read a ticket; one of a time that is far ahead would be the newest for as long."""
    created = _parse_unix_seconds(_get_single_field(fields, "CreateTime"))
    if created is None:
        raise InvalidPush("CreateTime is no time in whole seconds")
    if created > now + MAX_SECONDS_AHEAD:
        raise InvalidPush("CreateTime is more than a day ahead of this machine's clock")
    value = Secret(_get_single_field(fields, "ComponentVerifyTicket").strip())
    if not value:
        raise InvalidPush("ComponentVerifyTicket is empty")
    return PushedTicket(value, created)


def _parse_unix_seconds(text: str) -> int | None:
    """Read Unix seconds; milliseconds, which would be the newest for ever, are none."""
    return int(text) if _CREATE_TIME_PATTERN.fullmatch(text := text.strip()) else None


def _get_single_field(fields: dict[str, str], name: str) -> str:
    if name not in fields or f"{name}[2]" in fields:
        raise InvalidPush(f"there must be one {name}")
    return fields[name]


def _parse_query(query: bytes) -> list[tuple[str, str]]:
    """Take a query apart; Latin-1 stands for the bytes, which need not be text."""
    if len(query) > MAX_QUERY_LENGTH:
        raise InvalidPush("the query is too long")
    try:
        return parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidPush("the query has too many parameters") from None


def _get_single_parameter(parameters: list[tuple[str, str]], name: str) -> bytes:
    values = [value for key, value in parameters if key == name]
    if len(values) != 1:
        raise InvalidPush(f"there must be one {name} in the query")
    return values[0].encode("latin-1")


def _parse_xml(document: bytes) -> dict[str, str]:
    """Return the texts of an XML document by their paths below its root."""
    fields = _XmlFieldCollector()
    parser = XMLParser(target=fields, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(document.decode())  # as text, so that no declaration can ask for another encoding
        parser.close()
    except UnicodeDecodeError:
        raise InvalidPush("the XML is not UTF-8") from None
    except (ParseError, DefusedXmlException):
        raise InvalidPush("the XML is malformed, or declares what it must not") from None
    return fields.fields


@attrs.define(eq=False)
class _XmlFieldCollector:
    """Gathers the texts of a document while it is parsed, and stops one that is too deep or too wide."""

    fields: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    _occurrences: dict[str, int] = attrs.field(init=False, factory=dict[str, int])
    _path: list[str] = attrs.field(init=False, factory=list[str])
    _text_parts: list[str] = attrs.field(init=False, factory=list[str])
    _element_count: int = attrs.field(init=False, default=0)
    _is_leaf: bool = attrs.field(init=False, default=False)

    def start(self, name: str, _: object) -> None:
        self._element_count += 1
        if self._element_count > MAX_ELEMENTS or len(self._path) == MAX_DEPTH or len(name) > MAX_NAME_LENGTH:
            raise InvalidPush("the XML is too large")
        self._path.append(name)
        self._text_parts.clear()
        self._is_leaf = True

    def data(self, text: str) -> None:
        self._text_parts.append(text)

    def end(self, _: str) -> None:
        if self._is_leaf and len(self._path) > 1:
            self._add_field("/".join(self._path[1:]), "".join(self._text_parts))
        self._path.pop()
        self._is_leaf = False

    def _add_field(self, path: str, text: str) -> None:
        count = self._occurrences[path] = self._occurrences.get(path, 0) + 1
        self.fields[path if count == 1 else f"{path}[{count}]"] = text
