"""Push messages: verifies, decrypts and parses query and body of a push. Pure: no clock, no event loop, no network.

It needs the extra ``[ticket]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import parse_qsl

import attrs
import orjson
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, XMLParser

from wxtcb._protocol.limits import LIMITS
from wxtcb.events import WRONG_SIGNATURE, PushMalformed, PushRefused, PushUndecryptable
from wxtcb.secret import Secret
from wxtcb.tokens.ticket.crypto import InvalidPush, MessageCrypto
from wxtcb.tokens.token_state import TICKET_TTL

# Real pushes stay far below these limits. They bound the work that an unauthenticated request can cause.
MAX_QUERY_LENGTH: Final = LIMITS.push_query_length
MAX_PARAMETERS: Final = LIMITS.push_parameters
MAX_ELEMENTS: Final = LIMITS.push_elements
MAX_NAME_LENGTH: Final = LIMITS.push_name_length
MAX_DEPTH: Final = 8
# A ticket from further in the future would stay the newest until then, and block all real ones.
MAX_SECONDS_AHEAD: Final = 300.0
# 10 digits: milliseconds have 13, and would stay the newest ticket indefinitely.
_CREATE_TIME_PATTERN: Final = re.compile(r"[0-9]{1,10}")


@attrs.frozen
class PushedTicket:
    """A pushed component_verify_ticket (验证票据); `create_time` is its CreateTime in Unix seconds."""

    value: Secret
    create_time: int


@attrs.frozen
class Notification:
    """Any other push to the authorisation event URL (授权事件接收URL), such as "authorized" or "unauthorized".

    `info_type` is its InfoType, "" if it has none. `create_time` is its CreateTime in Unix seconds, None if it has no
    valid one. `fields` maps element names to strings: nested elements as ``info/name``, the second element of a name as
    ``name[2]``. Some fields are authorisation codes, that is credentials, so no repr shows them.
    """

    info_type: str
    component_appid: str
    create_time: int | None
    fields: Mapping[str, str] = attrs.field(repr=False, hash=False)


def parse_push(
    crypto: MessageCrypto, query: bytes, body: bytes, now: float, replay_window: float
) -> PushedTicket | Notification | PushMalformed | PushUndecryptable | PushRefused:
    """Return the content of a push, or why it has none. Nothing is decrypted before its signature is verified.

    *query* and *body* are the raw bytes of the request, *now* is in Unix seconds. A push is refused if its signature is
    invalid, or its timestamp more than *replay_window* seconds from *now*. Every other fault of a signed push
    is a `PushUndecryptable` or a `PushMalformed`, which are answered alike.
    """
    try:
        encrypted = _verified_ciphertext(crypto, query, body, now, replay_window)
    except InvalidPush as error:
        return PushRefused(error.reason, error.status)
    if (message := crypto.decrypt(encrypted)) is None:
        return PushUndecryptable()
    try:
        return _parse_message(crypto.component_appid, _parse_xml(message), now)
    except InvalidPush as error:
        return PushMalformed(error.reason)


def parse_plain_push(appid: str, body: bytes, now: float) -> PushedTicket | Notification | PushMalformed:
    """Return the content of a push in JSON, without signature and encryption, or why it cannot be read."""
    fields = _FieldCollector()
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        return PushMalformed("the body is not a JSON object")
    try:
        fields.add_json("", cast("object", document))
        return _parse_message(appid, fields.fields, now)
    except InvalidPush as error:
        return PushMalformed(error.reason)


def _verified_ciphertext(crypto: MessageCrypto, query: bytes, body: bytes, now: float, replay_window: float) -> bytes:
    """Return the encrypted message of a push if its signature is valid, and not too old."""
    parameters = _parse_query(query)
    names = ("msg_signature", "timestamp", "nonce")
    signature, timestamp, nonce = (_get_single_parameter(parameters, name) for name in names)
    encrypted = _get_single_field(_parse_xml(body), "Encrypt").encode()
    if not crypto.is_valid_signature(signature, timestamp, nonce, encrypted):
        raise InvalidPush(WRONG_SIGNATURE, 403)
    signed_at = _parse_unix_seconds(timestamp.decode("latin-1"))
    if signed_at is None or abs(now - signed_at) > replay_window:
        raise InvalidPush(f"the signature is more than {replay_window:g} s from this machine's clock", 403)
    return encrypted


def _parse_message(appid: str, fields: dict[str, str], now: float) -> PushedTicket | Notification:
    if fields.get("AppId", appid).strip() != appid:
        # The inner AppId can differ from the recipient's only if the sender is not WeChat.
        raise InvalidPush("the message is about another platform")
    info_type = fields.get("InfoType", "").strip()
    is_ticket = info_type == "component_verify_ticket"
    created = _parse_unix_seconds(
        _get_single_field(fields, "CreateTime") if is_ticket else fields.get("CreateTime", "")
    )
    if created is not None and created < now - TICKET_TTL:
        raise InvalidPush("CreateTime is more than 12 hours ago")
    if not is_ticket:
        return Notification(info_type, appid, created, MappingProxyType(fields))
    if created is None:
        raise InvalidPush("CreateTime is not a time in whole seconds")
    if created > now + MAX_SECONDS_AHEAD:
        raise InvalidPush(f"CreateTime is more than {MAX_SECONDS_AHEAD:g} s ahead of this machine's clock")
    value = Secret(_get_single_field(fields, "ComponentVerifyTicket").strip())
    if not value:
        raise InvalidPush("ComponentVerifyTicket is empty")
    return PushedTicket(value, created)


def _parse_unix_seconds(text: str) -> int | None:
    return int(text) if _CREATE_TIME_PATTERN.fullmatch(text := text.strip()) else None


def _get_single_field(fields: dict[str, str], name: str) -> str:
    if name not in fields or f"{name}[2]" in fields:
        raise InvalidPush(f"there must be exactly one {name}")
    return fields[name]


def _parse_query(query: bytes) -> list[tuple[str, str]]:
    if len(query) > MAX_QUERY_LENGTH:
        raise InvalidPush("the query is too long")
    # Latin-1 maps each byte to one character, so that bytes which are not UTF-8 survive; they are signed as bytes.
    try:
        return parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise InvalidPush("the query has too many parameters") from error


def _get_single_parameter(parameters: list[tuple[str, str]], name: str) -> bytes:
    values = [value for key, value in parameters if key == name]
    if len(values) != 1:
        raise InvalidPush(f"there must be exactly one {name} in the query")
    return values[0].encode("latin-1")


def _parse_xml(document: bytes) -> dict[str, str]:
    """Return the strings of an XML document by their paths below its root."""
    fields = _FieldCollector()
    parser = XMLParser(target=fields, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        # Decoded here, so that no XML declaration can select another encoding.
        parser.feed(document.decode())
        parser.close()
    except UnicodeDecodeError:
        # Without a cause: the exception holds the whole document, with the ticket.
        raise InvalidPush("the XML is not UTF-8") from None
    except (ParseError, DefusedXmlException) as error:
        raise InvalidPush("the XML is malformed, or contains a forbidden declaration") from error
    return fields.fields


@attrs.define(eq=False)
class _FieldCollector:
    """Target of the XML parser: collects strings by path, and stops at a document that is too deep or too large.

    `add_json` collects them from JSON, under the same names and with the same limits.
    """

    fields: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    _occurrences: dict[str, int] = attrs.field(init=False, factory=dict[str, int])
    _path: list[str] = attrs.field(init=False, factory=list[str])
    _text_parts: list[str] = attrs.field(init=False, factory=list[str])
    _element_count: int = attrs.field(init=False, default=0)
    _is_leaf: bool = attrs.field(init=False, default=False)

    def start(self, name: str, _: object) -> None:
        self._element_count += 1
        if self._element_count > MAX_ELEMENTS or len(self._path) == MAX_DEPTH or len(name) > MAX_NAME_LENGTH:
            raise InvalidPush("the document is too large")
        self._path.append(name)
        self._text_parts.clear()
        self._is_leaf = True

    def data(self, text: str) -> None:
        self._text_parts.append(text)

    def end(self, _: str) -> None:
        if self._is_leaf and len(self._path) > 1:
            path = "/".join(self._path[1:])
            count = self._occurrences[path] = self._occurrences.get(path, 0) + 1
            self.fields[path if count == 1 else f"{path}[{count}]"] = "".join(self._text_parts)
        self._path.pop()
        self._is_leaf = False

    def add_json(self, name: str, value: object) -> None:
        """Collect from the JSON *value* of *name*, of which a list is the same as several elements in XML."""
        for entry in cast("list[object]", value) if isinstance(value, list) else [value]:
            self.start(name, None)
            if isinstance(entry, list):
                raise InvalidPush("the JSON has a list in a list")
            if isinstance(entry, dict):
                for key, member in cast("dict[str, object]", entry).items():
                    self.add_json(key, member)
            else:
                self.data("" if entry is None else str(entry))
            self.end(name)
